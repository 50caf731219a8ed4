"""One system that follows a runbook, in a process of its own."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from bench.index.data import K
from bench.index.streaming.rows import ROWS
from bench.index.systems.base import Ids

BATCH = 256
"""Queries per call."""


class Stream:
    """A system over the rows of a data set.

    Args:
        row: name of the row.
        folder: folder with ``keys.npy`` and ``queries.npy``.
        rows: number of rows that it must hold at the same time, with the deleted ones if it keeps these.
        threads: number of threads that it may use.
    """

    def __init__(self, row: str, folder: Path, rows: int, threads: int) -> None:
        self.system = ROWS[row].make(rows, threads)
        self.keys = np.load(folder / "keys.npy", mmap_mode="r")
        self.queries = np.load(folder / "queries.npy")
        self.begun = False

    def efforts(self) -> tuple[int, ...]:
        """Efforts to search with."""
        return self.system.efforts

    def insert(self, start: int, end: int) -> float:
        """Insert rows; returns the seconds taken."""
        ids, keys = np.arange(start, end), np.array(self.keys[start:end])
        insert = self.system.insert if self.begun else self.system.begin
        self.begun = True
        began = time.perf_counter()
        insert(ids, keys)
        return time.perf_counter() - began

    def delete(self, start: int, end: int) -> float:
        """Delete rows; returns the seconds taken."""
        began = time.perf_counter()
        self.system.delete(np.arange(start, end))
        return time.perf_counter() - began

    def search(self, effort: int) -> tuple[float, Ids]:
        """Answer every query; returns the seconds taken and the rows found ``(Q, 10)``."""
        began = time.perf_counter()
        found = [
            self.system.search(self.queries[start : start + BATCH], K, effort)
            for start in range(0, len(self.queries), BATCH)
        ]
        return time.perf_counter() - began, np.concatenate(found)
