from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.paper.made import PRESET

from hmn.errors import ConfigError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.paper.cells.text import text_cells
from hmn.paper.data import Data, Files
from hmn.paper.grid import ROWS, TEXT
from hmn.paper.network.experiment import Experiment
from hmn.paper.preset import PRESETS
from hmn.paper.runs.plan import Plan, without_other_tables
from hmn.qa.factoid_qa import FactoidQA

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


def test_rows_of_text_cells_are_left_out_of_a_miniature_of_another_table(
    model: Path, small_facts: FactTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(Files("f", "n", "t", "v", model=str(model)), Path("out"), ROWS, PRESETS["quick"])
    lines: list[str] = []
    monkeypatch.setattr(Data, "read", lambda *_: Data(small_facts, {}))
    assert without_other_tables(plan, lines.append) is plan
    monkeypatch.setattr(Data, "read", lambda *_: Data(FactTable.from_triples([("a", "r", "b")]), {}))
    found = without_other_tables(plan, lines.append).rows
    assert [row for row in ROWS if row.cells != TEXT] == list(found)
    assert len(lines) == 1
    assert "another table of facts" in lines[0]
    with pytest.raises(ConfigError, match="no row is left"):
        without_other_tables(replace(plan, rows=[row for row in ROWS if row.cells == TEXT]), lines.append)


def test_every_reader_of_the_first_table_has_a_row_of_text_cells() -> None:
    text = {row.name: row for row in ROWS if row.cells == TEXT}
    for row in ROWS:
        if row.table == "table1":
            other = text.pop(f"{row.name} on text cells")
            assert (other.reader, other.k, other.index) == (row.reader, row.k, row.index)
    assert list(text) == ["keyword filter on text cells"]
