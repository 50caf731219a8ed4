"""Candidates of the queries of all ranks: each rank draws among its own cells.

The clusters of all ranks' indexes are taken as the clusters of one index. So Top-K and Sample-K give what
``hmn.nn.candidates.draw`` gives for that index, with the same probabilities.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hmn.distributed.collectives import Ranks
from hmn.distributed.rows import packed, unpacked
from hmn.index.checks import as_ids
from hmn.index.precision import own_arithmetic
from hmn.index.protocol import Index, Searcher
from hmn.nn.candidates.draw import Block, Pool, above, drawn_block, exponential, union, with_block
from hmn.nn.candidates.strategy import Candidates, Strategy, clustered
from hmn.nn.settings import GOLDEN


class Shard(NamedTuple):
    """The cells of this rank, and the processes.

    Attributes:
        own: holds the cells of this rank, numbered from 0.
        first: number of the first of them among all cells.
        total: number of cells of all ranks, N.
        ranks: the processes.
    """

    own: Index
    first: int
    total: int
    ranks: Ranks


class _Asked(NamedTuple):
    """Queries of all ranks, in the order of the ranks."""

    query: Tensor  # (Q, D)
    counts: list[int]  # queries of each rank


@torch.no_grad()
@own_arithmetic
def draw_together(
    strategy: Strategy,
    shard: Shard,
    searcher: Searcher,
    query: Tensor,
    target: Tensor,
    generator: torch.Generator,
) -> Candidates:
    """Draw the candidates of all ranks' queries and targets: the same ones on every rank.

    Rand-block draws from the generator of rank 0, and the blocks are those of all N cells: so what it draws
    does not depend on the number of ranks. Sample-K draws on each rank among the clusters there.

    Args:
        strategy: which cells join.
        shard: the cells of this rank.
        searcher: searches the cells of all ranks.
        query: ``(B, D)`` queries of this rank.
        target: ``(T,)`` cells of any rank that always join.
        generator: source of the draws; only that of rank 0 counts.
    """
    # 1. Certain cells: each rank's targets and best cells, and the cells of the best clusters.
    # 2. A pool of the cells of this rank's clusters, with the log-probability of missing the union.
    # 3. The union over all ranks.
    ranks, device, pool = shard.ranks, query.device, None
    block, seed = _shared_draw(strategy, shard.total, generator, ranks)
    certain = [as_ids(target, "target").to(device)]
    if strategy.best_cells:
        best = searcher.search(query, strategy.best_cells).cell.flatten()  # (B * K,)
        certain.append(best[best >= 0].to(device))
    if strategy.needs_clusters:
        cells, pool = _of_clusters(strategy, shard, query, seed)
        certain.append(cells.to(device))
    if block is not None:
        pool = with_block(pool, block, device)
    if pool is not None:
        pool = Pool(*(column[pool.drawn].to(device) for column in pool))
    if pool is not None and strategy.sample_clusters:  # a block alone is the same on every rank
        parts = [pool.cell.unsqueeze(1), pool.left_out.unsqueeze(1)]
        came, _ = ranks.gather(packed(parts), "candidates that were drawn")
        cell, left_out = unpacked(came, [(torch.int64, 1), (torch.float64, 1)])
        pool = Pool(
            cell.flatten(), left_out.flatten(), torch.ones(len(cell), dtype=torch.bool, device=device)
        )
    every, _ = ranks.gather(torch.unique(torch.cat(certain)), "candidates")
    return union(every, pool)


def _shared_draw(
    strategy: Strategy, total: int, generator: torch.Generator, ranks: Ranks
) -> tuple[Block | None, int]:
    """The block of Rand-block, and a seed of the other draws: those of rank 0."""
    if not strategy.draws:
        return None, 0
    block = drawn_block(total, strategy.rand_block, generator) if strategy.rand_block and total else None
    seed = int(torch.randint(1 << 62, (1,), generator=generator, device=generator.device))
    first, last, missed = (0, 0, 0.0) if block is None else block
    own = torch.tensor([[first, last, seed]], dtype=torch.int64, device="cpu")
    every, _ = ranks.gather(own, "random numbers")
    first, last, seed = every[0].tolist()
    return None if block is None else Block(first, last, missed), seed


def rank_stream(seed: int, rank: int) -> torch.Generator:
    """Random numbers of a rank, from the seed that all share."""
    return torch.Generator("cpu").manual_seed((seed + rank * GOLDEN) % (1 << 63))


def _of_clusters(strategy: Strategy, shard: Shard, query: Tensor, seed: int) -> tuple[Tensor, Pool | None]:
    """Cells of this rank in Top-K, and its pool of Sample-K; all of its cells if a block is drawn as well."""
    ranks, index = shard.ranks, clustered(strategy, shard.own)
    asked = _Asked(*ranks.gather(query, "queries for clusters"))
    # an index of no cells has clusters of none
    centroids = index.centroids() if len(shard.own) else query[:0]
    score = (asked.query.to(centroids.device, centroids.dtype) @ centroids.T).double()  # (Q, C)
    top = _best_of_all(score, strategy.top_clusters, asked, ranks)  # (Q, C)
    certain, _ = index.cells_in(_clusters(top))
    certain = certain + shard.first
    if not strategy.sample_clusters:
        return certain, None
    logit = (score / strategy.temperature).masked_fill(top, -torch.inf)
    key = logit - exponential(logit.shape, rank_stream(seed, ranks.rank)).to(logit.device).log()
    least = _last_of_all(key, strategy.sample_clusters, asked, ranks)  # (Q, 2)
    drawn, threshold = above(logit, key, least)
    rate = torch.where(torch.isfinite(logit), (logit - threshold).exp(), 0.0).sum(dim=0)  # (C,)
    clusters = _clusters(drawn)
    if strategy.rand_block:  # a block's cells may lie in any cluster, whose rate they then need
        clusters = torch.arange(score.shape[1], device=score.device)
    cell, length = index.cells_in(clusters)
    each = torch.repeat_interleave(clusters, length)
    return certain, Pool(cell + shard.first, -rate[each], drawn.any(dim=0)[each])


def _clusters(chosen: Tensor) -> Tensor:
    """Clusters ``(m,)`` that any query chose ``(Q, C)``."""
    return chosen.any(dim=0).nonzero().squeeze(1)


def _best_of_all(score: Tensor, count: int, asked: _Asked, ranks: Ranks) -> Tensor:
    """Which clusters ``(Q, C)`` of this rank are among the ``count`` best of all ranks, for each query."""
    chosen = torch.zeros_like(score, dtype=torch.bool)
    if not count:
        return chosen
    place = score.topk(min(count, score.shape[1]), dim=1).indices
    best = _merged(score, count, asked, ranks)  # (B, W, count)
    value, order = best.flatten(1).sort(dim=1, descending=True, stable=True)
    of_rank = (order // count)[:, :count]
    taken = torch.zeros(best.shape[:2], dtype=torch.int64, device=score.device)  # (B, W)
    taken.scatter_add_(1, of_rank, torch.isfinite(value[:, :count]).long())
    own, _ = ranks.exchange(taken.T.flatten(), [len(taken)] * ranks.size, "clusters that are best")  # (Q,)
    among = torch.arange(place.shape[1], device=score.device) < own.unsqueeze(1)
    return chosen.scatter_(1, place, among)


def _last_of_all(key: Tensor, count: int, asked: _Asked, ranks: Ranks) -> Tensor:
    """The ``count``-th largest of all ranks' keys and the next one ``(Q, 2)``, for each query."""
    best = _merged(key, count + 1, asked, ranks).flatten(1).topk(count + 1, dim=1).values
    least, _ = ranks.gather(best[:, count - 1 :].contiguous(), "thresholds of clusters")
    return least


def _merged(score: Tensor, count: int, asked: _Asked, ranks: Ranks) -> Tensor:
    """The best scores ``(B, W, count)`` of each rank for the queries of this one, best first, or ``-inf``."""
    best = torch.nn.functional.pad(score, (0, count), value=-torch.inf).topk(count, dim=1).values
    came, _ = ranks.exchange(best, asked.counts, f"scores of {count} clusters")
    return came.view(ranks.size, -1, count).transpose(0, 1)
