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
from torch.nn import functional as F

from hmn._native.level import Begin
from hmn.distributed.collectives import NOTHING, Ranks
from hmn.distributed.rows import packed, unpacked
from hmn.errors import NotFittedError
from hmn.index.checks import check_keys
from hmn.index.precision import own_arithmetic
from hmn.index.structures.cluster import ClusterIndex
from hmn.index.structures.cluster_levels import Levels
from hmn.nn.memory.growing import gaps_of, held_cells
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.parts import CellMemory
from hmn.nn.settings import GOLDEN
from hmn.results import SearchResult

COUNTED = 1
"""Note of a rank whose clusters have other numbers of cells than before."""
MADE = 2
"""Note of a rank for which the clusters must be made again."""
SLACK = 1.25
"""Cells that each rank scores in full beyond its share of them, in square roots of that share.

With it, clusters over 2 and 4 ranks find as much as one index: ``make bench-distributed``."""
MOST_UNEVEN = 2.0
"""Variance of the cells that a rank has of each cluster, in multiples of that of cells divided at random, up
to which it scores no more than its share in full."""
MOST_APART = 0.1
"""Distance of the mean length of a rank's keys from that of all, in standard deviations, up to which it does
the same."""


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
        """See ``Sharing.of_first``: every rank does the work, so that none waits long for another."""
        parts = {f"{number:03d}": part.contiguous().cpu() for number, part in enumerate(work())}
        tensors = load(self.ranks.tell(b"" if self.ranks.rank else save(parts), "clusters of clusters"))
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
    changed; a rank that has few of all cells does not count. They are kept where every rank has loaded an
    index with the same ones.

    Args:
        indexed: the cells of this rank, with their index.
        ranks: the processes.
    """

    def __init__(self, indexed: IndexedMemory[CellMemory], ranks: Ranks) -> None:
        assert isinstance(indexed.index, ClusterIndex)
        self.index, self.indexed, self.ranks = indexed.index, indexed, ranks
        self.are_made = False
        self._counted: Levels | None = None
        self._changes = 0  # of the cells that were counted
        self._own = self._all = torch.empty(0, dtype=torch.int32, device="cpu")  # (C,) cells per cluster
        self._held: list[Tensor] = []
        self._are_alike = False  # whether the keys of this rank are as long as those of all

    @torch.no_grad()
    @own_arithmetic
    def make(self) -> None:
        """Make the clusters, unless every rank has the same ones by now.

        Raises:
            ConfigError: the ranks' indexes differ in what makes the clusters.
        """
        index, ranks = self.index, self.ranks
        settings = (index.num_clusters, index.iterations, index.seed, index.reduction.name)
        ranks.check_same(repr(settings).encode(), "the clusters of their indexes")
        every, _ = ranks.gather(torch.tensor([self._checksum()], device="cpu"), "clusters of the indexes")
        keys = check_keys(held_keys(self.indexed.memory))
        sharing = OverRanks(ranks, keys.device)
        if bool((every == every[0]).all()) and int(every[0]):
            index.given = index.levels.clusters
        else:
            generator = torch.Generator("cpu").manual_seed((index.seed + ranks.rank * GOLDEN) % (1 << 63))
            index.given, _ = index.cluster(keys, generator, sharing)
            self.indexed.rebuild()
            index.is_refiled = False
        self.are_made = True
        self._are_alike = _are_alike(keys, sharing)
        self._count(index.levels, sharing.total(index.levels.leaves.level.length))

    def settle(self) -> None:
        """Make or count the clusters again where a rank needs it."""
        self.ranks.gather(NOTHING, "notes on clusters", note=self._note())
        while self.ranks.noted:
            self._renew(self.ranks.noted)
            self.ranks.gather(NOTHING, "notes on clusters", note=self._note())

    @own_arithmetic
    def way(self, query: Tensor, k: int, probes: tuple[int, ...]) -> Way:
        """Choose the clusters of queries ``(B, D)`` of this rank, and hear of those of all ranks.

        Args:
            query: ``(B, D)``.
            k: results per query.
            probes: clusters to enter at each level; may differ between ranks.
        """
        ranks = self.ranks
        while True:
            note, clusters = self._note(), self.index.levels.clusters
            if not note:
                found = clusters.search(query.to(clusters.centroid.device), probes, self._held)
                rows = packed([query, found.cell.to(torch.int32), found.score])
            else:
                rows = NOTHING.view(0, 1)
            width = torch.tensor([rows.shape[1]], device="cpu").view(torch.uint8)
            sent = torch.cat([width.to(rows.device), rows.flatten()])
            came, counts = ranks.gather(sent, f"queries for {k} cells each", note=note)
            if not ranks.noted:
                return Way(found, *_unpacked(came, counts, query.shape[1]))
            self._renew(ranks.noted)

    def search(self, way: Way, k: int) -> SearchResult:
        """The ``k`` best cells of this rank for the queries of all ranks, in the clusters chosen for them."""
        return self.index.search_in(way.asked, way.begin, k, self._rescored(way, k))

    def wider(self, way: Way, k: int, probes: tuple[int, ...]) -> Tensor:
        """Which queries ``(B,)`` of this rank must search more clusters, since these hold too few cells."""
        index, cluster = self.index, way.found.cell
        held = self._all[cluster.clamp(min=0)].masked_fill(cluster < 0, 0).sum(dim=1)
        wanted = min(k, int(self._all.sum())) if index.fills else 0
        return (held < wanted) & any(map(lt, probes, index.levels.clusters.counts))

    def _rescored(self, way: Way, k: int) -> int:
        """Cells to score in full here, so that all ranks together find what one index finds.

        Where cells are divided evenly, this rank's share of those that one index would score; otherwise as
        many, since the best cells of a query may all lie here.
        """
        index, cluster = self.index, way.begin.lists.clamp(min=0)
        wanted = max(k, index.rescored(k))
        if index.codes is None or not len(cluster) or not self._is_even():
            return wanted
        own, every = (
            cells.to(cluster.device)[cluster].masked_fill(way.begin.lists < 0, 0).sum(dim=1)
            for cells in (self._own, self._all)
        )
        share = wanted * float((own / every.clamp(min=1)).max())
        return int(max(1, min(wanted, math.ceil(share + SLACK * share**0.5))))

    def _is_even(self) -> bool:
        """Whether this rank has about the same share of each cluster, and of long keys."""
        own, every = self._own.double(), self._all.double()
        share = float(own.sum() / every.sum().clamp(min=1))
        if not self._are_alike or not 0 < share < 1:
            return share == 0
        apart = (own - share * every).square() / (share * (1 - share) * every.clamp(min=1))
        return float(apart.sum() / (every > 0).sum()) < MOST_UNEVEN

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
        if levels.clusters is not index.given:
            return MADE
        if index.is_refiled and 2 * self.ranks.size * len(index) >= int(self._all.sum()):
            return MADE
        index.is_refiled = False
        if self._counted is levels and self._changes == levels.changes:
            return 0
        return 0 if torch.equal(self._own, levels.leaves.level.length) else COUNTED

    def _renew(self, noted: int) -> None:
        """Make the clusters again, or count the cells of those that have changed, as ranks have noted."""
        if noted & MADE:
            self.make()
            return
        levels = self.index.levels
        change = levels.leaves.level.length - self._own
        cluster = change.nonzero().flatten()
        rows = torch.stack([cluster.to(torch.int32), change[cluster]], dim=1)
        every, _ = self.ranks.gather(rows, "changed clusters")
        self._count(levels, self._all.index_add(0, every[:, 0].long(), every[:, 1]))

    def _count(self, levels: Levels, every: Tensor) -> None:
        """Note the cells of all ranks ``(C,)`` in each cluster, and this rank's."""
        self._counted, self._changes = levels, levels.changes
        self._own, self._all = levels.leaves.level.length.clone(), every
        self._held = levels.clusters.held(every)


