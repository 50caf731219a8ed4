"""Finds cells of a memory that is written: a product over all cells, or an index per sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn.index.protocol import Index
from hmn.index.registry import make_index

MOST_NUMBERS = 1 << 24
"""Upper limit of the numbers in keys and of scores that exact search takes in one product."""


LEAST_REBUILT = 1000
"""Number of cells from which an index that began empty is built again as it grows."""


class Finder:
    """Which cells match, in each of S memories of N cells.

    A structure is made for the cells that it is built on. So an index that begins empty is built again
    whenever its cells have doubled, which costs each cell the same on average.

    Args:
        rows: ``(S, N, W)`` rows, which change in place; the first ``features`` of each are its key.
        features: features of a key, D.
        index: search structure, as text for ``make_index``.
        given: whether all cells can be found from the start.
    """

    def __init__(self, rows: Tensor, features: int, index: str, *, given: bool) -> None:
        self.rows, self.features, self.given = rows, features, given
        self.sequences, self.cells = rows.shape[:2]
        self._name = index
        self._held = torch.full((self.sequences, self.cells), given, dtype=torch.bool, device=rows.device)
        small = self.sequences * self.cells * features <= MOST_NUMBERS
        self._indexes: list[Index] | None = None
        self._next_build = [next_size(self.cells if given else 0)] * self.sequences
        if index != "exact" or not small:
            self._indexes = [self._made(number) for number in range(self.sequences)]
        # what exact search adds to scores: -inf where no cell is held (S, 1, N); None where all cells are
        self._added: Tensor | None = None
        if not given and self._indexes is None:
            self._added = rows.new_full((self.sequences, 1, self.cells), -torch.inf)
        self._reads: Tensor | None = None  # (S, 1) of exact search; None after a change

    def _keys(self, number: int, cells: Tensor | slice) -> Tensor:
        """A copy of keys ``(n, D)`` of a sequence, which an index may keep."""
        keys = self.rows[number, cells, : self.features]
        return keys.to(torch.float32, copy=True, memory_format=torch.contiguous_format)

    def _made(self, number: int) -> Index:
        index = make_index(self._name)
        index.build(self._keys(number, slice(None if self.given else 0)))
        return index

    def search(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The best cells ``(S, M, K)`` for queries ``(S, M, D)``, -1 where unused, and reads ``(S, M)``."""
        query = query.detach()
        if self._indexes is None:
            return self._search_all(query, k)
        found = [index.search(query[number], k) for number, index in enumerate(self._indexes)]
        device = self.rows.device
        cell = torch.stack([result.cell for result in found]).to(device)
        return cell, torch.stack([result.reads for result in found]).to(device)

    def _search_all(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Score every cell of every sequence."""
        keys, found = self.rows[:, :, : self.features].transpose(1, 2), []
        if self._reads is None:
            self._reads = self._held.sum(dim=1, keepdim=True).float() * (keys.element_size() / 4)
        at_a_time = max(MOST_NUMBERS // self._held.numel(), 1)
        for part in torch.split(query.to(keys.dtype), at_a_time, dim=1):
            score = part @ keys if self._added is None else torch.baddbmm(self._added, part, keys)
            score, cell = score.topk(min(k, self.cells), dim=2)  # (S, m, K)
            found.append(cell if self._added is None else cell.masked_fill(score == -torch.inf, -1))
        cell = torch.cat(found, dim=1)
        if k > self.cells:
            cell = torch.nn.functional.pad(cell, (0, k - self.cells), value=-1)
        return cell, self._reads.expand(*query.shape[:2])

    def follow(self, rows: Tensor) -> None:
        """File rows ``(n,)`` of all sequences, distinct, which were written."""
        if self._indexes is not None and self.sequences == 1:
            self._file(0, rows)
        elif self._indexes is not None:
            rows = rows.sort().values
            sizes = torch.bincount(rows // self.cells, minlength=self.sequences).tolist()
            for sequence, own in enumerate(torch.split(rows % self.cells, sizes)):
                if len(own):
                    self._file(sequence, own)
        self._hold(rows, True)

    def _hold(self, rows: Tensor, held: bool) -> None:
        """Note which rows ``(n,)`` can be found."""
        if not self.given:
            self._held.view(-1)[rows] = held
            if self._added is not None:
                self._added.view(-1)[rows] = 0.0 if held else -torch.inf
            self._reads = None

    def _file(self, number: int, cells: Tensor) -> None:
        """Add cells ``(n,)`` to the index of a sequence, or give them their new keys."""
        assert self._indexes is not None
        index = self._indexes[number]
        if self.given:
            index.update(cells, self._keys(number, cells))
            return
        held = self._held[number, cells]
        for own, change in ((cells[held], index.update), (cells[~held], index.add)):
            if len(own):
                change(own, self._keys(number, own))
        if index.has_structure and len(index) >= self._next_build[number]:
            self._held[number, cells] = True
            every = self._held[number].nonzero().squeeze(1)
            index.build(self._keys(number, every), every)
            self._next_build[number] = next_size(len(every))

    def reset(self, written: Tensor) -> None:
        """Follow rows ``(n,)`` that hold again what they held at first."""
        if self.given:
            self.follow(written)
            return
        self._hold(written, False)
        if self._indexes is not None:
            numbers = torch.unique(written // self.cells).tolist()
            for number in numbers:
                self._indexes[number] = self._made(number)
                self._next_build[number] = LEAST_REBUILT


def next_size(built: int) -> int:
    """Number of cells from which an index that was built on some is built again."""
    return max(2 * built, LEAST_REBUILT)
