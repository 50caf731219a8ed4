"""A product-key memory that is written: slots for all pairs of two half keys (Lample et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 5
"""Rounds of k-means."""


class ProductKeys:
    """Slots in a square: each half of a query chooses along one side, and the best pairs are read or written.

    A write moves the values of its slots towards the new value by their weights, as a gradient step would;
    a slot has no key of its own, so pairs that choose the same slot overwrite each other.

    Args:
        queries: ``(n, D)`` queries like those to come; the half keys are centres of their halves.
        slots: number of slots, at least; a square.
        values: features of a value.
        k: slots that a query reads or writes.
        scale: factor of the scores in the softmax.
    """

    def __init__(self, queries: Tensor, slots: int, values: int, k: int, scale: float) -> None:
        self.side = int(slots**0.5 + 0.999)
        half = queries.shape[1] // 2
        self.halves = [_centres(part, self.side) for part in torch.split(queries, half, dim=1)]
        self.values = torch.zeros(self.side**2, values)
        self.k, self.scale = k, scale

    @property
    def reads(self) -> float:
        """Half keys that are scored, and values that are read, in units of a key."""
        features = 2 * self.halves[0].shape[1]
        return self.side + self.k * self.values.shape[1] / features

    def choose(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Slots and weights ``(B, K)`` for queries ``(B, D)``."""
        parts = torch.split(query, query.shape[1] // 2, dim=1)
        best = [(part @ keys.T).topk(self.k, dim=1) for part, keys in zip(parts, self.halves, strict=True)]
        score = (best[0].values.unsqueeze(2) + best[1].values.unsqueeze(1)).flatten(1)  # (B, K * K)
        slot = (best[0].indices.unsqueeze(2) * self.side + best[1].indices.unsqueeze(1)).flatten(1)
        top = score.topk(self.k, dim=1)
        return slot.gather(1, top.indices), torch.softmax(self.scale * top.values, dim=1)

    def read(self, query: Tensor) -> Tensor:
        """Values ``(B, V)``."""
        slot, weight = self.choose(query)
        return (weight.unsqueeze(2) * self.values[slot]).sum(dim=1)

    def write(self, query: Tensor, value: Tensor) -> None:
        """Write values ``(B, V)``, one query after another where they share a slot."""
        slot, weight = self.choose(query)
        for place in range(self.k):
            old = self.values[slot[:, place]]
            self.values[slot[:, place]] = old + weight[:, place, None] * (value - old)


def _centres(points: Tensor, count: int) -> Tensor:
    """Directions ``(count, d)`` of clusters of points ``(n, d)``: spherical k-means."""
    centres = points[:count].clone()
    for _ in range(ROUNDS):
        nearest = torch.cat([(part @ centres.T).argmax(dim=1) for part in torch.split(points, 4096)])
        total = torch.zeros_like(centres).index_add_(0, nearest, points)
        used = torch.bincount(nearest, minlength=count) > 0
        centres[used] = torch.nn.functional.normalize(total[used], dim=1)
    return centres
