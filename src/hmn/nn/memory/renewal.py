"""Chooses the cells of an encoded memory that are encoded again in each turn; after some turns, all were."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hmn.errors import ShapeError

READ_PART = 4
"""Renewed cells per cell that is taken from those just read; the other three come in order."""


class RollingRenewal:
    """Chooses a share of the cells in each turn: the next ones in order, and the stalest of those just read.

    The cost of a turn depends on its share, not on the number of cells: the next cells are a range, and
    staleness is looked up only for the cells that were read.

    Args:
        cells: number of cells, N.
        turns: number of turns over which about N cells are renewed: three quarters in order, a quarter from
            those just read.
    """

    def __init__(self, cells: int, turns: int) -> None:
        self.read_share = max(1, cells // (READ_PART * turns))
        self.share = max(1, -(-cells // turns) - self.read_share)
        self._renewed = torch.zeros(
            cells, dtype=torch.int64, device="cpu"
        )  # (N,) turn in which each cell was renewed last
        self._next, self._turn = 0, 0

    def due(self, read: Tensor) -> Tensor:
        """Begin the next turn: the cells ``(n,)`` to encode now, distinct.

        Args:
            read: ``(C,)`` distinct cells that were just read.
        """
        count = len(self._renewed)
        self._turn += 1
        turn = (self._next + torch.arange(min(self.share, count), device="cpu")) % max(1, count)
        self._next = (self._next + self.share) % max(1, count)
        self._renewed[turn] = self._turn
        read = read.cpu()
        stalest = self._renewed[read].argsort(stable=True)[: self.read_share]
        rest = read[stalest]
        rest = rest[self._renewed[rest] < self._turn]
        self._renewed[rest] = self._turn
        return torch.cat([turn, rest])

    def all_renewed(self) -> None:
        """Note that all cells were just encoded."""
        self._renewed.fill_(self._turn)

    def state(self) -> dict[str, Tensor]:
        """What ``load`` takes back."""
        return {"renewed": self._renewed, "next": self._renewed.new_tensor([self._next, self._turn])}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave.

        Raises:
            ShapeError: the state has another number of cells, or its numbers are out of range.
        """
        count, renewed, place = len(self._renewed), state["renewed"], state["next"]
        if renewed.shape != (count,):
            raise ShapeError(
                f"the state has {renewed.numel()} cells, expected {count}: load the one that was saved with "
                "this memory"
            )
        is_whole = renewed.dtype == place.dtype == torch.int64
        if not is_whole or place.shape != (2,) or not 0 <= int(place[0]) < max(1, count):
            raise ShapeError(
                f"the state goes on at {place.flatten()[:2].tolist()}, expected a cell below {count} and a "
                "turn: load the one that was saved with this memory"
            )
        self._renewed = renewed.clone()
        self._next, self._turn = (int(number) for number in place)
