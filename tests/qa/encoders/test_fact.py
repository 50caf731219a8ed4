"""Keys of names: what is spelled alike is close, and the exact spelling is closest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.config import ModelConfig
from hmn.qa.encoders.fact import FactEncoder
from hmn.qa.encoders.tables import NameTable, WordTable
from hmn.qa.words.splitting import CHINESE, LETTERS, SCRIPTS, splitting

NAMES = ["C", "C++", "C#", "F#", "M*A*S*H", "mash", "Zoë", "zoe", "हिन्दी", "हिन्दू", "漢語", "汉语", "汉字"]


def similarities(way: str) -> dict[tuple[str, str], float]:
    """Cosines of all pairs of names in an untrained encoder."""
    torch.manual_seed(0)
    facts = FactTable.from_triples([(name, "r", "x") for name in NAMES])
    config = ModelConfig(splitting=way, table_bits=16, word_bits=10)
    cells = Cells.of(facts, splitting=way)
    table = NameTable(config.table_bits, config.name_features, splitting(way).kinds)
    encoder = FactEncoder(config, cells, facts.relations, table, WordTable(config))
    encoder.count_names()
    with torch.no_grad():
        key = encoder.encode_names(np.arange(len(cells.names)))
    number = {name: number for number, name in enumerate(cells.names)}
    read = {name: number[" ".join(splitting(way).words(name))] for name in NAMES}
    return {(one, two): float(key[read[one]] @ key[read[two]]) for one in NAMES for two in NAMES}


@pytest.mark.parametrize(("one", "two"), [("C", "C++"), ("C++", "C#"), ("M*A*S*H", "mash"), ("Zoë", "zoe")])
def test_spellings_are_close_and_yet_differ(one: str, two: str) -> None:
    cosine = similarities(SCRIPTS)
    assert 0.3 < cosine[one, two] < 0.99
    assert all(cosine[one, two] > cosine[one, other] for other in ("F#", "汉字"))
    assert cosine["हिन्दी", "हिन्दू"] < 0.5, "vowel signs are letters of their own"


def test_traditional_and_simplified_meet_with_opencc() -> None:
    plain, converted = similarities(SCRIPTS), similarities(CHINESE)
    assert plain["漢語", "汉语"] < 0.4 < 0.8 < converted["漢語", "汉语"] < 0.99
    assert converted["漢語", "汉语"] > converted["漢語", "汉字"]


def test_models_of_version_0_1_keep_one_key_for_all_spellings() -> None:
    cosine = similarities(LETTERS)
    assert cosine["C", "C++"] == pytest.approx(1) and cosine["Zoë", "zoe"] == pytest.approx(1)
