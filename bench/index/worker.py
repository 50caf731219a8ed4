"""A process of its own for each system, so that their threads never compete.

``Child`` is the parent's handle of an object that lives in another process; ``Bench`` is the object that
searches there. The parent lets one child work at a time.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from bench.index.systems import ROWS
from bench.index.systems.base import Floats, Ids, PackageMissingError, Setting

WARM_UP = 0.2
"""Seconds of searching before a timing, at most."""
DIES_WITH_PARENT = 1
"""Number of Linux's PR_SET_PDEATHSIG."""


class ChildError(Exception):
    """A call in a child process failed, or the process died."""


class Child:
    """An object made by ``make`` ("module:name") in a process of its own."""

    def __init__(self, make: str, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method there and wait for its result.

        Raises:
            ChildError: the method raised (the message is its traceback), or the process died.
        """
        self._connection.send((method, arguments))
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _answer(self) -> Any:
        try:
            kind, answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(5)
            raise ChildError(f"its process ended with status {self._process.exitcode}") from None
        if kind == "missing":
            raise PackageMissingError(answer)
        if kind == "failed":
            raise ChildError(answer)
        return answer


def _serve(connection: Connection, make: str, arguments: tuple[Any, ...]) -> None:
    made: Any = None
    if sys.platform == "linux":
        # a build in C++ would not notice that the parent was killed, and would disturb the next measurement
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)
    try:
        module, name = make.split(":")
        made = getattr(importlib.import_module(module), name)(*arguments)
        connection.send(("done", None))
        while True:
            method, arguments = connection.recv()
            connection.send(("done", getattr(made, method)(*arguments)))
    except (EOFError, KeyboardInterrupt):
        return
    except PackageMissingError as error:
        connection.send(("missing", str(error)))
    except Exception:
        connection.send(("failed", traceback.format_exc(limit=-3)))


def limit_threads(threads: int) -> None:
    """Limit the threads of every process that is started from here on."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


class Bench:
    """One system with one build setting over one data set.

    Args:
        row: name of the row.
        build: build setting.
        data: folder of the data set.
        threads: number of threads that the system may use.
    """

    def __init__(self, row: str, build: Setting, data: Path, threads: int) -> None:
        self.system = ROWS[row].make(build, threads)
        self.data = data
        self._queries: dict[str, Floats] = {}
        self._next = 0

    def build(self, cache: Path | None) -> dict[str, float | None]:
        """Build, and save to ``cache`` if given; returns seconds, MiB held, peak MiB and MiB on disk.

        The MiB held count the keys once if the structure refers to the keys it was given.
        """
        before, resident = memory("RssAnon"), memory("VmRSS")
        keys = np.load(self.data / "keys.npy")
        began = time.perf_counter()
        self.system.build(keys)
        seconds = time.perf_counter() - began
        del keys
        ctypes.CDLL(None).malloc_trim(0)
        figures: dict[str, float | None] = {"build_seconds": seconds}
        figures |= {"held_mib": memory("RssAnon") - before, "peak_mib": memory("VmHWM") - resident}
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            self.system.save(cache)
            figures["disk_mib"] = (
                sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) / 2**20
            )
            os.sync()  # so that writing does not disturb what is timed next
        return figures

    def load(self, cache: Path) -> None:
        """Load what ``build`` saved."""
        self.system.load(cache)

    def ranges(self, k: int) -> tuple[str | None, tuple[int, int], list[Setting]]:
        """The effort's name, its limits, and combinations of the other settings, for k results."""
        return self.system.effort, self.system.efforts(k), self.system.others(k)

    def answers(
        self, setting: Setting, part: str, count: int, k: int, batch: int, patience: float = np.inf
    ) -> Ids:
        """Ids ``(count, k)`` for the first ``count`` queries of a part; for fewer if it takes too long."""
        self.system.set(setting)
        queries = self._part(part)[:count]
        answers: list[Ids] = []
        began = time.perf_counter()
        for start in range(0, len(queries), batch):
            answers.append(self.system.search(queries[start : start + batch], k))
            if time.perf_counter() - began > patience:
                break
        return np.concatenate(answers)

    def reads(self, setting: Setting, part: str, count: int, k: int) -> float | None:
        """Mean reads per query."""
        self.system.set(setting)
        return self.system.reads(self._part(part)[:count], k)

    def run(
        self, setting: Setting, part: str, k: int, batch: int, seconds: float
    ) -> tuple[float, float, Ids, Ids]:
        """Search batch after batch for at least ``seconds``.

        Returns:
            Queries answered and seconds taken. For the first answer to each query, its number and the ids
            ``(..., k)``.
        """
        self.system.set(setting)
        queries = self._part(part)
        starts = range(0, len(queries) - batch + 1, batch)
        self._warm_up(queries[:batch], k, min(seconds, WARM_UP))
        numbers: list[int] = []
        kept: list[Ids] = []
        asked, began, spent = 0, time.perf_counter(), 0.0
        while spent < seconds or not asked:
            start = starts[self._next % len(starts)]
            self._next += 1
            answer = self.system.search(queries[start : start + batch], k)
            asked += batch
            spent = time.perf_counter() - began
            if len(kept) < len(starts):
                numbers.append(start)
                kept.append(answer)
        which = np.concatenate([np.arange(start, start + batch) for start in numbers])
        return asked, spent, which, np.concatenate(kept)

    def _warm_up(self, queries: Floats, k: int, seconds: float) -> None:
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            self.system.search(queries, k)

    def _part(self, part: str) -> Floats:
        if part not in self._queries:
            self._queries[part] = np.load(self.data / f"{part}.npy")
        return self._queries[part]


def memory(kind: str) -> float:
    """Memory of this process in MiB, of a kind in /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith(kind))
