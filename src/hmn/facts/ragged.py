"""Rows of different lengths in one array."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Ragged(NamedTuple):
    """Rows of different lengths in one array: row ``r`` is ``flat[start[r]:start[r + 1]]``.

    Attributes:
        start: ``(rows + 1,)`` int64 offsets.
        flat: ``(start[-1],)`` int64 numbers.
    """

    start: NDArray[np.int64]
    flat: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Iterable[Sequence[int] | NDArray[np.int64]]) -> Ragged:
        """Join rows into one array."""
        arrays = [np.asarray(row, np.int64) for row in rows]
        return cls(offsets([len(row) for row in arrays]), np.concatenate([*arrays, np.zeros(0, np.int64)]))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.start) - 1

    @property
    def length(self) -> NDArray[np.int64]:
        """``(rows,)`` lengths."""
        return np.diff(self.start)

    def row(self, row: int) -> NDArray[np.int64]:
        """One row."""
        return self.flat[self.start[row] : self.start[row + 1]]

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """The given rows, in that order."""
        start, places = spans(self.start[rows], self.start[rows + 1])
        return Ragged(start, self.flat[places])

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the numbers of the given rows stand in ``flat``."""
        return spans(self.start[rows], self.start[rows + 1])[1]


def offsets(length: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """``(rows + 1,)`` where rows of these lengths start, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(length, np.int64))])


def spans(start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Join the spans ``start[i]`` to ``end[i] - 1``: their offsets ``(spans + 1,)`` and all their numbers."""
    length = end - start
    offset = offsets(length)
    return offset, np.arange(offset[-1]) + np.repeat(start - offset[:-1], length)
