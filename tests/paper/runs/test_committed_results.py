"""The committed results: their keys follow from what each line records, and the report from all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hmn.paper.grid import ROWS, TEXT
from hmn.paper.preset import PRESETS
from hmn.paper.runs.results import key_of

FOLDER = Path(__file__).parents[3] / "docs" / "paper"
LINES = (FOLDER / "results.jsonl").read_text(encoding="utf-8").splitlines()
RUNS: list[dict[str, Any]] = [json.loads(line) for line in LINES]
ROW_BY_NAME = {row.name: row for row in ROWS}


def test_every_row_of_the_grid_has_a_committed_run_or_is_said_not_to_have_one() -> None:
    missing = ROW_BY_NAME.keys() - {run["name"] for run in RUNS}
    assert {run["name"] for run in RUNS} <= ROW_BY_NAME.keys()
    assert {ROW_BY_NAME[name].table for name in missing} <= {"speed-up"}, "all others were run"
    assert len({run["key"] for run in RUNS}) == len(RUNS) == 62 - len(missing)
    report = (FOLDER / "report.md").read_text(encoding="utf-8").splitlines()
    said = {line.split(" | ")[0].removeprefix("| ") for line in report if "| not run yet |" in line}
    assert said == missing


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run['name']}-{run['seed']}-{run['device']}")
def test_the_key_of_a_committed_run_is_the_one_computed_today(run: dict[str, Any]) -> None:
    """Otherwise the next ``make paper`` would repeat half a day of finished runs."""
    row = ROW_BY_NAME[run["name"]]
    model = run.get("model") or ""  # absent from the oldest lines, null where the row has no text cells
    assert bool(model) == (row.cells == TEXT)
    key = key_of(run["data"], row, PRESETS[run["preset"]], run["seed"], run["device"], model)
    assert key == run["key"]
