from __future__ import annotations

import json
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

import hmn.machine as module
from hmn.machine import machine


def test_a_machine_is_described_in_json() -> None:
    before, about, after = datetime.now(UTC).date(), machine(), datetime.now(UTC).date()
    assert json.loads(json.dumps(about)) == about
    assert before.isoformat() <= about["date"] <= after.isoformat()
    assert (about["cores"], about["threads"]) == (os.cpu_count(), torch.get_num_threads())
    assert about["python"] == platform.python_version()
    assert about["torch"] == torch.__version__
    assert about["accelerator"] is None
    assert len(about["load_average"]) == 3
    assert 0.1 < about["memory_gib"] < 2**14


def test_the_accelerator_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"name of {device}")
    assert machine("cuda:1")["accelerator"] == "name of cuda:1"


def test_packages_that_are_not_installed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("torch", "no-such-package"))
    about = machine()
    assert about["torch"] == torch.__version__
    assert "no-such-package" not in about


def test_the_commit_is_recorded_only_inside_a_repository(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = machine()["commit"]
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}", commit)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "machine.py"))
    assert machine()["commit"] is None
    monkeypatch.setenv("PATH", "")
    assert machine()["commit"] is None