def held_keys(memory: CellMemory) -> Tensor:
    """The keys ``(n, D)`` of the cells that an index of this memory holds."""
    keys = memory.snapshot()
    return keys[held_cells(memory, keys.device)] if gaps_of(memory) else keys


def _are_alike(keys: Tensor, sharing: OverRanks) -> bool:
    """Whether the keys ``(n, D)`` of this rank are about as long, on average, as those of all ranks."""
    length = torch.linalg.vector_norm(keys, dim=1, dtype=torch.float64)
    own = torch.stack([torch.ones_like(length).sum(), length.sum(), length.square().sum()])
    count, total, squares = sharing.total(own).tolist()
    if not len(keys):
        return True
    mean = total / count
    deviation = max(0.0, squares / count - mean * mean) ** 0.5
    return bool(abs(float(own[1]) / len(keys) - mean) <= deviation * max(MOST_APART, 4 / len(keys) ** 0.5))


def _unpacked(came: Tensor, counts: Sequence[int], features: int) -> tuple[Tensor, Begin, list[int]]:
    """Queries of all ranks, their clusters, and their number for each rank, from what the ranks have sent."""
    asked, lists, bases = [], [], []
    for part in torch.split(came, list(counts)):
        width = int(part[:8].clone().view(torch.int64))
        probes = (width // 4 - features) // 2
        kinds = [(torch.float32, features), (torch.int32, probes), (torch.float32, probes)]
        query, cluster, base = unpacked(part[8:].view(-1, width), kinds)
        asked.append(query)
        lists.append(cluster.long())
        bases.append(base)
    most = max(cluster.shape[1] for cluster in lists)
    begin = Begin(
        torch.cat([F.pad(cluster, (0, most - cluster.shape[1]), value=-1) for cluster in lists]),
        torch.cat([F.pad(base, (0, most - base.shape[1])) for base in bases]),
    )
    return torch.cat(asked), begin, [len(query) for query in asked]
