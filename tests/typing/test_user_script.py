"""Strict type checkers accept a user's script, and would notice if the public API lost its types."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("user_script.py")
MISTAKE = "value: str = SoftmaxAttention(Memory(torch.randn(4, 2))).forward(torch.randn(1, 2)).value\n"
CHECKERS = {
    "mypy": ["--strict", "--config-file=", "--untyped-calls-exclude=torch"],
    "pyright": ["--pythonpath", sys.executable],
}


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with the Python of the tests, away from the settings of this project."""
    if importlib.util.find_spec(arguments[1]) is None:
        pytest.skip(f"{arguments[1]} is not installed: pip install -e '.[dev]'")
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_users_script_is_accepted_and_a_mistake_in_it_is_not(checker: str, tmp_path: Path) -> None:
    script = tmp_path / "user_script.py"
    script.write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    checked = run("-m", checker, *CHECKERS[checker], str(script), folder=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    script.write_text(script.read_text(encoding="utf-8") + MISTAKE, encoding="utf-8")
    checked = run("-m", checker, *CHECKERS[checker], str(script), folder=tmp_path)
    assert (
        checked.returncode == 1 and checked.stdout.count(": error:") + checked.stdout.count(" - error:") == 1
    )


@pytest.mark.slow
def test_the_script_runs() -> None:
    ran = subprocess.run([sys.executable, "-W", "error", SCRIPT], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "torch.Size([64, 8])"
