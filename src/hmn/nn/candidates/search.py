"""Search with a training strategy at test time: each query draws its own candidates."""

from __future__ import annotations

import zlib
from collections.abc import Set

import torch
from torch import Tensor

from hmn._native import best_of, most_frequent
from hmn.errors import ShapeError
from hmn.index.allowed import Allowed, check_no_allowed
from hmn.index.checks import check_query
from hmn.index.precision import own_arithmetic
from hmn.index.protocol import Index
from hmn.nn.candidates.draw import exponential, sampled
from hmn.nn.candidates.strategy import Strategy, clustered
from hmn.results import SearchResult

QUERIES_AT_A_TIME = 256
"""Number of queries whose candidates are held at a time, to bound the memory they need."""


class StrategySearch:
    """Reads with a strategy at test time: candidates drawn for each query alone, all scored in full.

    The signs of a query's features and the seed decide what is drawn for it. So a query draws the same
    candidates whenever it is asked and in any batch, apart from rounding, which depends on the batch's size.

    Args:
        index: index that was built on the keys.
        strategy: which cells are candidates; ``k-mips`` parts are the index's own search.
        keys: ``(N, D)`` keys of the cells 0 to N - 1. May be replaced when the index has changed.
        seed: seed of the draws.
        gaps: cells that the index does not hold, which are never read; the set may change.

    Raises:
        ConfigError: the strategy needs clusters and the index has none.
        ShapeError: the index has another number of cells than there are keys.
    """

    def __init__(
        self,
        index: Index,
        strategy: Strategy,
        keys: Tensor,
        seed: int = 0,
        *,
        gaps: Set[int] = frozenset(),
    ) -> None:
        if strategy.needs_clusters:
            clustered(strategy, index)
        held = len(keys) - len(gaps)
        if len(index) != held:
            raise ShapeError(f"there are {held} keys, expected those of the index's {len(index)} cells")
        self.index, self.strategy, self.keys, self.seed, self.gaps = index, strategy, keys, seed, gaps

    def __len__(self) -> int:
        """Number of cells, N."""
        return len(self.index)

    @own_arithmetic
    def search(self, query: Tensor, k: int, allowed: Allowed | None = None) -> SearchResult:
        """Find the ``k`` best of each query's candidates; see ``Index.search``.

        Reads are those of the index for its part, the centroids, and the keys of the other candidates.

        Raises:
            ShapeError: the queries do not fit, or the index has ids of its own.
            ConfigError: ``allowed`` is given: candidates are drawn among all cells.
        """
        check_no_allowed(allowed, "a search with a strategy", "search with the index alone")
        query = check_query(query, self.keys.shape[1], k).to(self.keys.device)
        parts = [self._search(part, k) for part in torch.split(query, QUERIES_AT_A_TIME)]
        return SearchResult(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _search(self, query: Tensor, k: int) -> SearchResult:
        reads = query.new_zeros(len(query))
        scored = torch.zeros_like(reads, dtype=torch.int64)
        listed, best = self._others(query), None
        if self.strategy.best_cells:
            result = self.index.search(query, self.strategy.best_cells)
            best, reads, scored = result.cell, result.reads.clone(), result.cells_scored.clone()
            listed.append(best)
        candidate = torch.cat(listed, dim=1)
        if len(listed) > 1 and candidate.shape[1]:
            candidate = most_frequent(candidate, candidate.shape[1])  # each once
        if candidate.numel() and int(candidate.max()) >= len(self.keys):
            raise ShapeError(
                f"the index has a cell {int(candidate.max())}, expected cells 0 to {len(self.keys) - 1}: "
                "build it without ids of its own"
            )
        score, cell = best_of(query, self.keys, candidate, k)
        more = (candidate >= 0).sum(dim=1) - (0 if best is None else (best >= 0).sum(dim=1))
        reads += more * (self.keys.element_size() / 4)
        if self.strategy.needs_clusters:
            reads += len(clustered(self.strategy, self.index).centroids())
        return SearchResult(score, cell, reads, scored + more)

    def _others(self, query: Tensor) -> list[Tensor]:
        """Candidates ``(B, C)`` besides the index's best cells: cells of clusters, and of a block."""
        strategy, listed = self.strategy, list[Tensor]()
        generators = self._generators(query) if strategy.sample_clusters or strategy.rand_block else []
        if strategy.needs_clusters:
            index = clustered(strategy, self.index)
            line, cluster = self._clusters(query, index.centroids(), generators).nonzero(as_tuple=True)
            cell, length = index.cells_in(cluster)
            listed.append(_lines(cell.to(query.device), line.repeat_interleave(length), len(query)))
        if strategy.rand_block and len(self):
            count = len(self.keys)
            size, blocks = strategy.rand_block, -(-count // strategy.rand_block)
            drawn = [torch.randint(blocks, (1,), generator=each, device=each.device) for each in generators]
            within = torch.arange(min(size, count), device=query.device)
            cell = (
                size * torch.stack(drawn).to(query.device) + within
                if drawn
                else within.new_empty(0, len(within))
            )
            cell.masked_fill_(cell >= count, -1)
            if self.gaps:
                cell.masked_fill_(torch.isin(cell, cell.new_tensor(sorted(self.gaps))), -1)
            listed.append(cell)
        return listed

    def _clusters(self, query: Tensor, centroids: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Which clusters ``(B, C)`` each query reads."""
        strategy = self.strategy
        score = (query.to(centroids.device, centroids.dtype) @ centroids.T).double()
        top = score.topk(min(strategy.top_clusters, len(centroids)), dim=1).indices
        chosen = torch.zeros_like(score, dtype=torch.bool).scatter_(1, top, True)
        if strategy.sample_clusters and generators:
            noise = torch.stack([exponential(score.shape[1:], generator) for generator in generators])
            logit = (score / strategy.temperature).masked_fill_(chosen, -torch.inf)
            chosen |= sampled(logit, strategy.sample_clusters, noise)[0]
        return chosen

    def _generators(self, query: Tensor) -> list[torch.Generator]:
        """One generator per query, seeded by the signs of its features."""
        seeds = [zlib.crc32(signs.tobytes(), self.seed % (1 << 32)) for signs in (query > 0).cpu().numpy()]
        return [torch.Generator().manual_seed(seed) for seed in seeds]


def _lines(cell: Tensor, line: Tensor, lines: int) -> Tensor:
    """Lay out cells ``(n,)`` by their lines ``(n,)``, ascending: ``(lines, C)``, unused places ``-1``."""
    length = torch.bincount(line, minlength=lines)
    column = torch.arange(len(cell), device=cell.device) - (length.cumsum(0) - length)[line]
    table = cell.new_full((lines, int(length.max()) if lines else 0), -1)  # (lines, C)
    table[line, column] = cell
    return table
