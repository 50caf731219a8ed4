"""Spherical k-means: clusters of directions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native import search_levels
from hmn.index.storage.coded_lists import Lists

POINTS_A_CLUSTER, MANY_POINTS, FEW_A_CLUSTER = 128, 1 << 20, 40
"""More points than this a cluster are sampled: further ones hardly move a mean. Many points in all are enough
where they are at least a few a cluster."""
SEEDING_ROUNDS = 4
CHECKED = 4
DRAWS = 4
PART = 1 << 16


def kmeans(
    points: Tensor,
    num_clusters: int,
    *,
    generator: torch.Generator,
    iterations: int = 8,
    on_progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Find directions that the points lie around (Dhillon & Modha 2001).

    Seeded by k-means|| (Bahmani et al. 2012), which chooses as k-means++ does, but many centroids a round.
    A cluster that loses all its points begins anew at the point that fits its own cluster worst.

    Args:
        points: ``(N, D)`` float, N at least 1; only their directions count.
        num_clusters: C, at most N.
        generator: of all randomness.
        iterations: rounds of assignment and averaging.
        on_progress: called with the rounds done and their number.

    Returns:
        ``(C, D)`` unit centroids.
    """
    some = min(num_clusters * POINTS_A_CLUSTER, max(MANY_POINTS, num_clusters * FEW_A_CLUSTER))
    chosen = torch.randperm(len(points), generator=generator)[:some]
    unit = unit_rows(points[chosen.sort().values.to(points.device)].float())
    centroid = _seeds(unit, num_clusters, generator)
    for done in range(iterations):
        nearest, cosine = assign(unit, centroid)
        total = torch.zeros_like(centroid).index_add_(0, nearest, unit)
        empty = torch.bincount(nearest, minlength=num_clusters) == 0
        if bool(empty.any()):
            worst = cosine.topk(int(empty.sum()), largest=False).indices
            total[empty] = unit[worst]
        centroid = F.normalize(total, dim=1)
        if on_progress is not None:
            on_progress(done + 1, iterations)
    return centroid


def assign(points: Tensor, centroid: Tensor) -> tuple[Tensor, Tensor]:
    """The centroid ``(n,)`` of largest inner product with each point ``(n, D)``, and the product ``(n,)``."""
    lists = Lists(centroid.shape[1], bits=8, device=centroid.device)
    one = torch.zeros(len(centroid), dtype=torch.int64, device=centroid.device)
    lists.build(one, torch.arange(len(centroid), device=centroid.device), centroid, centroid.new_zeros(1, 1))
    nearest, product = [], []
    for part in torch.split(points, PART):
        found = search_levels(part.float(), [lists.level], [], [], centroid, CHECKED, 1)
        nearest.append(found.cell[:, 0])
        product.append(found.score[:, 0])
    if not nearest:
        return one[:0], points.new_empty(0)
    return torch.cat(nearest), torch.cat(product)


def unit_rows(points: Tensor) -> Tensor:
    """Directions ``(n, D)`` of points ``(n, D)`` of any size; nothing stays nothing."""
    largest = points.abs().amax(dim=1, keepdim=True)  # squares of very large and very small numbers are none
    return F.normalize(points / torch.where(largest > 0, largest, 1.0), dim=1)


def _seeds(unit: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Directions to begin with, far from each other."""
    n = len(unit)
    if count >= n:
        return unit[torch.arange(count, device=unit.device) % n]
    sampled = unit[torch.randint(n, (1,), generator=generator).to(unit.device)]
    distance = 1 - (unit @ sampled.T).squeeze(1)
    for _ in range(SEEDING_ROUNDS):
        share = distance.clamp(min=0).double().cpu()
        if float(share.sum()) <= 0:
            break
        wanted = min(count, int((share > 0).sum()))
        drawn = torch.multinomial(share, wanted // 2 + 1, generator=generator)
        fresh = unit[drawn.to(unit.device)]
        sampled = torch.cat([sampled, fresh])
        distance = torch.minimum(distance, 1 - assign(unit, fresh)[1])
    if len(sampled) <= count:
        rest = torch.randperm(n, generator=generator)[: count - len(sampled)]
        return torch.cat([sampled, unit[rest.to(unit.device)]])
    weight = torch.bincount(assign(unit, sampled)[0], minlength=len(sampled)).double()
    return _plus_plus(sampled, weight, count, generator)


def _plus_plus(points: Tensor, weight: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++ (Arthur & Vassilvitskii 2007) on weighted unit vectors: the best of some draws."""
    weight = weight + 1e-6
    distance = points.new_full((len(points),), 2.0, dtype=torch.float64)
    # inverse sampling of the running sum is several times as fast as multinomial
    draws = torch.rand(count, DRAWS, generator=generator, dtype=torch.float64).to(points.device)
    chosen = torch.empty(count, dtype=torch.int64, device=points.device)
    for number in range(count):
        mass = (weight * distance).cumsum(0)
        tried = torch.searchsorted(mass, draws[number] * mass[-1]).clamp(max=len(points) - 1)
        left = torch.minimum(distance, (1 - points[tried] @ points.T).double().clamp(min=0))  # (draws, n)
        best = (left @ weight).argmin()
        chosen[number], distance = tried[best], left[best]
    return points[chosen]
