"""What a run does to its own process: it ends with its parent, keeps freed memory, and knows its peak."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import threading
import time
from pathlib import Path

WATCHED_SECONDS = 0.5
"""Seconds between two looks at whether the parent is alive."""
M_TRIM_THRESHOLD = -1
"""Option of glibc's ``mallopt``: free bytes at the top of the heap above which they are returned."""
M_MMAP_MAX = -4
"""Option of glibc's ``mallopt``: number of blocks that may be mapped one by one."""
MOST = 2**31 - 1
"""Largest value of an option, in bytes."""


def follow_parent() -> None:
    """End this process soon after the one that started it has ended in any way; on POSIX alone.

    A command that is killed cannot stop its child, which would run on beside the next command's child.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCHED_SECONDS)
        os._exit(143)

    if os.name == "posix":
        threading.Thread(target=watch, daemon=True).start()


def keep_memory() -> None:
    """Keep memory that this process frees, where the C library is glibc; elsewhere nothing changes.

    By default glibc returns large blocks at once and requests them again in the next step, and the system
    clears their pages. This takes a fifth to a third of a step over tens of thousands of cells.
    """
    if os.name == "posix" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, MOST)


def peak_mib() -> float:
    """Peak memory of this process, in MiB.

    ``ru_maxrss`` may start from the parent's peak; the peak of the address space, ``VmHWM``, does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 1024
