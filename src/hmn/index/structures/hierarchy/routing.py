"""Which groups a vector belongs to: by cosine where it is filed, and as learned where queries look."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native import search_levels
from hmn.index.clustering.kmeans import unit_rows
from hmn.index.structures.hierarchy.tier import Tier
from hmn.index.structures.hierarchy.tree import Tree

FILED_THROUGH = 8
"""Groups entered per tier on the way to the group that a vector is filed in."""
FILED_AMONG = 8
"""Groups whose cosines are computed in full, to choose the one that a vector is filed in."""
BATCH = 256
"""Queries per step of Adam."""
RATE = 0.0135
"""Learning rate of Adam, as a share of the root mean square of the vectors' coordinates."""
SHARPNESS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Scales tried for the scores in the softmax, in units of 1 / the standard deviation of the scores."""


def nearest(tiers: list[Tier], vectors: Tensor) -> Tensor:
    """The groups ``(n,)`` of the last of these tiers in whose direction vectors ``(n, D)`` point.

    Args:
        tiers: from the first one on.
        vectors: of any float type; only their directions count.
    """
    # Codes lead from tier to tier. Their scores, divided by the lengths of what they stand for, are cosines.
    # Among the groups of the last tier that look best, the means are compared in full.
    last = tiers[-1]
    through = [min(len(tier), FILED_THROUGH) for tier in tiers[:-1]]
    among = min(len(last), FILED_AMONG)
    result = search_levels(
        unit_rows(vectors.float()),
        [tier.filing.lists.level for tier in tiers],
        [None] * len(through),
        through,
        last.mean,
        among,
        among,
        weights=[tier.inverse for tier in tiers],
    )
    group = result.cell.clamp(min=0)  # (n, among)
    cosine = result.score / last.length[group]
    best = cosine.masked_fill(result.cell < 0, -math.inf).argmax(dim=1, keepdim=True)  # (n, 1)
    return group.gather(1, best).squeeze(1)  # (n,)


def learn_vectors(tree: Tree, query: Tensor, leaf: Tensor, generator: torch.Generator) -> None:
    """Teach the first tier into which of its groups each query should go.

    Args:
        tree: changed: ``taught`` of its first tier, and all codes.
        query: ``(Q, D)`` float32.
        leaf: ``(Q,)`` leaf that each query should find.
        generator: shuffles the queries.
    """
    group = leaf
    for tier in reversed(tree.tiers[1:]):
        group = tier.filing.parent[group]
    first = tree.tiers[0]
    live = first.live()
    position = torch.arange(len(live), device=live.device)  # among the groups that are not free
    position = torch.full_like(first.filing.parent, -1).index_copy_(0, live, position)
    vectors = fit_vectors(first.routing_vectors(live), query, position[group], generator)  # (G, D)
    first.taught = torch.zeros_like(first.mean).index_copy_(0, live, vectors - first.mean[live])
    tree.write_codes()


@torch.enable_grad()
def fit_vectors(vector: Tensor, query: Tensor, group: Tensor, generator: torch.Generator) -> Tensor:
    """Move vectors so that a query's inner product is largest with that of its group.

    One pass of Adam on the cross-entropy of a softmax over all groups (Vecchiato et al., SIGIR 2024).

    Args:
        vector: ``(G, D)`` float32, where to start.
        query: ``(Q, D)`` float32.
        group: ``(Q,)`` int64 right group of each query.
        generator: shuffles the queries.

    Returns:
        ``(G, D)`` float32; ``vector`` itself if the pass did not lower the loss of held-out queries.
    """
    # 1. Hold a tenth of the queries out.
    # 2. Choose the sharpness of the softmax that fits the vectors best before they move.
    # 3. Take one pass over the other queries, and keep its result if it lowers the loss of those held out.
    order = torch.randperm(len(query), generator=generator, device=generator.device).to(query.device)
    held_out, used = order[: len(order) // 10], order[len(order) // 10 :]
    if not len(held_out):
        return vector

    def loss_of(vectors: Tensor, scale: float) -> float:
        with torch.no_grad():
            return float(F.cross_entropy(scale * (query[held_out] @ vectors.T), group[held_out]))

    with torch.no_grad():
        spread = float((query[held_out] @ vector.T).std().clamp(min=1e-30))
    scale = min((sharpness / spread for sharpness in SHARPNESS), key=lambda each: loss_of(vector, each))
    moved = vector.clone().requires_grad_()
    size = float(vector.double().square().mean().sqrt())  # in float32, sums of large squares overflow
    optimiser = torch.optim.Adam([moved], lr=RATE * size)
    for batch in torch.split(used, BATCH):
        loss = F.cross_entropy(scale * (query[batch] @ moved.T), group[batch])  # (batch, G)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    moved = moved.detach()
    return moved if loss_of(moved, scale) < loss_of(vector, scale) else vector
