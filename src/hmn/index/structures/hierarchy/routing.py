"""Vectors that say which group holds the best cell of a query, learned from queries."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

BATCH = 256
RATE = 0.0135
"""Step of Adam, as a share of a coordinate of the vectors."""
SHARPNESS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Of the softmax, in shares of the spread of the scores."""


@torch.enable_grad()
def taught(vector: Tensor, query: Tensor, group: Tensor, generator: torch.Generator) -> Tensor:
    """Move vectors so that a query's inner product is largest with that of its group.

    One pass of Adam on the cross-entropy of a softmax over all groups (Vecchiato et al., SIGIR 2024). Its
    temperature is the one that fits the vectors as they are; a tenth of the queries is held out, and the
    vectors are returned as they were where the pass did not lower their cross-entropy.

    Args:
        vector: ``(G, D)`` float32 to begin with.
        query: ``(Q, D)`` float32.
        group: ``(Q,)`` int64 right group of each.
        generator: of the order of the queries.

    Returns:
        ``(G, D)`` float32.
    """
    order = torch.randperm(len(query), generator=generator).to(query.device)
    held, used = order[: len(order) // 10], order[len(order) // 10 :]
    if not len(held):
        return vector

    def loss_of(vectors: Tensor, scale: float) -> float:
        with torch.no_grad():
            return float(F.cross_entropy(scale * (query[held] @ vectors.T), group[held]))

    with torch.no_grad():
        spread = float((query[held] @ vector.T).std().clamp(min=1e-30))
    scale = min((one / spread for one in SHARPNESS), key=lambda one: loss_of(vector, one))
    moved = vector.clone().requires_grad_()
    size = float(vector.square().mean().sqrt())
    optimiser = torch.optim.Adam([moved], lr=RATE * size)
    for part in torch.split(used, BATCH):
        loss = F.cross_entropy(scale * (query[part] @ moved.T), group[part])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    moved = moved.detach()
    return moved if loss_of(moved, scale) < loss_of(vector, scale) else vector
