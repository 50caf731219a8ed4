"""Clusters that the indexes of all ranks share: what to search is chosen once per query."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import lt
from typing import NamedTuple
from zlib import crc32

import torch
from safetensors.torch import load, save
from torch import Tensor

from hmn._native.level import Begin
from hmn.distributed.collectives import Ranks
from hmn.distributed.rows import packed, unpacked
from hmn.errors import NotFittedError
from hmn.index.precision import own_arithmetic
from hmn.index.structures.cluster import ClusterIndex
from hmn.index.structures.cluster_levels import Levels
from hmn.nn.memory.growing import gaps_of, held_cells
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.parts import CellMemory
from hmn.nn.settings import GOLDEN
from hmn.results import SearchResult

COUNTED, MADE = 1, 2
"""Notes of a rank: its clusters have other numbers of cells than before; or they must be made again."""
SLACK = 1.25
"""Cells that each shard scores in full beyond its share of them, in square roots of that share.

In 200,000 cells divided at random among 2, 4 and 8 shards, as many of the best are found then as in one index
that scores 24 in full, within 0.0002."""


class OverRanks:
    """Points that all ranks hold together; see ``Sharing``.

    Args:
        ranks: the processes.
        device: device of the points.
    """

    alone = False

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        self.ranks, self.device = ranks, device

    def gathered(self, rows: Tensor) -> Tensor:
        """See ``Sharing.gathered``."""
        return self.ranks.gather(rows, "points of clusters")[0]

    def total(self, numbers: Tensor) -> Tensor:
        """See ``Sharing.total``: each rank adds up a part of the numbers, and gets the other sums."""
        size, step = self.ranks.size, "sums of clusters"
        counts = [len(part) for part in torch.tensor_split(numbers, size)]
        came, _ = self.ranks.exchange(numbers, counts, step)
        sums = came.view(size, counts[self.ranks.rank], *numbers.shape[1:]).sum(dim=0, dtype=numbers.dtype)
        return self.ranks.gather(sums, step)[0]

    def of_first(self, work: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
        """See ``Sharing.of_first``: the work may take longer than the time limit of an exchange."""

        def made() -> bytes:
            return save({f"{number:03d}": part.contiguous().cpu() for number, part in enumerate(work())})

        tensors = load(self.ranks.from_first(made, "clusters of clusters"))
        return [tensors[name].to(self.device) for name in sorted(tensors)]


class Way(NamedTuple):
    """The clusters that queries search.

    Attributes:
        found: ``(B, P)`` clusters in place of cells, of the queries of this rank.
        asked: queries of all ranks, ``(Q, D)``.
        begin: their clusters, ``(Q, P)``.
        counts: number of queries of each rank.
    """

    found: SearchResult
    asked: Tensor
    begin: Begin
    counts: list[int]


class SharedClusters:
    """Clusters of the cells of all ranks. Each rank files its own cells in them.

    The rank of a query chooses which clusters to search, and all search their cells in these. So together
    they read what one index would read. All ranks must make the same calls at the same time.

    The clusters are made again where a rank has filed all of its cells again, as after more than half have
    changed. They are kept where every rank has loaded an index with the same ones.

    Args:
        indexed: the cells of this rank, with their index.
        ranks: the processes.
    """

    def __init__(self, indexed: IndexedMemory[CellMemory], ranks: Ranks) -> None:
        self.indexed, self.ranks = indexed, ranks
        self.are_made = False
        self._counted: Levels | None = None
        self._changes = 0  # of the cells that were counted
        self._own = self._all = torch.empty(0, dtype=torch.int32, device="cpu")  # (C,) cells per cluster
        self._held: list[Tensor] = []
        self._share = 1.0  # of all cells that are here

    @property
    def index(self) -> ClusterIndex:
        """The index of this rank."""
        index = self.indexed.index
        assert isinstance(index, ClusterIndex)
        return index

    def settings(self) -> bytes:
        """What must be the same on every rank."""
        index = self.index
        return repr((index.num_clusters, index.iterations, index.seed, index.reduction.name)).encode()

    @torch.no_grad()
    @own_arithmetic
    def make(self) -> None:
        """Make the clusters, unless every rank has the same ones by now."""
        index, ranks = self.index, self.ranks
        every, _ = ranks.gather(torch.tensor([self._checksum()], device="cpu"), "clusters of the indexes")
        if bool((every == every[0]).all()) and int(every[0]):
            index.given = index.levels.clusters
        else:
            memory = self.indexed.memory
            keys = memory.snapshot()
            if gaps_of(memory):
                keys = keys[held_cells(memory, keys.device)]
            generator = torch.Generator("cpu").manual_seed((index.seed + ranks.rank * GOLDEN) % (1 << 63))
            index.given, _ = index.cluster(keys, generator, OverRanks(ranks, keys.device))
            self.indexed.rebuild()
            index.is_refiled = False
        self.are_made = True
        self._count()

    def way(self, query: Tensor, k: int, probes: tuple[int, ...]) -> Way:
        """Choose the clusters of queries ``(B, D)`` of this rank, and hear of those of all ranks.

        Args:
            query: ``(B, D)``.
            k: results per query.
            probes: clusters to enter at each level.
        """
        ranks = self.ranks
        while True:
            index, note = self.index, self._note()
            clusters = index.levels.clusters if index.given is None else index.given
            found = clusters.search(query.to(clusters.centroid.device), probes, self._held)
            count = found.cell.shape[1]
            rows = packed([query, found.cell.to(torch.int32), found.score])
            step = f"queries for {k} cells each in {count} clusters"
            came, counts = ranks.gather(rows, step, note=note)
            if not ranks.noted:
                kinds = [(torch.float32, query.shape[1]), (torch.int32, count), (torch.float32, count)]
                asked, cluster, base = unpacked(came, kinds)
                return Way(found, asked, Begin(cluster.long(), base), counts)
            if ranks.noted & MADE:
                self.make()
            else:
                self._count()

    def search(self, way: Way, k: int) -> SearchResult:
        """The ``k`` best cells of this rank for the queries of all ranks, in the clusters chosen for them."""
        share = self.index.rescored(k) * self._share
        return self.index.search_in(way.asked, way.begin, k, math.ceil(share + SLACK * share**0.5))

    def wider(self, way: Way, k: int, probes: tuple[int, ...]) -> Tensor:
        """Which queries ``(B,)`` of this rank must search more clusters, since these hold too few cells."""
        index, cluster = self.index, way.found.cell
        assert index.given is not None
        held = self._all[cluster.clamp(min=0)].masked_fill(cluster < 0, 0).sum(dim=1)
        wanted = min(k, int(self._all.sum())) if index.fills else 0
        return (held < wanted) & any(map(lt, probes, index.given.counts))

    def _checksum(self) -> int:
        """A checksum of the clusters; 0 where there are none, or they are to be made again."""
        index = self.index
        if index.is_refiled:
            return 0
        try:
            clusters = index.levels.clusters
        except NotFittedError:
            return 0
        data = torch.cat([part.flatten() for part in (clusters.centroid, *clusters.directions)])
        return 1 << 32 | crc32(data.cpu().numpy().tobytes())

    def _note(self) -> int:
        """What the other ranks must hear of this one's clusters."""
        index, levels = self.index, self.index.levels
        if index.is_refiled or levels.clusters is not index.given:
            return MADE
        if self._counted is levels and self._changes == levels.changes:
            return 0
        return 0 if torch.equal(self._own, levels.leaves.level.length) else COUNTED

    def _count(self) -> None:
        """Count the cells of all ranks in each cluster."""
        levels = self.index.levels
        self._counted, self._changes = levels, levels.changes
        self._own = levels.leaves.level.length.clone()
        self._all = OverRanks(self.ranks, self._own.device).total(self._own)
        self._held = levels.clusters.held(self._all)
        self._share = int(self._own.sum()) / max(1, int(self._all.sum()))
