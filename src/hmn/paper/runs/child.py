"""Starts a job in a process of its own and waits for its result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hmn.errors import HMNError
from hmn.paper.runs.job import Job

PATIENCE = 10.0
"""Seconds that an interrupted child may take to end before it is killed."""


class RunError(HMNError):
    """A run's own process ended with an error, which it has reported on standard error."""


def run_child(job: Job, work: Path, name: str) -> dict[str, Any]:
    """Run a job in a child process to its end; if this process is interrupted, so is the child.

    Args:
        job: what the child is to do.
        work: folder of the job's and the result's file, made if it does not exist.
        name: name of these files, without extension.

    Returns:
        The job's figures.

    Raises:
        RunError: the child ended with an error.
    """
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"{name}.json"
    file.write_text(job.as_json(), encoding="utf-8")
    status = _finished(subprocess.Popen([sys.executable, "-m", "hmn.paper.runs.job", str(file)]))
    if status == 130:
        raise KeyboardInterrupt
    if status:
        what = "the cells" if job.row is None else job.row.name
        raise RunError(f"the run of {what} ended with status {status}: {_reason(file)}")
    result_file = file.with_suffix(".result.json")
    result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
    result_file.unlink()
    file.unlink()
    return result


def _finished(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a process, which is ended if this one is interrupted."""
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def _reason(file: Path) -> str:
    """The error that a child has left beside its job's file, which is removed."""
    error = file.with_suffix(".error")
    if not error.exists():
        return "see its output above, if it had time for any"
    reason = error.read_text(encoding="utf-8")
    error.unlink()
    return reason
