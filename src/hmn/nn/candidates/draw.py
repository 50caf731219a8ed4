"""Drawing candidates: which cells the training softmax of a batch runs over, and how likely each draw was.

After Chandar et al. 2016: Top-K, Sample-K and Rand-block, the K best cells alone, any combination, always the
union over the batch and always with the targets. Each candidate carries its inclusion probability, so that a
normaliser summed over the candidates can be corrected (``hmn.nn.loss.sampled_nll``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hmn.index.checks import as_ids, check_query
from hmn.index.precision import own_arithmetic
from hmn.index.protocol import Clustered, Index
from hmn.nn.candidates.strategy import Candidates, DrawsTogether, Strategy, clustered


@torch.no_grad()
@own_arithmetic
def candidates(
    strategy: Strategy,
    index: Index | DrawsTogether,
    query: Tensor,
    target: Tensor,
    *,
    generator: torch.Generator,
) -> Candidates:
    """Draw the candidates of a batch: the cells that the strategy gives any of its queries, and the targets.

    Sample-K draws by the Gumbel-top-k trick (Vieira 2014; Kool et al. 2019). A cluster is drawn if its score
    plus Gumbel noise exceeds a threshold, the K-th largest such sum among the query's *other* clusters. Given
    the others, that has probability ``1 - exp(-exp(score - threshold))`` (priority sampling, Duffield et al.
    2007). The queries draw independently, so a cluster misses the union with probability
    ``exp(-sum over queries of exp(score - threshold))``.

    These conditional probabilities are known exactly, and dividing by them is unbiased. The marginal ones of
    drawing without replacement have no closed form. For a query that did not draw the cluster the threshold
    is its K-th largest sum, not the (K+1)-th as for a query that did: the same threshold for both would
    bias the correction of the union.

    Args:
        strategy: which cells join.
        index: a built index, or what searches the cells of several ranks. It must be ``Clustered`` for Top-K
            and Sample-K. Rand-block without Sample-K assumes the cells 0 to N - 1.
        query: ``(B, D)``.
        target: ``(T,)`` cells that always join.
        generator: source of the draws of Sample-K and Rand-block; on any device.

    Returns:
        Candidates on the device of the query.

    Raises:
        ConfigError: the strategy needs clusters and the index has none.
        ShapeError, NonFiniteError, NotFittedError: as the index's search raises them.
    """
    if isinstance(index, DrawsTogether):
        return index.draw_together(strategy, query, target, generator)
    # 1. Certain cells: the targets, each query's best cells, the cells of its best clusters.
    # 2. A pool of cells that may be drawn, each with the log-probability of missing the union.
    # 3. The union of both; a cell in both is certain.
    device = query.device
    certain = [as_ids(target, "target").to(device)]
    pool = None
    if strategy.best_cells:
        best = index.search(query, strategy.best_cells).cell.flatten()  # (B * K,)
        certain.append(best[best >= 0].to(device))
    if strategy.needs_clusters:
        cells, pool = of_clusters(strategy, clustered(strategy, index), query, generator)
        certain.append(cells.to(device))
    if strategy.rand_block and len(index):
        pool = with_block(pool, drawn_block(len(index), strategy.rand_block, generator), device)
    if pool is not None:
        pool = Pool(*(column[pool.drawn].to(device) for column in pool))
    return union(torch.cat(certain), pool)


class Pool(NamedTuple):
    """Cells that could be drawn, including all that were; each column ``(n,)``, each cell once."""

    cell: Tensor
    left_out: Tensor  # float64, log of the probability that the cell is not drawn
    drawn: Tensor  # bool


def of_clusters(
    strategy: Strategy, index: Clustered, query: Tensor, generator: torch.Generator
) -> tuple[Tensor, Pool | None]:
    """Cells of Top-K, and the pool of Sample-K, which holds all cells if a block will be drawn as well."""
    centroids = index.centroids()
    query = check_query(query, centroids.shape[1], 1).to(centroids.device, centroids.dtype)
    score = (query @ centroids.T).double()  # (B, C)
    top = score.topk(min(strategy.top_clusters, len(centroids)), dim=1).indices
    certain, _ = index.cells_in(torch.unique(top))
    if not strategy.sample_clusters:
        return certain, None
    logit = (score / strategy.temperature).scatter(1, top, -torch.inf)
    drawn, rate = _drawn(logit, strategy.sample_clusters, generator)
    clusters = drawn.nonzero().squeeze(1)
    if strategy.rand_block:  # a block's cells may lie in any cluster, whose rate they then need
        clusters = torch.arange(len(centroids), device=centroids.device)
    cell, length = index.cells_in(clusters)
    each = torch.repeat_interleave(clusters, length)
    return certain, Pool(cell, -rate[each], drawn[each])


class Block(NamedTuple):
    """Cells from ``first`` to before ``last``, and the log of the probability that they were not drawn."""

    first: int
    last: int
    missed: float


def drawn_block(count: int, size: int, generator: torch.Generator) -> Block:
    """Draw one of the blocks of ``size`` cells that the cells 0 to ``count - 1`` are cut into."""
    blocks = -(-count // size)
    number = int(torch.randint(blocks, (1,), generator=generator, device=generator.device))
    missed = math.log1p(-1 / blocks) if blocks > 1 else -math.inf
    return Block(size * number, min(size * (number + 1), count), missed)


def with_block(pool: Pool | None, block: Block, device: torch.device) -> Pool:
    """The pool with a block that was drawn."""
    first, last, missed = block
    if pool is None:
        cell = torch.arange(first, last, device=device)
        left_out = torch.full(cell.shape, missed, dtype=torch.float64, device=device)
        return Pool(cell, left_out, torch.ones_like(cell, dtype=torch.bool))
    inside = (pool.cell >= first) & (pool.cell < last)
    return Pool(pool.cell, pool.left_out + missed, pool.drawn | inside)


def _drawn(logit: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw ``count`` of the finite logits of each row ``(B, C)`` without replacement.

    Returns:
        ``(C,)`` bool, whether any row draws it; and ``(C,)`` the rate at which rows draw it given the others:
        minus the log of the probability that no row does.
    """
    drawn, threshold = sampled(logit, count, exponential(logit.shape, generator))
    rate = torch.where(torch.isfinite(logit), (logit - threshold).exp(), 0.0)
    return drawn.any(dim=0), rate.sum(dim=0)


