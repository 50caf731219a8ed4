"""Cells of question answering that are divided among ranks, for a program that all ranks run alike."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hmn.distributed.collectives import Ranks
from hmn.distributed.sharded_index import Shards
from hmn.distributed.sharded_memory import ShardedMemory
from hmn.index.registry import make_index
from hmn.nn.memory.encoded import EncodedMemory

CELLS_AT_A_TIME = 1 << 14
"""Cells that are encoded, or sent, at a time."""


class CellsOverRanks(EncodedMemory):
    """Encoded cells of which each rank keeps and searches the keys of its own.

    All ranks have the same encoder, whose weights, tables and names are replicated, and ask the same
    questions at the same time. So a program reads it as it reads any ``EncodedMemory``, and has the same
    results on every rank. Gradients must be averaged over the ranks: see ``sum_gradients``.

    Args:
        encoder: encoder of all N cells.
        index: search structure of each rank, as ``make_index`` takes it.
        ranks: the processes.

    Attributes:
        indexed: the memory with its indexes, for readers and networks.
        ranks: the processes.
    """

    def __init__(self, encoder: nn.Module, index: str, ranks: Ranks) -> None:
        super().__init__(encoder)
        self.ranks = ranks
        part = EncoderPart(encoder, ranks)
        self.indexed = IndexedCells(self, EncodedMemory(part), index, ranks)
        self._first, self._index = part.first, index

    @property
    def shards(self) -> Shards:
        """Which cells each rank holds."""
        return self.indexed.divided.shards

    def keys_of(self, cells: Tensor) -> Tensor:
        """Live keys ``(..., D)`` of cells ``(...)``, each encoded by the rank that holds it."""
        return self.indexed.divided.keys_of(cells)

    def rows_of(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """See ``RemoteMemory.rows_of``: the keys twice."""
        return self.indexed.divided.rows_of(cells)

    def own_rows(self, cells: Tensor) -> Tensor:
        """Rows ``(m,)`` of this rank, numbered from 0, among cells ``(n,)`` of any rank."""
        return self.indexed.divided.own_rows(cells)

    def snapshot(self) -> Tensor:
        """Keys ``(n, D)`` of this rank's cells as of the last renewal."""
        return self.indexed.divided.snapshot()

    def snapshot_of(self, cells: Tensor) -> Tensor:
        """Keys ``(..., D)`` of cells ``(...)`` of any rank as of the last renewal, without gradients."""
        return self.indexed.divided.snapshot_of(cells)

    def renew(self, cells: Tensor | None = None) -> Tensor:
        """Encode cells ``(n,)`` of any rank again, or all: each rank those that it holds."""
        training = self.encoder.training
        try:
            return self.indexed.divided.renew(cells)
        finally:
            self.encoder.train(training)

    @property
    def own(self) -> slice:
        """This rank's cells among all N."""
        return slice(self._first, self._first + len(self._shard))

    def restore(self, snapshot: Tensor) -> None:
        """Take saved keys ``(N, D)`` instead of encoding the cells: this rank's among them."""
        self.restore_own(snapshot[self.own].clone())

    def restore_own(self, keys: Tensor) -> None:
        """Take saved keys ``(n, D)`` of this rank's cells."""
        self._shard.restore(keys)

    def structure_of(self, keys: Tensor) -> dict[str, Tensor] | None:
        """What is saved of an index of all keys ``(N, D)``, for one machine; None if it has no structure."""
        index = make_index(self._index)
        if not index.has_structure:
            return None
        index.build(keys)
        return index.state_dict(with_keys=False)

    def gathered(self) -> Tensor:
        """Keys ``(N, D)`` of all cells as of the last renewal, on rank 0; ``(0, D)`` on the others."""
        own, most = self.snapshot(), max(self.shards.counts)
        parts: list[list[Tensor]] = [[] for _ in self.shards.counts]
        for first in range(0, most, CELLS_AT_A_TIME):
            rows = own[first : first + CELLS_AT_A_TIME]
            came, counts = self.ranks.exchange(
                rows, [len(rows)] + [0] * (self.ranks.size - 1), "keys to be saved"
            )
            for part, piece in zip(parts, torch.split(came, counts), strict=True):
                part.append(piece)
        return torch.cat([own[:0], *(piece for part in parts for piece in part)])

    @property
    def _shard(self) -> EncodedMemory:
        shard = self.indexed.divided.shard
        assert isinstance(shard, EncodedMemory)
        return shard


class EncoderPart(nn.Module):
    """The part of an encoder's cells that a rank holds, as an encoder of its own: an even share of them.

    Attributes:
        first: number of the first of them among all cells.
        num_cells: their number.
    """

    def __init__(self, encoder: nn.Module, ranks: Ranks) -> None:
        super().__init__()
        self.encoder = encoder
        total: int = encoder.num_cells  # type: ignore[assignment]
        bounds = [total * rank // ranks.size for rank in (ranks.rank, ranks.rank + 1)]
        self.first, self.num_cells = bounds[0], bounds[1] - bounds[0]

    def forward(self, cells: Tensor) -> Tensor:
        """Keys ``(C, D)`` of cells ``(C,)``, numbered from 0."""
        keys: Tensor = self.encoder(cells + self.first)
        return keys

    def all_keys(self) -> Iterator[Tensor]:
        """Keys of all cells of this rank, in parts; one part without keys if it holds none."""
        for cells in torch.split(torch.arange(self.num_cells, device="cpu"), CELLS_AT_A_TIME):
            yield self(cells)


class IndexedCells(ShardedMemory):
    """The indexes of ``CellsOverRanks``.

    Attributes:
        divided: the cells, each fetched from the rank that holds it.
    """

    def __init__(self, cells: CellsOverRanks, own: EncodedMemory, index: str, ranks: Ranks) -> None:
        super().__init__(own, index, ranks=ranks)
        self.divided = super().memory
        self._cells = (cells,)  # not a part of itself

    @property  # type: ignore[misc]
    def memory(self) -> CellsOverRanks:  # type: ignore[override]
        """The cells of all ranks, as a network reads them."""
        return self._cells[0]
