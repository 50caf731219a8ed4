"""Which cells of each memory were used longest ago."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from hmn.errors import ConfigError

SPARE = 1024
"""Number of outdated uses that are kept, beyond as many as there are cells."""
MOST_IN_TABLE = 4096
"""Upper limit of the cells of a memory whose times of use are all compared to find the oldest."""


class Recency:
    """The order in which the cells of S memories were last used; at first that of their numbers.

    Args:
        sequences: number of memories, S.
        cells: number of cells of each, N.
    """

    def __init__(self, sequences: int, cells: int) -> None:
        self.cells = cells
        self._table = _Table(sequences, cells) if cells <= MOST_IN_TABLE else None
        self._queues = [] if self._table else [_Queue(cells) for _ in range(sequences)]

    def reset(self) -> None:
        """Forget all uses."""
        for order in [self._table] if self._table else self._queues:
            order.reset()

    def use(self, cells: np.ndarray) -> None:
        """Note that cells ``(S, n)`` were used, the last of each row latest; -1 for none."""
        if self._table is not None:
            self._table.use(cells)
            return
        for queue, own in zip(self._queues, cells.tolist(), strict=True):
            queue.use([cell for cell in own if cell >= 0])

    def oldest(self, wanted: np.ndarray) -> np.ndarray:
        """A cell for each place ``(S, M)`` that wants one, or -1: the oldest of its memory that is left.

        They are not noted as used.

        Raises:
            ConfigError: more than N are wanted of a memory.
        """
        most = int(wanted.sum(axis=1).max(initial=0)) if wanted.shape[1] > 1 else int(wanted.any())
        if most > self.cells:
            raise ConfigError(
                f"{most} heads write to new cells at once, but the memory has {self.cells}: "
                "give it more cells, or write in several calls"
            )
        if not most:
            return np.full(wanted.shape, -1, dtype=np.int64)
        if self._table is not None:
            return self._table.oldest(wanted, most)
        found = []
        for queue, row in zip(self._queues, wanted.tolist(), strict=True):
            count = sum(row)
            cells = iter(queue.oldest(count) if count else ())
            found.append([next(cells) if place else -1 for place in row])
        return np.array(found, dtype=np.int64)


class _Table:
    """Times of use of all cells, in NumPy, whose calls on few numbers take the least time."""

    def __init__(self, sequences: int, cells: int) -> None:
        self.cells = cells
        self._last = np.empty((sequences, cells + 1), dtype=np.int64)  # the last column is that of no cell
        self._memory = np.arange(sequences)[:, None]
        self.reset()

    def reset(self) -> None:
        """Forget all uses."""
        self._last[:] = np.arange(-self.cells, 1)
        self._time = 0

    def use(self, cells: np.ndarray) -> None:
        """As ``Recency.use``."""
        # where a cell is given twice, its last time stays
        self._last[self._memory, cells] = np.arange(self._time, self._time + cells.shape[1])
        self._time += cells.shape[1]

    def oldest(self, wanted: np.ndarray, most: int) -> np.ndarray:
        """As ``Recency.oldest``; at most ``most`` are wanted of a memory."""
        last = self._last[:, : self.cells]
        if most == 1:
            return np.where(wanted, last.argmin(axis=1)[:, None], -1)
        first = np.argpartition(last, most - 1, axis=1)[:, :most]
        order = first[self._memory, last[self._memory, first].argsort(axis=1)]
        turn = np.maximum(wanted.cumsum(axis=1) - 1, 0)  # how many places before this one want a cell
        return np.where(wanted, order[self._memory, turn], -1)


class _Queue:
    """The uses of one memory, in order: noting and asking take the same time for all N, on average.

    Args:
        cells: number of cells, N.
    """

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self.reset()

    def reset(self) -> None:
        """Forget all uses."""
        self._time = 0
        self._last: dict[int, int] = {}  # time of the last use of each used cell
        self._unused = 0  # cells below this number were used
        self._uses: deque[tuple[int, int]] = deque()  # cells and times of use, some of them outdated

    def use(self, cells: Iterable[int]) -> None:
        """Note that cells were used, the last one latest."""
        last, uses, time = self._last, self._uses, self._time
        for cell in cells:
            time += 1
            last[cell] = time
            uses.append((cell, time))
        self._time = time
        if len(uses) > 2 * self.cells + SPARE:
            self._uses = deque(use for use in uses if last[use[0]] == use[1])

    def oldest(self, count: int) -> Sequence[int]:
        """The ``count`` cells that were used longest ago, or never, oldest first; at most N."""
        last, uses = self._last, self._uses
        while self._unused < self.cells and self._unused in last:
            self._unused += 1
        found: list[int] = []
        for cell in range(self._unused, self.cells):
            if len(found) == count:
                return found
            if cell not in last:
                found.append(cell)
        while uses and last[uses[0][0]] != uses[0][1]:
            uses.popleft()
        for cell, time in uses:
            if len(found) == count:
                break
            if last[cell] == time:
                found.append(cell)
        return found
