from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.paper.runs.made_plans import ROW, ROWS_BY_NAME, TINY, finished, in_process, with_vectors

import hmn.paper.runs.runner as runner_module
from hmn.errors import MissingPackageError
from hmn.paper.data import Files
from hmn.paper.grid import ROWS
from hmn.paper.runs.child import RunError
from hmn.paper.runs.job import Job
from hmn.paper.runs.plan import Plan, reported
from hmn.paper.runs.runner import run_all

TWO = [ROWS_BY_NAME[f"{reader} on summed cells"] for reader in ("full softmax", "exact 10-MIPS")]
"""Rows that are quick to run, since their networks are not swept."""


def test_finished_runs_are_not_repeated_and_a_stopped_command_goes_on(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = with_vectors(Plan(files, tmp_path / "out", ROWS[:3], TINY, seeds=2))
    jobs: list[Job] = []
    run = finished(jobs)

    def cut(job: Job, *rest: Any) -> dict[str, Any]:
        if len(jobs) == 2:
            raise KeyboardInterrupt
        return run(job, *rest)

    monkeypatch.setattr(runner_module, "run_child", cut)
    with pytest.raises(KeyboardInterrupt):
        run_all(plan, lambda _: None)
    monkeypatch.setattr(runner_module, "run_child", run)
    lines: list[str] = []
    results = run_all(plan, lines.append).results
    names = [(job.row.name if job.row else "", job.seed) for job in jobs]
    assert names == [(row.name, seed) for seed in (0, 1) for row in ROWS[:3]]
    assert lines[0] == "2 of 6 runs are finished already"
    run_all(plan, lines.append)
    assert len(jobs) == 6
    assert len(reported(plan, results)) == 6
    assert reported(replace(plan, device="cuda"), results) == []
    assert len(reported(replace(plan, rows=ROWS[:1], seeds=1), results)) == 6


def test_cells_are_made_first_in_a_process_of_their_own(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []
    monkeypatch.setattr(runner_module, "run_child", finished(jobs))
    monkeypatch.setattr(runner_module, "find_spec", lambda _: True)
    run_all(Plan(files, tmp_path, [ROW], TINY), lambda _: None)
    assert [job.row for job in jobs] == [None, ROW]
    assert Job.from_json(jobs[1].as_json()) == jobs[1]
    assert Job.from_json(jobs[0].as_json()) == jobs[0]


@pytest.mark.slow
def test_rows_are_run_and_reported(files: Files, tmp_path: Path) -> None:
    plan = with_vectors(Plan(files, tmp_path / "out", TWO, TINY))
    results, failed = run_all(plan, lambda _: None)
    assert failed == {}
    found = list(results.runs.values())
    assert [run["name"] for run in found] == [row.name for row in TWO]
    assert [run["facts"] for run in found] == [360, 360]
    assert found[0]["softmax_size"] == 360 > found[1]["softmax_size"]
    assert all(50 < run["peak_mib"] < 4000 for run in found)
    assert not (tmp_path / "out" / "work").exists(), "nothing is left of what is finished"
    assert (tmp_path / "out" / "results.jsonl").read_text().count("\n") == 2


def test_a_row_that_fails_does_not_end_the_command(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = with_vectors(Plan(files, tmp_path / "out", ROWS[:3], TINY))
    jobs: list[Job] = []
    run = finished(jobs)

    def fail(job: Job, *rest: Any) -> dict[str, Any]:
        if job.row == ROWS[1]:
            raise RunError("no memory is left")
        return run(job, *rest)

    monkeypatch.setattr(runner_module, "run_child", fail)
    failures: list[dict[str, str]] = []
    results, failed = run_all(plan, lambda _: None, lambda _, failed: failures.append(dict(failed)))
    assert failed == failures[-1] == {ROWS[1].name: "no memory is left"}
    assert [one["name"] for one in results.runs.values()] == [ROWS[0].name, ROWS[2].name]
    monkeypatch.setattr(runner_module, "run_child", run)
    assert run_all(plan, lambda _: None).failed == {}
    assert [job.row for job in jobs] == [ROWS[0], ROWS[2], ROWS[1]]


def test_cells_that_cannot_be_made_are_tried_once(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Job] = []

    def fail(job: Job, *_: Any) -> dict[str, Any]:
        tried.append(job)
        raise RunError("no vectors")

    monkeypatch.setattr(runner_module, "find_spec", lambda _: True)
    monkeypatch.setattr(runner_module, "run_child", fail)
    failed = run_all(Plan(files, tmp_path, TWO, TINY), lambda _: None).failed
    assert failed == {row.name: "no vectors" for row in TWO}
    assert [job.row for job in tried] == [None]


def test_a_missing_package_is_reported_before_anything_runs(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "find_spec", lambda _: None)
    monkeypatch.setattr(runner_module, "run_child", lambda *_: pytest.fail("it began"))
    rows = [row for row in ROWS if row.name in {"full softmax", "BM25", "MiniLM and faiss"}]
    with pytest.raises(
        MissingPackageError, match=r"torch_geometric .* \(full softmax\): pip install .*--only"
    ):
        run_all(Plan(files, tmp_path, rows, TINY), lambda _: None)
    with pytest.raises(MissingPackageError, match=r"faiss .* \(MiniLM and faiss\)"):
        run_all(Plan(files, tmp_path, rows[1:], TINY), lambda _: None)


@pytest.mark.slow
def test_a_finished_network_is_tested_later_without_training(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "run_child", in_process)
    rows = [ROWS_BY_NAME[name] for name in ("exact 50-MIPS", "10-MIPS by clusters", "BM25")]
    whole = with_vectors(Plan(replace(files, test=files.valid), tmp_path / "whole", rows, TINY))
    expected = run_all(whole, lambda _: None).results
    plan = with_vectors(Plan(files, tmp_path / "out", rows, TINY))
    before = dict(run_all(plan, lambda _: None).results.runs)
    asked = replace(plan, files=whole.files)
    lines: list[str] = []
    after = run_all(asked, lines.append).results
    assert not any("trained again" in line for line in lines)
    assert after.runs.keys() == before.keys() == expected.runs.keys()
    for key, run in after.runs.items():
        test, wanted = run["tested"]["test"], expected.runs[key]["tested"]["test"]
        assert test.keys() == wanted.keys()
        for how, figures in wanted.items():
            for name in figures.keys() - {"questions_a_second"}:
                assert test[how][name] == figures[name], (run["name"], how, name)
        if run["name"] != "BM25":
            assert run["curve"] == before[key]["curve"], "it was not trained again"
        assert run["tested"]["valid"]["own"]["hits"] == before[key]["tested"]["valid"]["own"]["hits"]
    lines.clear()
    run_all(asked, lines.append)
    assert lines == ["3 of 3 runs are finished already"]
    assert all("test" in run["tested"] for run in reported(asked, after))
    assert not any("test" in run["tested"] for run in reported(plan, after)), "none was given"


def test_that_networks_are_missing_is_reported_before_they_are_trained_again(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "run_child", finished([]))
    plan = with_vectors(Plan(files, tmp_path, [*ROWS[:2], ROWS_BY_NAME["BM25"]], TINY))
    run_all(plan, lambda _: None)
    asked, lines = replace(plan, files=replace(files, test=files.valid)), list[str]()
    run_all(asked, lines.append)
    assert lines[0].startswith("2 finished runs are to be asked the test questions, but their networks")


def test_folders_of_finished_runs_are_removed(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = with_vectors(Plan(files, tmp_path / "out", [ROW], TINY))
    monkeypatch.setattr(runner_module, "run_child", finished([]))
    key = plan.runs()[0][2]
    run_all(plan, lambda _: None)
    for name in (key, "unfinished"):
        (plan.out / "work" / name).mkdir(parents=True)
    run_all(plan, lambda _: None)
    assert [path.name for path in (plan.out / "work").iterdir()] == ["unfinished"]
