"""Candidates of the queries of all ranks: each rank gives those among its own cells.

All ranks' indexes have the same clusters, and draw alike among them. So Top-K and Sample-K give what
``hmn.nn.candidates.draw`` gives for an index of all cells, with the same probabilities.
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
from hmn.nn.candidates.draw import Block, Pool, drawn_block, of_clusters, union, with_block
from hmn.nn.candidates.strategy import Candidates, Strategy, clustered


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
    does not depend on the number of ranks. So it is with Top-K and Sample-K, if the clusters are the same.

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


def _of_clusters(strategy: Strategy, shard: Shard, query: Tensor, seed: int) -> tuple[Tensor, Pool | None]:
    """Cells of this rank in Top-K, and its pool of Sample-K; all of its cells if a block is drawn as well."""
    index = clustered(strategy, shard.own)
    asked, _ = shard.ranks.gather(query, "queries for clusters")
    certain, pool = of_clusters(strategy, index, asked, torch.Generator("cpu").manual_seed(seed))
    return certain + shard.first, None if pool is None else pool._replace(cell=pool.cell + shard.first)
