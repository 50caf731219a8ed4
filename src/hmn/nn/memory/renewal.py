"""Which cells of an encoded memory are encoded again now and then: all of them within a number of turns."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hmn.errors import ShapeError

READ_PART = 4
"""One of so many cells that are renewed is of those just read."""


class RollingRenewal:
    """Chooses a rolling share of the cells: the next ones in turn, and of those just read the most stale.

    A turn costs what its share costs, whatever the number of cells: cells in turn are a range, and staleness
    is looked up for the cells that were read.

    Args:
        cells: N.
        turns: as many cells are renewed in so many turns as there are: three of four in order, the others
            of those just read.
    """

    def __init__(self, cells: int, turns: int) -> None:
        self.read_share = max(1, cells // (READ_PART * turns))
        self.share = max(1, -(-cells // turns) - self.read_share)
        self._renewed = torch.zeros(cells, dtype=torch.int64)  # (N,) turn at which each was
        self._next, self._turn = 0, 0

    def due(self, read: Tensor) -> Tensor:
        """Cells ``(n,)`` to encode now, distinct; the next turn begins.

        Args:
            read: ``(C,)`` distinct cells that were read just now.
        """
        count = len(self._renewed)
        self._turn += 1
        turn = (self._next + torch.arange(min(self.share, count))) % max(1, count)
        self._next = (self._next + self.share) % max(1, count)
        self._renewed[turn] = self._turn
        read = read.cpu()
        stalest = self._renewed[read].argsort(stable=True)[: self.read_share]
        rest = read[stalest]
        rest = rest[self._renewed[rest] < self._turn]
        self._renewed[rest] = self._turn
        return torch.cat([turn, rest])

    def all_renewed(self) -> None:
        """Note that all cells were encoded just now."""
        self._renewed.fill_(self._turn)

    def state(self) -> dict[str, Tensor]:
        """What ``load`` takes back."""
        return {"renewed": self._renewed, "next": torch.tensor([self._next, self._turn])}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave.

        Raises:
            ShapeError: it is of another number of cells.
        """
        if state["renewed"].shape != self._renewed.shape:
            got, wanted = len(state["renewed"]), len(self._renewed)
            raise ShapeError(f"the renewal is of {got} cells, expected {wanted}: load that of this memory")
        self._renewed = state["renewed"].clone()
        self._next, self._turn = (int(one) for one in state["next"])
