"""A memory whose cells are shared out among several processes, each with an index of its own."""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from hmn.distributed.collectives import Ranks, checked_ranks
from hmn.distributed.rows import exchange_rows
from hmn.distributed.sharded_index import ShardedIndex, Shards
from hmn.distributed.shared_clusters import SharedClusters
from hmn.errors import CellError, ConfigError, check_flag
from hmn.index.allowed import Allowed
from hmn.index.checks import as_ids, as_tensor
from hmn.index.protocol import Index
from hmn.index.structures.cluster import ClusterIndex
from hmn.nn.attention.scoring import checked_either
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.ring.memory import RingMemory
from hmn.nn.memory.stored import Memory
from hmn.nn.reader import log_total
from hmn.results import SearchResult


class ShardedCells(nn.Module):
    """The cells of all ranks: each rank holds its own, those of others are fetched.

    A layer shows it as ``layer.memory``. ``rows_of``, ``keys_of`` and ``values_of`` must be called by every
    rank at the same time, with any cells or none. If the memory is trained, so must the backward pass.

    Attributes:
        shard: the cells of this rank, numbered from 0. The parameters of stored cells concern this rank
            alone; those of an encoder are replicated on every rank.
        shards: which cells each rank holds.
        ranks: the processes.
    """

    def __init__(self, shard: Memory | EncodedMemory, shards: Shards, ranks: Ranks, average: bool) -> None:
        super().__init__()
        self.shard, self.shards, self.ranks = shard, shards, ranks
        # gradients of an encoder are summed or averaged with those of other replicated parameters
        self.average = average and isinstance(shard, Memory)
        self.indexed: tuple[IndexedMemory[Memory | EncodedMemory], ...] = ()  # hears which rows others read

    def __len__(self) -> int:
        """Number of cells of all ranks, N."""
        return self.shards.total

    @property
    def keys(self) -> Tensor:
        """The keys ``(n, D)`` of this rank's stored cells: the parameter or buffer itself."""
        keys: Tensor = self.shard.keys  # type: ignore[assignment]
        return keys

    @property
    def values(self) -> Tensor | None:
        """The values ``(n, V)`` of this rank's cells, if the memory has values."""
        return self.shard.values if isinstance(self.shard, Memory) else None

    def keys_of(self, cells: Tensor) -> Tensor:
        """Live keys ``(..., D)`` of cells ``(...)`` of any rank; see ``rows_of``."""
        return self._fetched(cells, ("keys",))[0]

    def values_of(self, cells: Tensor) -> Tensor | None:
        """Live values ``(..., V)`` of cells ``(...)``: keys if there are none, None of encoded cells."""
        if isinstance(self.shard, EncodedMemory):
            return None
        return self._fetched(cells, ("keys" if self.values is None else "values",))[0]

    def snapshot(self) -> Tensor:
        """The keys ``(n, D)`` of this rank's cells that its index searches, without gradients."""
        return self.shard.snapshot()

    def snapshot_of(self, cells: Tensor) -> Tensor:
        """Keys ``(..., D)`` of cells ``(...)`` of any rank as its index searches them, without gradients."""
        with torch.no_grad():
            return self._fetched(cells, ("snapshot",))[0]

    def renew(self, cells: Tensor | None = None) -> Tensor:
        """Encode cells of this rank again into its snapshot ``(n, D)``; other ranks' are left to them.

        Args:
            cells: ``(m,)`` cells of any rank; all of this rank if not given.

        Raises:
            ConfigError: the cells are stored, not encoded.
        """
        shard = self.shard
        if not isinstance(shard, EncodedMemory):
            raise ConfigError("the cells are stored rows, which need no renewal: call refresh() instead")
        return shard.renew(None if cells is None else self.own_rows(cells))

    def own_rows(self, cells: Tensor) -> Tensor:
        """Rows ``(m,)`` of this rank, numbered from 0, among cells ``(n,)`` of any rank."""
        rows = as_ids(cells) - self.shards.first[self.ranks.rank]
        return rows[(rows >= 0) & (rows < len(self.shard))]

    def rows_of(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Live keys ``(..., D)`` and values ``(..., V)`` of cells ``(...)``: the keys twice without values.

        Each distinct cell is fetched once: 4 bytes go to the rank that holds it, and its key and value come
        back; encoded cells are encoded there, each once for all ranks. In the backward pass their gradients
        return.

        Raises:
            CellError: a cell is not among 0 to N - 1; the other ranks raise a ``RankError`` that says so.
            RankError: another rank has failed.
        """
        keys, *values = self._fetched(cells, ("keys",) if self.values is None else ("keys", "values"))
        return keys, values[0] if values else keys

    def _fetched(self, cells: Tensor, names: tuple[str, ...]) -> list[Tensor]:
        """Keys, values or both, or the snapshot ``(..., F)`` of cells ``(...)``, from their ranks."""
        ranks = self.ranks
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
            parts, step = self._read(rows.long(), names), " and ".join(names)
            fetched = exchange_rows(ranks, parts, counts, step, average=self.average)
        return [part[place].view(*cells.shape, part.shape[1]) for part in fetched]

    def _read(self, rows: Tensor, names: tuple[str, ...]) -> list[Tensor]:
        """Rows ``(n, F)`` by their names, of rows ``(n,)`` of this rank that any rank asked for."""
        shard = self.shard
        if names == ("snapshot",):
            return [shard.snapshot_of(rows)]
        if isinstance(shard, EncodedMemory):  # without rows, too: its weights then get gradients of zero
            distinct, place = torch.unique(rows, return_inverse=True)
            return [shard.keys_of(distinct)[place]]
        if shard.keys.requires_grad and torch.is_grad_enabled():  # the next step moves them
            for indexed in self.indexed:
                indexed.mark_read(rows)
        return [shard.keys_of(rows) if name == "keys" else shard.values_of(rows) for name in names]


class ShardedMemory:
    """A memory over several processes, with its indexes: an ``IndexedMemory`` for layers.

    Each rank holds some of the cells, and an index of them. Cells are numbered over all ranks, those of rank
    0 first. ``search`` asks every rank and merges the best exactly; reading fetches the keys and values of
    the cells that were found, and gradients go back to the ranks that hold them. None of this depends on N.
    A rank may hold no cells.

    Stored cells (``Memory``) are parameters or buffers of their rank. Encoded cells (``EncodedMemory``) are
    encoded by the rank that holds them: its encoder has these cells alone, and the same weights as those of
    the other ranks. Give the encoders equal weights at first, and sum their gradients in each step with
    ``sum_gradients``, or by ``DistributedDataParallel``. Snapshots and their renewal are each rank's own.

    Every rank makes it, and calls ``search`` and the layers that read it, at the same time and equally often,
    each with queries of its own; a batch may be empty. Call ``keep_shards`` on a model before wrapping it in
    ``DistributedDataParallel``. Put ``with sharded.ranks.together():`` around each training step: if one rank
    raises an error, all others then raise one that names it.

    Args:
        memory: the cells of this rank, stored or encoded. An optimiser of this rank trains them: give it
            ``sharded.memory.parameters()``.
        index: search structure of this rank, or its name as ``make_index`` takes it; exact search if not
            given.
        ranks: the processes; all of ``torch.distributed`` if not given.
        average: whether gradients of stored cells are divided by the number of ranks, as
            ``DistributedDataParallel`` does with those of other parameters. They are summed otherwise.
        refiled: upper limit of moved cells that the index files again per step; see ``IndexedMemory``.
        seed: seed of that draw.

    Attributes:
        indexed: the cells of this rank, with their index.

    Raises:
        ConfigError: the ranks' memories differ in features, type, values or training, or their encoders in
            parameters; the memory is a ring; or a setting is wrong.
        RankError: another rank has failed.
    """

    def __init__(
        self,
        memory: Memory | EncodedMemory,
        index: Index | str | None = None,
        *,
        ranks: Ranks | None = None,
        average: bool = False,
        refiled: int | None = None,
        seed: int = 0,
    ) -> None:
        ranks = checked_ranks(ranks)
        with ranks.together():
            _check_not_ring(checked_either(memory))
            check_flag("average", average)
            self.indexed = IndexedMemory(memory, index, refiled=refiled, seed=seed)
            shards = _agree(memory, average, ranks)
            self.shared: SharedClusters | None = None
            kind = type(self.indexed.index).__name__
            ranks.check_same(kind.encode(), "the kind of their indexes")
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
        return len(self._memory)

    def search(self, query: Tensor, k: int, allowed: Allowed | None = None) -> SearchResult:
        """Find the ``k`` best cells of all ranks for each query ``(B, D)``; see ``ShardedIndex.search``."""
        return self.in_step().search(query, k, allowed)

    def in_step(self, *, training: bool = False) -> ShardedIndex:
        """The indexes of all ranks as one; this rank's has caught up with its memory.

        Args:
            training: whether it may lag behind; see ``IndexedMemory.in_step``.
        """
        ranks, shards = self.ranks, self._memory.shards
        with ranks.together():
            shared = self._clusters(ranks)
            if shared is not None and not shared.are_made:
                shared.make()
            shard = self.indexed.in_step(training=training)
        return ShardedIndex(shard, shards, self._memory.snapshot().shape[1], ranks, shared)

    def _clusters(self, ranks: Ranks) -> SharedClusters | None:
        """The clusters that the indexes of all ranks share, if they have any."""
        if ranks.size == 1 or not isinstance(self.index, ClusterIndex):
            return None
        if self.shared is None or self.shared.index is not self.index:
            self.shared = SharedClusters(self.indexed, ranks)
        return self.shared

    def log_total(self, query: Tensor) -> Tensor:
        """Log of the sum of ``exp(score)`` over the snapshots of all ranks, for queries ``(B, D)``: ``(B,)``.

        It is the normaliser of a softmax over all cells. Each rank adds up its own, and the sums are merged.
        """
        ranks = self.ranks
        with ranks.together():
            asked, counts = ranks.gather(query.detach(), "queries for all cells")
            own = log_total(self._memory.shard, asked)  # (sum of B,)
            came, _ = ranks.exchange(own, counts, "sums over cells")
            return torch.logsumexp(came.view(ranks.size, -1), dim=0)

    def attach(self, layer: nn.Module) -> None:
        """Note that ``layer`` reads this memory. Nothing follows from it: the cells are not replaced."""

    def mark_read(self, cells: Tensor) -> None:
        """Note that cells ``(n,)`` were read in training: those of this rank."""
        self.indexed.mark_read(self._memory.own_rows(cells))

    def refresh(self, cells: Tensor | None = None) -> None:
        """File cells of this rank whose keys have changed; other ranks' are left to them.

        Args:
            cells: ``(n,)`` cells whose keys changed; as ``IndexedMemory.refresh`` finds them if not given.
        """
        self.indexed.refresh(None if cells is None else self._memory.own_rows(cells))

    def add(self, rows: Tensor) -> None:
        """File cells that the encoder of this rank has now and had not before. See ``IndexedMemory.add``.

        Every rank calls it. Numbers of the cells of later ranks move up by as many: add to the last rank if
        they must not.

        Args:
            rows: ``(n,)`` new cells of this rank, counted from its first cell; none on most ranks.
        """
        with self.ranks.together():
            self.indexed.add(rows)
            self._memory.shards = _agree(self._memory.shard, self._memory.average, self.ranks)

    def remove(self, cells: Tensor) -> None:
        """Take cells ``(n,)`` of this rank out of its index; other ranks' are left to them."""
        self.indexed.remove(self._memory.own_rows(cells))

    def refile(self) -> None:
        """File every cell of this rank by its present key. See ``IndexedMemory.refile``."""
        self.indexed.refile()

    def follow(self, optimizer: Optimizer) -> RemovableHandle:
        """Call ``refresh`` after each step of this rank's optimiser. See ``IndexedMemory.follow``."""
        return self.indexed.follow(optimizer)

    def rebuild(self) -> None:
        """Build the index of this rank from scratch.

        Clusters that all ranks share are made at the next search, or made again.
        """
        shared = self._clusters(self.ranks)
        if shared is None or shared.are_made:
            self.indexed.rebuild()

    def load_index(self, state: Mapping[str, Tensor], keys: Tensor | None = None) -> None:
        """Take back what ``index.state_dict`` of this rank returned. See ``IndexedMemory.load_index``."""
        self.indexed.load_index(state, keys)


def _check_not_ring(memory: Memory | EncodedMemory) -> None:
    """Refuse a ring, the number of whose cells changes."""
    if isinstance(memory, RingMemory):
        raise ConfigError(
            "memory is RingMemory, whose cells grow in number, expected hmn.Memory or hmn.EncodedMemory: "
            "give each rank a ring of its own, and read it with hmn.KMIPSAttention"
        )


def _agree(memory: Memory | EncodedMemory, average: bool, ranks: Ranks) -> Shards:
    """The shards of all ranks.

    Raises:
        ConfigError: a rank's memory is of another kind than that of rank 0.
    """
    likeness, expected = _likeness(memory)
    has = crc32(repr((likeness, average)).encode())
    own = torch.tensor([[len(memory), has]], device="cpu")
    every, _ = ranks.gather(own, "numbers of cells")  # (W, 2)
    differs = (every[:, 1] != every[0, 1]).nonzero().flatten().tolist()
    if differs:
        raise ConfigError(
            f"the memory of rank {differs[0]} differs from that of rank 0 in {expected}, expected the same "
            f"on every rank: rank {ranks.rank} has {_described(memory)}"
        )
    return Shards.of(every[:, 0].tolist())


def _likeness(memory: Memory | EncodedMemory) -> tuple[object, str]:
    """What must be the same on every rank, and in words."""
    if isinstance(memory, EncodedMemory):
        weights = [
            (name, tuple(each.shape), each.dtype, each.requires_grad)
            for name, each in memory.encoder.named_parameters()
        ]
        return weights, "the parameters of its encoder"
    tables = [memory.keys] + ([] if memory.values is None else [memory.values])
    kinds = [(tuple(table.shape[1:]), table.dtype, table.requires_grad) for table in tables]
    return kinds, "features, type, values or training"


def _described(memory: Memory | EncodedMemory) -> str:
    if isinstance(memory, Memory):
        return f"keys of {memory.keys.shape[1]} features in {memory.keys.dtype}"
    weights = list(memory.encoder.parameters())
    count = sum(each.numel() for each in weights)
    return (
        f"an encoder with {len(weights)} parameters of {count} numbers; keep what belongs to cells in buffers"
    )
