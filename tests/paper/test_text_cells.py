from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made import PRESET

from hmn.errors import ConfigError
from hmn.paper.data import Data
from hmn.paper.experiment import Experiment
from hmn.paper.rows import ROWS
from hmn.paper.text_cells import text_cells
from hmn.qa.facts import FactTable
from hmn.qa.model import FactoidQA
from hmn.qa.questions import QuestionSet

Split = tuple[QuestionSet, QuestionSet]
SIZES = {
    "table_bits": 11,
    "name_features": 16,
    "relation_features": 8,
    "word_bits": 10,
    "word_features": 8,
    "hidden": 8,
}


@pytest.fixture(scope="module")
def model(small_facts: FactTable, small_split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    FactoidQA(small_facts, **SIZES).fit(small_split[0], out=out, epochs=1, quiet=True)
    return out


def test_words_are_trained_on_a_models_own_cells(
    model: Path, small_facts: FactTable, small_split: Split
) -> None:
    data = Data(small_facts, {"train": small_split[0], "valid": small_split[1]})
    keys, cells = text_cells(str(model), data)
    qa = FactoidQA.from_pretrained(model)
    assert torch.equal(keys, qa.memory.snapshot())
    assert len(cells) == len(keys) == len(qa.cells)
    row = next(row for row in ROWS if row.name == "exact 10-MIPS on text cells")
    run = Experiment(row, replace(PRESET, epochs=4), data, keys, cells).run()
    curve = [epoch["pair"] for epoch in run["curve"]]
    assert run["cells"] == list(keys.shape)
    assert max(curve) > 0.3
    assert max(curve) > curve[0]


def test_a_model_of_another_table_is_refused(model: Path) -> None:
    other = FactTable.from_triples([("a", "r", "b")])
    with pytest.raises(ConfigError, match="another table of facts"):
        text_cells(str(model), Data(other, {}))
