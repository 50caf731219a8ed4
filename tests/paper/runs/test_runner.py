from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.paper.made import PRESET, vectors_of
from typer.testing import CliRunner

import hmn.paper.runs.runner as runner_module
from hmn.cli.app import app
from hmn.errors import ConfigError, DataError, MissingPackageError
from hmn.paper.cells.fixed import cache_file
from hmn.paper.data import Data, Files
from hmn.paper.grid import ROWS, TABLES, TEXT, Row, chosen, named
from hmn.paper.preset import PRESETS, Preset
from hmn.paper.process import peak_mib
from hmn.paper.runs.constants import constants
from hmn.paper.runs.job import Job
from hmn.paper.runs.results import FORMAT, Results, key_of
from hmn.paper.runs.runner import Plan, RunError, reported, run_all, run_child

ROW = ROWS[0]
TWO = [ROWS[0], ROWS[2]]
ROWS_BY_NAME = {row.name: row for row in ROWS}
TINY = replace(PRESET, epochs=1)


@pytest.fixture
def files(small_files: Path) -> Files:
    rows = {line.split("\t")[0] for line in (small_files / "facts.tsv").read_text().splitlines()}
    names = "".join(f"{one}\t{one.replace('_', ' ')}\n" for one in sorted(rows))
    (small_files / "names.tsv").write_text(names)
    return Files(*(str(small_files / f"{name}.tsv") for name in ("facts", "names", "train", "valid")))


