from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.paper.runs.made_plans import ROW, ROWS_BY_NAME, TINY, finished

import hmn.paper.runs.runner as runner_module
from hmn.paper.data import Files
from hmn.paper.grid import ROWS, Row
from hmn.paper.runs.plan import Plan, reported
from hmn.paper.runs.results import Results
from hmn.paper.runs.runner import run_all


def test_a_row_without_a_clock_is_reported_from_another_device(files: Files, tmp_path: Path) -> None:
    row = ROWS_BY_NAME["MiniLM and faiss after in-batch negatives"]
    plan, results = Plan(files, tmp_path, [row], TINY), Results(tmp_path / "results.jsonl")
    checksum = files.checksum()

    def run_on(device: str, one: Row, seed: int) -> None:
        key = replace(plan, device=device).key(checksum, one, seed)
        run = {"key": key, "name": one.name, "seed": seed, "device": device, "tested": {}}
        results.add({**run, "data": checksum, "preset": TINY.name})

    def found(seeds: int = 1) -> list[tuple[str, int]]:
        return [(run["device"], run["seed"]) for run in reported(replace(plan, seeds=seeds), results)]

    run_on("cuda", ROW, 0)
    assert found() == [], "the network's own seconds cannot be compared"
    run_on("cuda", row, 0)
    run_on("cuda", row, 1)
    assert found() == [("cuda", 0)]
    assert found(seeds=2) == [("cuda", 0), ("cuda", 1)]
    run_on("cpu", row, 0)
    assert found(seeds=2) == [("cpu", 0)]


def test_rows_of_text_cells_are_reported_without_their_model(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "run_child", finished([]))
    row = ROWS_BY_NAME["exact 10-MIPS on text cells"]
    results = Results(tmp_path / "results.jsonl")
    plans = {}
    for name in ("older", "newer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(name)
        plans[name] = Plan(replace(files, model=str(tmp_path / name)), tmp_path, [row], TINY)
        results = run_all(plans[name], lambda _: None).results
    older, newer = (reported(plan, results) for plan in plans.values())
    assert len(older) == len(newer) == 1 and older[0]["key"] != newer[0]["key"]
    without = replace(plans["newer"], files=files, rows=[ROW])
    assert reported(without, results) == newer, "of several models the last that was run"
    assert reported(replace(without, preset=replace(TINY, name="other")), results) == []


def test_what_is_not_trained_is_run_with_one_seed(files: Files, tmp_path: Path) -> None:
    plan = Plan(files, tmp_path, [row for row in ROWS if row.table == "today"], TINY, seeds=3)
    assert [sum(row.name == name for row, _, _ in plan.runs()) for name in ("BM25", "MiniLM and faiss")] == [
        1,
        1,
    ]
    assert len(plan.runs()) == 2 + 2 * 3
