"""Search over the shards of all ranks: queries go to every rank, and the best of each come back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hmn._native.search import replaced
from hmn.distributed.collectives import Ranks
from hmn.distributed.drawing import Shard, draw_together
from hmn.distributed.rows import packed, unpacked
from hmn.distributed.shared_clusters import SharedClusters
from hmn.errors import ConfigError
from hmn.index.allowed import Allowed, check_no_allowed
from hmn.index.checks import check_k, check_query
from hmn.index.protocol import Index
from hmn.nn.candidates.strategy import Candidates, Strategy, clustered
from hmn.results import SearchResult

MOST_TIED = 1024
"""Upper limit of cells that a shard looks through, beyond k, for those of lowest id among equal scores."""
MOST_ROWS = (1 << 31) - 1
"""Upper limit of cells per rank: their numbers travel in 32 bits."""


class Shards(NamedTuple):
    """Which cells each rank holds: those of rank 0 come first, then those of rank 1, and so on.

    So ids stay the same when the same cells, in the same order, are split among another number of ranks.

    Attributes:
        counts: cells per rank; may be 0.
        first: first cell of each rank.
    """

    counts: list[int]
    first: list[int]

    @classmethod
    def of(cls, counts: list[int]) -> Shards:
        """Shards of ranks that hold these numbers of cells."""
        if max(counts) > MOST_ROWS:
            raise ConfigError(f"a rank has {max(counts)} cells, expected {MOST_ROWS} at most: use more ranks")
        return cls(counts, [sum(counts[:rank]) for rank in range(len(counts))])

    @property
    def total(self) -> int:
        """Number of cells of all ranks, N."""
        return sum(self.counts)

    def owner(self, cells: Tensor) -> Tensor:
        """The rank that holds each cell ``(n,)``."""
        ends = torch.tensor(self.first, device=cells.device) + torch.tensor(self.counts, device=cells.device)
        return torch.searchsorted(ends, cells, right=True)


class ShardedIndex:
    """The indexes of all ranks as one. Every rank must call ``search`` at the same time.

    Args:
        shard: searches the cells of this rank, numbered from 0.
        shards: which cells each rank holds.
        features: number of features of a key, D.
        ranks: the processes.
        shared: clusters that the indexes of all ranks share; None if they share none.
    """

    def __init__(
        self,
        shard: Index,
        shards: Shards,
        features: int,
        ranks: Ranks,
        shared: SharedClusters | None = None,
    ) -> None:
        self.shard, self.shards, self.features, self.ranks = shard, shards, features, ranks
        self.shared = shared

    def __len__(self) -> int:
        """Number of cells of all ranks, N."""
        return self.shards.total

    def search(self, query: Tensor, k: int, allowed: Allowed | None = None) -> SearchResult:
        """Find the ``k`` cells of largest inner product with each query of this rank, among all ranks' cells.

        Each rank brings its own queries ``(B, D)``; B may differ and be 0, k must be the same. Cells with
        equal scores are ordered by id. Where exact search has to choose among them, up to a thousand, it
        takes those of lowest id, so that the cells do not depend on the number of ranks.

        ``reads`` and ``cells_scored`` are summed over the ranks. For each query, 4 · D bytes go to each other
        rank, and 4 · (2k + 2) come back; to search P shared clusters, another 8 · P go.

        Raises:
            RankError: another rank has failed.
            ShapeError, NonFiniteError, ConfigError: as for ``Index.search``; the other ranks raise a
                ``RankError`` that says so. ConfigError also where ``allowed`` is given.
        """
        with self.ranks.together():
            check_no_allowed(
                allowed, "a memory over several ranks", "search one rank's cells with its own index"
            )
            k = check_k(k)
            own = check_query(query, self.features, k)  # (B, D)
            if self.shared is not None:
                return self._in_clusters(own, k, self.shared.index.probes)
            asked, counts = self.ranks.gather(own, f"queries for {k} cells each")  # (sum of B, D)
            return self._merged(_search(self.shard, asked, k), counts)

    def _in_clusters(self, own: Tensor, k: int, probes: tuple[int, ...]) -> SearchResult:
        """Search the clusters that all ranks share, with a number of probes for each level."""
        shared = self.shared
        assert shared is not None
        way = shared.way(own, k, probes)
        wider = shared.wider(way, k, probes)  # (B,)
        found = self._merged(shared.search(way, k), way.counts, note=int(wider.any()))
        found = found._replace(reads=found.reads + way.found.reads)
        if not self.ranks.noted:
            return found
        lines = wider.nonzero().squeeze(1)
        return replaced(found, lines, self._in_clusters(own[lines], k, tuple(2 * count for count in probes)))

    def _merged(self, found: SearchResult, counts: list[int], *, note: int = 0) -> SearchResult:
        """The best of all ranks for the queries of this one.

        Args:
            found: what this rank has found for the queries of all.
            counts: number of queries of each rank.
            note: see ``Ranks.exchange``.
        """
        ranks, k = self.ranks, found.cell.shape[1]
        first = torch.tensor(self.shards.first, device=found.cell.device)
        parts = [
            found.score.float(),
            found.cell.to(torch.int32),
            found.reads.float().unsqueeze(1),
            found.cells_scored.to(torch.int32).unsqueeze(1),
        ]
        came, _ = ranks.exchange(packed(parts), counts, "results", note=note)  # (W · B, bytes)
        kinds = [(torch.float32, k), (torch.int32, k), (torch.float32, 1), (torch.int32, 1)]
        score, row, reads, scored = (
            part.view(ranks.size, counts[ranks.rank], part.shape[1]) for part in unpacked(came, kinds)
        )
        cell = torch.where(row < 0, -1, row.long() + first.view(-1, 1, 1))  # (W, B, k)
        best = _best(score.transpose(0, 1).flatten(1), cell.transpose(0, 1).flatten(1), k)
        return SearchResult(*best, reads.sum(dim=(0, 2)), scored.long().sum(dim=(0, 2)))

    def draw_together(
        self, strategy: Strategy, query: Tensor, target: Tensor, generator: torch.Generator
    ) -> Candidates:
        """Draw the candidates of all ranks' queries and targets, the same on every rank.

        Every rank brings queries ``(B, D)`` and targets ``(T,)`` of its own; either may be none. See
        ``hmn.nn.candidates.draw.candidates`` for the arguments, and ``hmn.distributed.drawing`` for how it is
        done. 4 · D bytes of each query go to each other rank, and some of each candidate.

        Raises:
            ConfigError: the strategy needs clusters and the indexes have none.
            RankError: another rank has failed.
        """
        with self.ranks.together():
            query = check_query(query, self.features, 1)
            if strategy.needs_clusters and self.ranks.size > 1:
                clustered(strategy, self.shard)
                if self.shared is not None:
                    self.shared.settle()
                else:
                    raise ConfigError(
                        f"strategy {strategy} needs clusters that all ranks share, got those of each rank: "
                        "let a ShardedMemory make the index"
                    )
            shard = Shard(self.shard, self.shards.first[self.ranks.rank], len(self), self.ranks)
            return draw_together(strategy, shard, self, query, target, generator)


def _search(shard: Index, query: Tensor, k: int) -> SearchResult:
    """The ``k`` best cells of a shard; exact search prefers the lower ids among equal scores.

    No structure promises an order of equal scores. So exact search looks at one more cell, and at many more
    for queries whose last scores are equal.
    """
    if shard.has_structure:
        return shard.search(query, k)
    found = shard.search(query, k + 1)
    score, cell = _best(found.score, found.cell, k)
    tied = ((found.score[:, k] == found.score[:, k - 1]) & (found.cell[:, k] >= 0)).nonzero().flatten()
    width = k + 1
    while len(tied) and width < min(len(shard), k + MOST_TIED):
        width = min(4 * width, len(shard), k + MOST_TIED)
        more = shard.search(query[tied], width)
        score[tied], cell[tied] = _best(more.score, more.cell, k)
        found.reads[tied] += more.reads
        found.cells_scored[tied] += more.cells_scored
        tied = tied[more.score[:, -1] == more.score[:, k - 1]]
    return SearchResult(score, cell, found.reads, found.cells_scored)


def _best(score: Tensor, cell: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` best of scores and cells ``(B, W · k)``; equal scores in the order of the cells."""
    order = cell.argsort(dim=1)
    score, cell = score.gather(1, order), cell.gather(1, order)
    order = score.argsort(dim=1, descending=True, stable=True)[:, :k]
    return score.gather(1, order), cell.gather(1, order)
