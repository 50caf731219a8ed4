from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.paper.runs.made_plans import ROW, ROWS_BY_NAME, in_process, with_vectors
from typer.testing import CliRunner

from hmn.cli.app import app
from hmn.paper.data import Files
from hmn.paper.grid import Row
from hmn.paper.preset import PRESETS
from hmn.paper.runs.plan import Plan


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
        "exact 50-MIPS,keyword filter",
    ]


@pytest.mark.slow
def test_the_command_runs_reports_and_repeats_nothing(
    command: list[str], tmp_path: Path, draw_at_once: Callable[[], None]
) -> None:
    done = subprocess.run([sys.executable, "-m", "hmn.cli", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[2/2] keyword filter, seed 0" in done.stderr
    assert "best so far" in done.stderr
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| keyword filter |" in text
    assert '--preset quick --device cpu --only "exact 50-MIPS,keyword filter"`' in text
    draw_at_once()
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0
    assert "2 of 2 runs are finished already" in again.stderr
    assert (tmp_path / "out" / "results.jsonl").read_text().count("\n") == 2
    one = CliRunner().invoke(app, [*command[:-1], "keyword filter"])
    assert one.exit_code == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| exact 50-MIPS |" in text and "by several commands, the last of them `hmn paper" in text
    wrong = CliRunner().invoke(app, [*command[:-1], "table9"])
    assert wrong.exit_code == 2
    assert "there is no table or row 'table9'" in wrong.stderr


@pytest.mark.slow
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
    assert "run the same command again to continue" in rest
    assert "Traceback" not in rest
    out = tmp_path / "out"
    assert not (out / "results.jsonl").exists()
    assert [path.name for path in (out / "work").glob("*/manifest.json")] == ["manifest.json"]


@pytest.mark.slow
def test_rows_of_all_kinds_run_from_the_command_line_with_real_vectors(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_at_once: Callable[[], None]
) -> None:
    pytest.importorskip("torch_geometric", reason='TransE needs PyTorch Geometric: pip install "hmn[paper]"')
    draw_at_once()
    monkeypatch.setattr("hmn.paper.runs.runner.run_child", in_process)
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
