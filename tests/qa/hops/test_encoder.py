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
from hmn.qa.words.splitting import AUTO, splitting

TEXTS = ["who directed the films of ada", "where", "in which town does the friend of person 3 live"]


@pytest.fixture(params=["reading", "words"])
def encoder(request: pytest.FixtureRequest) -> HopEncoder:
    return made(request.param)


def made(stop_by: str) -> HopEncoder:
    torch.manual_seed(0)
    config = ModelConfig(hops=3, stop_by=stop_by, **SIZES)
    table = NameTable(config.table_bits, config.name_features, splitting(AUTO).kinds)
    return HopEncoder(config, table, WordTable(config), Phrasing(config)).eval()


def bags(texts: list[str]) -> WordBags:
    return Texts(texts, SIZES["table_bits"], splitting(AUTO)).word_bags(np.arange(len(texts)))


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
    read = torch.randn(3, SIZES["relation_features"])
    assert torch.equal(encoder.stop(few, 0, read), encoder.stop(many, 0, read))
    assert not torch.allclose(many.relation[:, 0], many.relation[:, 1])


@pytest.mark.parametrize("stop_by", ["reading", "words"])
def test_only_where_the_reading_decides_it_changes_whether_to_stop(stop_by: str) -> None:
    encoder = made(stop_by)
    asked = encoder.hops(bags(TEXTS), 3)
    one, other = torch.randn(2, 3, SIZES["relation_features"]).unbind()
    changed = ~torch.isclose(encoder.stop(asked, 0, one), encoder.stop(asked, 0, other))
    assert bool(changed.all() if stop_by == "reading" else not changed.any())
    elsewhere = asked._replace(relation=asked.relation.index_fill(1, torch.tensor([0, 2]), 0))
    assert torch.equal(encoder.stop(asked, 0, one), encoder.stop(elsewhere, 0, one))


def test_questions_are_read_as_if_alone(encoder: HopEncoder) -> None:
    together = encoder.hops(bags(TEXTS), 3)
    for row, text in enumerate(TEXTS):
        alone = encoder.hops(bags([text]), 3)
        for one, other in zip(alone, together, strict=True):
            if one is not None and one.ndim:
                torch.testing.assert_close(one[0], other[row], rtol=1e-4, atol=1e-5)