def with_vectors(plan: Plan) -> Plan:
    """Vectors are there already, so that PyTorch Geometric is not needed."""
    data = Data.read(plan.files, plan.preset)
    for seed in range(plan.seeds):
        file = cache_file(plan.out / "cells", plan.files.checksum(), plan.preset, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        entity, relation, loss = vectors_of(data.facts, seed)
        losses = torch.tensor(loss, dtype=torch.float64)
        save_file({"entity": entity, "relation": relation, "loss": losses}, file)
    return plan


def finished(told: list[Job]) -> Any:
    """Stands in for the child process."""

    def run(job: Job, *_: Any) -> dict[str, Any]:
        told.append(job)
        return {"tested": {}}

    return run


def test_a_result_is_found_again_and_half_a_line_is_not(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.jsonl"
    results = Results(file)
    results.add({"key": "a", "name": "x"})
    with file.open("a") as opened:
        opened.write('{"key": "b", "na')
    again = Results(file)
    assert "a" in again
    assert "b" not in again
    again.add({"key": "c", "name": "z"})
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == ["a", "c"]
    assert Results(file).runs.keys() == {"a", "c"}


def test_a_last_line_that_lacks_nothing_but_its_end_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text('{"key": "a"}\n{"key": "b"}')
    results = Results(file)
    results.add({"key": "c"})
    assert Results(file).runs.keys() == {"a", "b", "c"}
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "name",
    [
        "network.keyword_filter.RARE",
        "network.search_budget.ROUNDS",
        "baselines.bm25.SATURATION",
        "baselines.sentence_encoder.SCALE",
    ],
)
def test_a_key_depends_on_the_modules_constants(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of("data", ROW, PRESET, 0, "cpu")
    monkeypatch.setattr(f"hmn.paper.{name}", 77)
    assert key_of("data", ROW, PRESET, 0, "cpu") != before


def test_a_key_depends_on_all_that_a_run_depends_on() -> None:
    other = replace(PRESET, transe=replace(PRESET.transe, margin=2.0))
    keys = [
        key_of("data", ROW, PRESET, 0, "cpu"),
        key_of("date", ROW, PRESET, 0, "cpu"),
        key_of("data", replace(ROW, k=3), PRESET, 0, "cpu"),
        key_of("data", replace(ROW, speed_up=3), PRESET, 0, "cpu"),
        key_of("data", ROW, other, 0, "cpu"),
        key_of("data", ROW, PRESET, 1, "cpu"),
        key_of("data", ROW, PRESET, 0, "cuda"),
        key_of("data", replace(ROW, cells=TEXT), PRESET, 0, "cpu"),
        key_of("data", replace(ROW, cells=TEXT), PRESET, 0, "cpu", "model"),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == key_of("data", ROW, PRESET, 0, "cpu", "model"), "it has no cells of a model"
    assert keys[0] == key_of("data", replace(ROW), Preset.from_dict(asdict(PRESET)), 0, "cpu")


def test_a_setting_added_later_leaves_the_keys_of_rows_without_it() -> None:
    row = {
        "also_tested_with": "",
        "cells": "transe",
        "index": "exact",
        "k": 10,
        "name": "older",
        "reader": "kmips",
        "strategy": "",
        "swept": False,
        "table": "table1",
    }
    told = json.dumps([FORMAT, constants(), "data", row, asdict(PRESET), 0, "cpu"], sort_keys=True)
    older = Row("older", "table1", "kmips", k=10)
    assert key_of("data", older, PRESET, 0, "cpu") == hashlib.sha256(told.encode()).hexdigest()[:16]


def test_the_checksum_is_that_of_the_contents(files: Files, tmp_path: Path) -> None:
    before = files.checksum()
    tested = replace(files, test=files.valid)
    assert tested.checksum() == before, "test questions are no part of what is trained"
    assert files.test_checksum() is None
    assert tested.test_checksum() != replace(files, test=files.train).test_checksum()
    copy = tmp_path / "elsewhere.tsv"
    copy.write_bytes(Path(files.train).read_bytes())
    assert replace(files, train=str(copy)).checksum() == before
    copy.write_bytes(copy.read_bytes() + b"\n")
    assert replace(files, train=str(copy)).checksum() != before
    with pytest.raises(DataError, match=r"nothing\.tsv"):
        replace(files, valid="nothing.tsv").checksum()


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


def test_peak_memory_is_the_processs_own_and_its_largest() -> None:
    held = bytearray(b"1" * (200 << 20))
    check = "from hmn.paper.process import peak_mib; print(peak_mib())"
    figures = []
    for before in ("", "x = bytearray(b'1' * (100 << 20)); del x; "):
        done = subprocess.run(
            [sys.executable, "-c", before + check], capture_output=True, text=True, check=True
        )
        figures.append(float(done.stdout))
    assert peak_mib() > 200 + figures[0], "the parent's memory is not the child's"
    assert 190 < figures[1] - figures[0] < 250, "the copy that made it counts as well, though both are gone"
    del held


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what glibc does with freed memory is changed")
def test_a_run_keeps_the_memory_that_it_frees() -> None:
    keep = "from hmn.paper.process import keep_memory; keep_memory()\n"
    check = "pages = lambda: int(open('/proc/self/statm').read().split()[1])\n"
    check += "before = pages(); x = b'1' * (100 << 20); del x; print(pages() - before)"
    kept = []
    for start in ("", keep):
        done = subprocess.run(
            [sys.executable, "-c", start + check], capture_output=True, text=True, check=True
        )
        kept.append(int(done.stdout) * resource.getpagesize() >> 20)
    assert kept[0] < 10 < 90 < kept[1], "MiB that stay with the process"


def test_a_run_that_fails_tells_its_reason(
    files: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = Job(replace(files, facts=str(tmp_path / "none.tsv")), TINY, 0, "cpu", "", ROW)
    with pytest.raises(RunError, match=r"full softmax ended with status 2: .*none\.tsv"):
        run_child(job, tmp_path / "work", "x")
    assert "none.tsv" in capfd.readouterr().err


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
    told: list[dict[str, str]] = []
    results, failed = run_all(plan, lambda _: None, lambda _, failed: told.append(dict(failed)))
    assert failed == told[-1] == {ROWS[1].name: "no memory is left"}
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


def test_a_missing_package_is_told_before_anything_runs(
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


def test_what_is_not_trained_is_run_with_one_seed(files: Files, tmp_path: Path) -> None:
    plan = Plan(files, tmp_path, [row for row in ROWS if row.table == "today"], TINY, seeds=3)
    assert [sum(row.name == name for row, _, _ in plan.runs()) for name in ("BM25", "MiniLM and faiss")] == [
        1,
        1,
    ]
    assert len(plan.runs()) == 2 + 2 * 3


def test_a_finished_network_is_tested_later_without_training(files: Files, tmp_path: Path) -> None:
    rows = [ROWS[0], next(row for row in ROWS if row.name == "clustering"), ROWS_BY_NAME["BM25"]]
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


def test_that_networks_are_missing_is_told_before_they_are_trained_again(
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


def test_a_miniature_is_the_same_whatever_is_asked_in_the_test(files: Files) -> None:
    preset = replace(PRESET, facts=200, train=50, valid=20)
    part = Data.read(files, preset)
    tested = Data.read(replace(files, test=files.train), preset)
    assert part.facts.entities.equals(tested.facts.entities)
    assert [part.facts.fact(cell) for cell in range(200)] == [tested.facts.fact(cell) for cell in range(200)]
    assert len(tested.asked["test"]) == 20
    assert bool((tested.asked["test"].cell >= 0).all())


def test_a_miniature_holds_the_facts_that_its_questions_ask_for(files: Files) -> None:
    preset = replace(PRESET, facts=200, train=50, valid=20)
    whole, part = Data.read(files, PRESET), Data.read(files, preset)
    assert (len(whole.facts), len(part.facts)) == (360, 200)
    assert (len(part.asked["train"]), len(part.asked["valid"])) == (50, 20)
    for name, questions in part.asked.items():
        for number in range(len(questions)):
            ours = part.facts.fact(int(questions.cell[number]))
            theirs = whole.facts.fact(int(whole.asked[name].cell[number]))
            assert ours == theirs
            assert questions.text[number] == whole.asked[name].text[number]


def test_tables_and_rows_are_chosen_by_name() -> None:
    assert {row.table for row in ROWS} == set(TABLES)
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert not any("," in row.name for row in ROWS), "--only has commas between names"
    assert all(row.cells != "text" for row in chosen([], text=False))
    assert [row.name for row in chosen(["REINFORCE", "summed"], text=False)] == [
        "REINFORCE",
        "full softmax on summed cells",
        "exact 10-MIPS on summed cells",
    ]
    assert len(chosen(["table2"], text=False)) == 10
    assert [row.name for row in chosen(["table1", "text"], text=True)][-1] == "keyword filter on text cells"
    with pytest.raises(ConfigError, match="'text' is of text cells"):
        chosen(["table1", "text"], text=False)
    with pytest.raises(ConfigError, match="table9"):
        chosen(["table9"], text=False)
    with pytest.raises(ConfigError, match="--model"):
        chosen(["text"], text=False)


def test_rows_can_be_called_by_their_titles_in_the_report() -> None:
    given = "Top-K with 1,000 clusters, table1,10-MIPS by clusters,,Top-K with many clusters"
    rows = ["Top-K with few clusters", "table1", "10-MIPS by clusters", "Top-K with many clusters"]
    assert named(given, PRESETS["full"]) == rows
    assert named("", PRESETS["full"]) == []
    assert named("Top-K with 40 clusters", PRESETS["quick"]) == rows[:1]


@pytest.fixture
def command(files: Files, tmp_path: Path) -> list[str]:
    pytest.importorskip("matplotlib", reason='the report needs Matplotlib: pip install "hmn[paper]"')
    out = tmp_path / "out"
    with_vectors(Plan(files, out, [ROW], PRESETS["quick"]))
    given = {name: value for name, value in asdict(files).items() if value is not None}
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    return [
        "paper",
        *options,
        "--out",
        str(out),
        "--preset",
        "quick",
        "--only",
        "exact 10-MIPS,keyword filter",
    ]


def test_the_command_runs_reports_and_repeats_nothing(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "hmn.cli", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[2/2] keyword filter, seed 0" in done.stderr
    assert "best so far" in done.stderr
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| keyword filter |" in text
    assert '--preset quick --device cpu --only "exact 10-MIPS,keyword filter"`' in text
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0
    assert "2 of 2 runs are finished already" in again.stderr
    assert (tmp_path / "out" / "results.jsonl").read_text().count("\n") == 2
    one = CliRunner().invoke(app, [*command[:-1], "keyword filter"])
    assert one.exit_code == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| exact 10-MIPS |" in text and "by several commands, the last of them `hmn paper" in text
    wrong = CliRunner().invoke(app, [*command[:-1], "table9"])
    assert wrong.exit_code == 2
    assert "there is no table or row 'table9'" in wrong.stderr


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a child does not know its parent's end")
def test_a_child_ends_when_its_parent_is_killed() -> None:
    child = "import time; from hmn.paper.process import follow_parent; follow_parent(); "
    child += "print('on', flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.kill()
        began = time.monotonic()
        assert process.stdout.read() == ""
        assert time.monotonic() - began < 30, "the pipe closes when the child has ended too"


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_ctrl_c_stops_the_child_as_well_and_leaves_what_the_next_command_needs(
    command: list[str], tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "hmn.cli", *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a job in the background ignores Ctrl-C, and so would what it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 1:" in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read()  # until the last of the group has closed it
    assert process.returncode == 130
    assert "the same command goes on" in rest
    assert "Traceback" not in rest
    out = tmp_path / "out"
    assert not (out / "results.jsonl").exists()
    assert [path.name for path in (out / "work").glob("*/manifest.json")] == ["manifest.json"]


def test_rows_of_all_kinds_run_from_the_command_line_with_real_vectors(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_geometric", reason='TransE needs PyTorch Geometric: pip install "hmn[paper]"')
    pytest.importorskip("matplotlib", reason='the report needs Matplotlib: pip install "hmn[paper]"')
    names = ["clustering", "Top-K + Sample-K with few clusters", "REINFORCE", "keyword filter", "BM25"]
    broken = Row("broken", "baselines", "kmips", index="cluster:num_clusters=-1")
    rows = [replace(ROWS_BY_NAME[name], swept=False) for name in names]
    monkeypatch.setattr("hmn.paper.grid.ROWS", (rows[0], broken, *rows[1:]))
    quick = replace(PRESETS["quick"], epochs=2, transe=replace(PRESETS["quick"].transe, epochs=2))
    monkeypatch.setitem(PRESETS, "quick", quick)
    given = {name: value for name, value in asdict(files).items() if value is not None}
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    options += ["--test", files.valid, "--only", ",".join([*names, "broken"])]
    command = ["paper", *options, "--out", str(tmp_path / "out"), "--preset", "quick"]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 1, first.stderr
    assert "failed: broken: " in first.stderr.splitlines()[-1]
    assert "num_clusters" in first.stderr.splitlines()[-1]
    text = (tmp_path / "out" / "results.jsonl").read_text()
    runs = {run["name"]: run for run in map(json.loads, text.splitlines())}
    assert list(runs) == names
    assert all(run["tested"].keys() == {"valid", "test"} for run in runs.values())
    assert runs["keyword filter"]["tested"]["valid"]["own"]["coverage"] > 0.5
    assert "common" in runs["Top-K + Sample-K with few clusters"]["tested"]["test"]
    assert runs["clustering"]["machine"]["torch_geometric"]
    assert (tmp_path / "out" / "report.md").exists()
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 1
    assert "5 of 6 runs are finished already" in again.stderr
    assert (tmp_path / "out" / "results.jsonl").read_text() == text
