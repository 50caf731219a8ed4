"""A memory whose cells are shared out among several processes, each with an index of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from hmn.distributed.collectives import Ranks
from hmn.distributed.rows import exchange_rows
from hmn.distributed.sharded_index import ShardedIndex, Shards
from hmn.errors import CellError, ConfigError, check_flag
from hmn.index.checks import as_ids, as_tensor
from hmn.index.protocol import Index
from hmn.nn.attention.scoring import checked_memory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.results import SearchResult


class ShardedCells(nn.Module):
    """The cells of all ranks: those of this rank are its parameters, those of others are fetched.

    A layer shows it as ``layer.memory``. ``rows_of``, ``keys_of`` and ``values_of`` must be called by every
    rank at the same time, with any cells or none. If the memory is trained, so must the backward pass.

    Attributes:
        shard: the cells of this rank, numbered from 0. Its parameters concern this rank alone.
        shards: which cells each rank holds.
        ranks: the processes.
    """

    def __init__(self, shard: Memory, shards: Shards, ranks: Ranks, average: bool) -> None:
        super().__init__()
        self.shard, self.shards, self.ranks, self.average = shard, shards, ranks, average
        self.indexed: tuple[IndexedMemory[Memory], ...] = ()  # hears which rows others read

    def __len__(self) -> int:
        """Number of cells of all ranks, N."""
        return self.shards.total

    @property
    def keys(self) -> Tensor:
        """The keys ``(n, D)`` of this rank's cells: the parameter or buffer itself."""
        return self.shard.keys

    @property
    def values(self) -> Tensor | None:
        """The values ``(n, V)`` of this rank's cells, if the memory has values."""
        return self.shard.values

    def keys_of(self, cells: Tensor) -> Tensor:
        """Live keys ``(..., D)`` of cells ``(...)`` of any rank; see ``rows_of``."""
        return self.rows_of(cells)[0]

    def values_of(self, cells: Tensor) -> Tensor:
        """Live values ``(..., V)`` of cells ``(...)`` of any rank: their keys if there are no values."""
        return self.rows_of(cells)[1]

    def snapshot(self) -> Tensor:
        """The keys ``(n, D)`` of this rank's cells, without gradients."""
        return self.shard.snapshot()

    def rows_of(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Live keys ``(..., D)`` and values ``(..., V)`` of cells ``(...)``: the keys twice without values.

        Each distinct cell is fetched once: 4 bytes go to the rank that holds it, and its key and value come
        back. In the backward pass their gradients return.

        Raises:
            CellError: a cell is not among 0 to N - 1; the other ranks raise a ``RankError`` that says so.
            RankError: another rank has failed.
        """
        ranks, shard = self.ranks, self.shard
        with ranks.together():
            cells = as_tensor(cells, "cells")
            distinct, place = torch.unique(as_ids(cells.flatten()), return_inverse=True)
            if len(distinct) and (int(distinct[0]) < 0 or int(distinct[-1]) >= len(self)):
                bad = int(distinct[0]) if int(distinct[0]) < 0 else int(distinct[-1])
                raise CellError(f"there is no cell {bad}, expected cells from 0 to {len(self) - 1}")
            owner = self.shards.owner(distinct)
            first = torch.tensor(self.shards.first, device=distinct.device)
            wanted = (distinct - first[owner]).to(torch.int32)
            wanted_of = torch.bincount(owner, minlength=ranks.size).tolist()
            rows, counts = ranks.exchange(wanted, wanted_of, "cells to read")
            rows = rows.long()
            parts = [shard.keys_of(rows)] + ([] if shard.values is None else [shard.values_of(rows)])
            if shard.keys.requires_grad and torch.is_grad_enabled():  # the next step moves them
                for indexed in self.indexed:
                    indexed.mark_read(rows)
            step = "keys and values" if shard.values is not None else "keys"
            fetched = exchange_rows(ranks, parts, counts, step, average=self.average)
        keys, *values = (part[place].view(*cells.shape, part.shape[1]) for part in fetched)
        return keys, values[0] if values else keys


class ShardedMemory:
    """A stored memory over several processes, with its indexes: an ``IndexedMemory`` for layers.

    Each rank holds some of the cells, as parameters or buffers of its own, and an index of them. Cells are
    numbered over all ranks, those of rank 0 first. ``search`` asks every rank and merges the best exactly;
    reading fetches the keys and values of the cells that were found, and gradients go back to the ranks that
    hold them. Nothing that is sent depends on N. A rank may hold no cells.

    Every rank makes it, and calls ``search`` and the layers that read it, at the same time and equally often,
    each with queries of its own; a batch may be empty. Call ``keep_shards`` on a model before wrapping it in
    ``DistributedDataParallel``. Put ``with sharded.ranks.together():`` around each
    training step: if one rank raises an error, all others then raise one that names it.

    Args:
        memory: the cells of this rank. An optimiser of this rank trains them: give it
            ``sharded.memory.parameters()``.
        index: search structure of this rank, or its name as ``make_index`` takes it; exact search if not
            given.
        ranks: the processes; all of ``torch.distributed`` if not given.
        average: whether gradients are divided by the number of ranks, as ``DistributedDataParallel`` does
            with those of other parameters. They are summed otherwise.
        refiled: upper limit of moved cells that the index files again per step; see ``IndexedMemory``.
        seed: seed of that draw.

    Attributes:
        indexed: the cells of this rank, with their index.

    Raises:
        ConfigError: the ranks' memories differ in features, type, values or training, or a setting is wrong.
        RankError: another rank has failed.
    """

    def __init__(
        self,
        memory: Memory,
        index: Index | str | None = None,
        *,
        ranks: Ranks | None = None,
        average: bool = False,
        refiled: int | None = None,
        seed: int = 0,
    ) -> None:
        ranks = Ranks() if ranks is None else ranks
        with ranks.together():
            checked_memory(memory)
            check_flag("average", average)
            self.indexed = IndexedMemory(memory, index, refiled=refiled, seed=seed)
            shards = _agree(memory, average, ranks)
        self._memory = ShardedCells(memory, shards, ranks, average)
        self._memory.indexed = (self.indexed,)
        self.ranks = ranks

    @property
    def memory(self) -> ShardedCells:
        """The cells of all ranks; this rank's are its parameters."""
        return self._memory

    @memory.setter
    def memory(self, _: object) -> None:
        raise ConfigError(
            "the memory of a ShardedMemory is not replaced: make another ShardedMemory, on every rank"
        )

    @property
    def index(self) -> Index:
        """The search structure of this rank."""
        return self.indexed.index

    def __len__(self) -> int:
        """Number of cells of all ranks, N."""
        return len(self.memory)

    def search(self, query: Tensor, k: int) -> SearchResult:
        """Find the ``k`` best cells of all ranks for each query ``(B, D)``; see ``ShardedIndex.search``."""
        return self.in_step().search(query, k)

    def in_step(self, *, training: bool = False) -> ShardedIndex:
        """The indexes of all ranks as one; this rank's has caught up with its memory.

        Args:
            training: whether it may lag behind; see ``IndexedMemory.in_step``.
        """
        with self.ranks.together():
            shard = self.indexed.in_step(training=training)
        return ShardedIndex(shard, self.memory.shards, self.memory.snapshot().shape[1], self.ranks)

    def attach(self, layer: nn.Module) -> None:
        """Note that ``layer`` reads this memory. Nothing follows from it: the cells are not replaced."""

    def mark_read(self, cells: Tensor) -> None:
        """Note that cells ``(n,)`` were read in training: those of this rank."""
        self.indexed.mark_read(self._own(cells))

    def refresh(self, cells: Tensor | None = None) -> None:
        """File cells of this rank whose keys have changed; other ranks' are left to them.

        Args:
            cells: ``(n,)`` cells whose keys changed; as ``IndexedMemory.refresh`` finds them if not given.
        """
        self.indexed.refresh(None if cells is None else self._own(cells))

    def follow(self, optimizer: Optimizer) -> RemovableHandle:
        """Call ``refresh`` after each step of this rank's optimiser. See ``IndexedMemory.follow``."""
        return self.indexed.follow(optimizer)

    def rebuild(self) -> None:
        """Build the index of this rank from scratch."""
        self.indexed.rebuild()

    def load_index(self, state: Mapping[str, Tensor], keys: Tensor | None = None) -> None:
        """Take back what ``index.state_dict`` of this rank returned. See ``IndexedMemory.load_index``."""
        self.indexed.load_index(state, keys)

    def _own(self, cells: Tensor) -> Tensor:
        """Rows ``(m,)`` of this rank among cells ``(n,)`` of any."""
        rows = as_ids(cells) - self.memory.shards.first[self.ranks.rank]
        return rows[(rows >= 0) & (rows < len(self.memory.shard))]


def keep_shards(model: nn.Module) -> None:
    """Make ``DistributedDataParallel`` leave the shards of a model's memories alone. Call it before wrapping.

    Otherwise it would give every rank the cells of rank 0, and sum gradients of different cells. Give the
    memories ``average=True``: their gradients are then scaled as it scales all others.
    """
    shards = [(name, part) for name, part in model.named_modules() if isinstance(part, ShardedCells)]
    names = [
        f"{prefix}.{name}" if prefix else name
        for prefix, part in shards
        for name, _ in [*part.named_parameters(), *part.named_buffers()]
    ]
    ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    ignore(model, names)  # type: ignore[no-untyped-call]


def _agree(memory: Memory, average: bool, ranks: Ranks) -> Shards:
    """The shards of all ranks.

    Raises:
        ConfigError: a rank's memory is of another kind than that of rank 0.
    """
    values: Any = memory.values
    has = (tuple(memory.keys.shape[1:]), memory.keys.dtype, memory.keys.requires_grad, average)
    has_values = None if values is None else (tuple(values.shape[1:]), values.dtype, values.requires_grad)
    own = torch.tensor([[len(memory), crc32(repr((has, has_values)).encode())]], device="cpu")
    every, _ = ranks.gather(own, "numbers of cells")  # (W, 2)
    differs = (every[:, 1] != every[0, 1]).nonzero().flatten().tolist()
    if differs:
        raise ConfigError(
            f"the memory of rank {differs[0]} differs from that of rank 0 in features, type, values or "
            f"training, expected the same on every rank: rank {ranks.rank} has keys of {has[0][0]} features "
            f"in {has[1]}"
        )
    return Shards.of(every[:, 0].tolist())