def exponential(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw from the exponential distribution; the negative logarithms are Gumbel noise.

    In float64, since a float32 exponential is too coarse near 0 for the tail of the Gumbel distribution.
    """
    noise = torch.empty(tuple(shape), dtype=torch.float64, device=generator.device)
    return noise.exponential_(generator=generator)


def sampled(logit: Tensor, count: int, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Draw ``count`` of the finite logits of each row ``(B, C)`` float64 without replacement.

    Args:
        logit: scores ``(B, C)`` float64; ``-inf`` is never drawn.
        count: number of draws per row.
        noise: ``(B, C)`` from ``exponential``.

    Returns:
        ``(B, C)`` bool, which are drawn; and ``(B, C)`` the threshold of each: the ``count``-th largest sum
        of logit and noise among the others of its row.
    """
    key = logit - noise.to(logit.device).log()
    best = torch.nn.functional.pad(key, (0, count + 1), value=-torch.inf).topk(count + 1, dim=1).values
    last, following = best[:, count - 1 : count], best[:, count:]
    drawn = torch.isfinite(logit) & (key >= last)
    return drawn, torch.where(drawn, following, last)


def union(certain: Tensor, pool: Pool | None) -> Candidates:
    """Distinct cells; certain ones have probability 1."""
    if pool is None:
        cell = torch.unique(certain)
        return Candidates(cell, torch.ones(len(cell), dtype=torch.float32, device=cell.device))
    cell, place = torch.unique(torch.cat([certain, pool.cell]), return_inverse=True)
    left_out = torch.cat([pool.left_out.new_full((len(certain),), -torch.inf), pool.left_out])
    least = left_out.new_zeros(len(cell)).scatter_reduce(0, place, left_out, "amin")
    return Candidates(cell, -torch.expm1(least).float())
