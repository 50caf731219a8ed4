"""A run's own process: that it keeps its memory, how much it has held, and that it ends with its parent."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import threading
import time
from pathlib import Path

WATCHED_SECONDS = 0.5
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
MOST = 2**31 - 1


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


def keep_memory() -> None:
    """Let what this process frees stay with it, where the C library is glibc; elsewhere nothing changes.

    It gives large blocks back at once and asks for them anew in the next step, whose pages the system then
    clears: a fifth to a third of a step's time where the softmax is over tens of thousands of cells.
    """
    if os.name == "posix" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, MOST)


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
