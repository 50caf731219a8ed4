"""A run's own process: how much memory it has held, and that it ends with the one that started it."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from pathlib import Path

WATCHED_SECONDS = 0.5


def follow_parent() -> None:
    """End this process soon after the one that started it has ended, however that was; POSIX alone.

    A command that is killed cannot stop its child, which would go on beside the next command's.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCHED_SECONDS)
        os._exit(143)

    if os.name == "posix":
        threading.Thread(target=watch, daemon=True).start()


def peak_mib() -> float:
    """The most memory that this process has held, in MiB.

    What the system counts for a process may begin with its parent's; the count of its address space does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 1024
