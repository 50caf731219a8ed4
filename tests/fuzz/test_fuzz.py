"""A few cases of each kind, and what the runner says of batches that fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.fuzz import __main__ as runner
from tests.fuzz import batches, states


def test_operations() -> None:
    batches.operations(seed=0, examples=20)


def test_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "CASES", 60)
    states.batch(0)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 0", "operations: 2 batches, 0 failed"),
        ("echo what was wrong; exit 1", "it ended with an error\nwhat was wrong"),
        ("kill -SEGV $$", "it ended with signal 11"),
        ("sleep 60", "it took more than 0.5 seconds"),
    ],
)
def test_runner_reports_each_kind_of_failure(
    script: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(runner, "MOST_SECONDS", 0.5)
    failed = runner.main(["--target", "operations", "--batches", "2", "--seed", "5"])
    shown = capsys.readouterr().out
    assert expected in shown
    assert failed == (0 if script == "exit 0" else 1)
    assert script == "exit 0" or ("operations, seed 5: " in shown and "operations, seed 6: " in shown)
