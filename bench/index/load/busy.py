"""Processes that keep processors busy, beside which systems are timed again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

BUSY = 2
"""Number of busy processes: one per thread of a system, so that its fair share of the machine is a half."""


@contextmanager
def busy_processes(count: int = BUSY) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run ``count`` processes that only compute, until the block ends."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            processes.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
