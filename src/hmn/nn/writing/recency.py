"""Which cells of a memory were used longest ago."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

SPARE = 1024
"""Number of outdated uses that are kept, beyond as many as there are cells."""


class Recency:
    """The order in which N cells were last used; at first that of their numbers.

    Noting a use and finding the cell used longest ago both take constant time, on average over the calls.

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

    def oldest(self, count: int) -> list[int]:
        """The ``count`` cells that were used longest ago, or never, oldest first; at most N.

        They are not noted as used.
        """
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
