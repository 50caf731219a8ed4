"""Runs a function in several processes of torch.distributed, and what it needs to know of its process."""

from __future__ import annotations

import ctypes
import datetime
import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

TIMEOUT = 600.0
"""Upper limit of the seconds of an exchange, builds of an index included."""


def run(worker: Callable[..., Any], size: int, *args: Any) -> list[Any]:
    """What ``worker(rank, size, *args)`` returns in each of ``size`` processes of one thread."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_process, (worker, size, folder, args), nprocs=size)  # type: ignore[no-untyped-call]
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(size)]


def _process(rank: int, worker: Callable[..., Any], size: int, folder: str, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    limit = datetime.timedelta(seconds=TIMEOUT)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size, timeout=limit
    )
    torch.save(worker(rank, size, *args), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


class Resident:
    """Memory of this process beyond what it had when this was made. Linux only."""

    def __init__(self) -> None:
        _give_back()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
        self._before = _status("VmRSS")

    def now(self) -> int:
        """Bytes that are resident now."""
        _give_back()
        return _status("VmRSS") - self._before

    def peak(self) -> int:
        """Most bytes that were resident at any time."""
        return _status("VmHWM") - self._before


def _give_back() -> None:
    """Return freed memory to the system, so that it is not counted."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
