from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.qa.small import SIZES

from hmn.qa.config import ModelConfig
from hmn.qa.encoders.question import Phrasing
from hmn.qa.encoders.tables import NameTable, WordTable
from hmn.qa.hops.encoder import HopEncoder
from hmn.qa.text import Texts, WordBags

TEXTS = ["who directed the films of ada", "where", "in which town does the friend of person 3 live"]


@pytest.fixture
def encoder() -> HopEncoder:
    torch.manual_seed(0)
    config = ModelConfig(hops=3, **SIZES)
    table = NameTable(config.table_bits, config.name_features)
    return HopEncoder(config, table, WordTable(config), Phrasing(config)).eval()


def bags(texts: list[str]) -> WordBags:
    return Texts(texts, SIZES["table_bits"]).word_bags(np.arange(len(texts)))


def test_first_query_is_name_and_first_relation_block(encoder: HopEncoder) -> None:
    queries = encoder.hops(bags(TEXTS), 3)
    assert queries.first.shape == (3, SIZES["name_features"] + SIZES["relation_features"])
    assert torch.equal(queries.first[:, SIZES["name_features"] :], queries.relation[:, 0])
    assert torch.allclose(queries.first[:, : SIZES["name_features"]].norm(dim=1), queries.name_scale)
    assert torch.equal(encoder(bags(TEXTS)), queries.first)


def test_hops_share_their_weights(encoder: HopEncoder) -> None:
    """A model can be asked for more hops than it was trained with: the first ones stay as they are."""
    few, many = (encoder.hops(bags(TEXTS), hops) for hops in (2, 5))
    assert torch.equal(few.relation, many.relation[:, :2])
    assert torch.equal(few.back, many.back[:, :2])
    assert torch.equal(few.stops[:, 0], many.stops[:, 0])
    assert not torch.allclose(many.relation[:, 0], many.relation[:, 1])


def test_a_question_stops_at_some_hop(encoder: HopEncoder) -> None:
    for hops in (1, 2, 6):
        stops = encoder.hops(bags(TEXTS), hops).stops
        assert stops.shape == (3, hops)
        assert (stops >= 0).all()
        torch.testing.assert_close(stops.sum(dim=1), torch.ones(3))


def test_questions_are_read_as_if_alone(encoder: HopEncoder) -> None:
    together = encoder.hops(bags(TEXTS), 3)
    for row, text in enumerate(TEXTS):
        alone = encoder.hops(bags([text]), 3)
        for one, other in zip(alone[:4], together[:4], strict=True):
            torch.testing.assert_close(one[0], other[row], rtol=1e-4, atol=1e-5)
