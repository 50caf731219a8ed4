"""Spherical k-means: clusters of directions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native import search_levels
from hmn.index.clustering.sharing import ALONE, Sharing
from hmn.index.storage.coded_lists import Lists

POINTS_PER_CLUSTER = 128
"""Points per cluster that k-means works on; where there are more it samples: they hardly move a mean."""
MANY_POINTS = 1 << 20
"""Points in all that are enough by default, as long as there are ``FEW_PER_CLUSTER``."""
FEW_PER_CLUSTER = 40
"""Points per cluster below which sampling never goes."""
SEEDING_ROUNDS = 4
"""Rounds of k-means||."""
SCORED_IN_FULL = 4
"""Centroids per point whose products are computed in full, once codes have said which look best."""
DRAWS = 4
"""Candidates for each centroid that k-means++ draws to choose the best of them."""
POINTS_AT_A_TIME = 1 << 16
"""Points assigned at a time."""


def kmeans(
    points: Tensor,
    num_clusters: int,
    *,
    generator: torch.Generator,
    iterations: int = 8,
    many: int = MANY_POINTS,
    on_progress: Callable[[int, int], None] | None = None,
    sharing: Sharing = ALONE,
) -> Tensor:
    """Find directions that the points lie around (Dhillon & Modha 2001).

    Seeded by k-means|| (Bahmani et al. 2012), which chooses like k-means++, but many centroids per round.
    A cluster that loses all its points starts again at the point that fits its own cluster worst.

    Args:
        points: ``(N, D)`` float, N at least 1; only their directions count. With ``sharing``, those of this
            process, and N is the number of all.
        num_clusters: C, at most N.
        generator: of all randomness; each process has one of its own.
        iterations: rounds of assignment and averaging.
        many: points that are enough, as long as there are ``FEW_PER_CLUSTER``.
        on_progress: called with the rounds done and their number.
        sharing: the processes that hold the points together, all of which get the same centroids.

    Returns:
        ``(C, D)`` unit centroids.
    """
    enough = min(num_clusters * POINTS_PER_CLUSTER, max(many, num_clusters * FEW_PER_CLUSTER))
    own = _share(enough, len(points), sharing)
    sample = torch.randperm(len(points), generator=generator, device=generator.device)[:own]
    unit = unit_rows(points[sample.sort().values.to(points.device)].float())  # (n, D)
    centroid = _seeds(unit, num_clusters, generator, sharing)  # (C, D)
    for done in range(iterations):
        nearest, cosine = assign(unit, centroid)  # (n,), (n,)
        total = sharing.total(torch.zeros_like(centroid).index_add_(0, nearest, unit))
        empty = sharing.total(torch.bincount(nearest, minlength=num_clusters)) == 0
        if bool(empty.any()):
            total[empty] = _worst(unit, cosine, int(empty.sum()), sharing)
        centroid = F.normalize(total, dim=1)
        if on_progress is not None:
            on_progress(done + 1, iterations)
    return centroid


class Nearest:
    """Finds the nearest of C centroids, which stay as they are.

    Codes of 8 bits decide which ``SCORED_IN_FULL`` centroids are compared in full.

    Args:
        centroid: ``(C, D)`` float32.
    """

    def __init__(self, centroid: Tensor) -> None:
        self.centroid = centroid
        self._lists = Lists(centroid.shape[1], bits=8, device=centroid.device)
        number = torch.arange(len(centroid), device=centroid.device)
        self._lists.build(torch.zeros_like(number), number, centroid, centroid.new_zeros(1, 1))

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """See ``assign``."""
        nearest, product = [], []
        for part in torch.split(points, POINTS_AT_A_TIME):
            result = search_levels(
                part.float(), [self._lists.level], [], [], self.centroid, SCORED_IN_FULL, 1
            )
            nearest.append(result.cell[:, 0])
            product.append(result.score[:, 0])
        return (nearest[0], product[0]) if len(nearest) == 1 else (torch.cat(nearest), torch.cat(product))


def assign(points: Tensor, centroid: Tensor) -> tuple[Tensor, Tensor]:
    """The centroid ``(n,)`` of largest inner product with each point ``(n, D)``, and the product ``(n,)``."""
    return Nearest(centroid)(points)


def unit_rows(points: Tensor) -> Tensor:
    """Points ``(n, D)`` scaled to length 1, however large or small they are; zeros stay zeros."""
    largest = points.abs().amax(dim=1, keepdim=True)  # first, since squares overflow or vanish in float32
    return F.normalize(points / torch.where(largest > 0, largest, 1.0), dim=1)


def _share(count: int, own: int, sharing: Sharing) -> int:
    """This process's part of ``count`` points, if it holds ``own`` of all, rounded up."""
    everyone = int(sharing.total(torch.tensor([own], dtype=torch.int64, device="cpu")))
    return -(-count * own // max(1, everyone))


def _worst(unit: Tensor, cosine: Tensor, count: int, sharing: Sharing) -> Tensor:
    """The points ``(count, D)`` that fit their clusters worst."""
    own = cosine.topk(min(count, len(cosine)), largest=False).indices
    every = sharing.gathered(cosine[own]).argsort(stable=True)[:count]
    return sharing.gathered(unit[own])[every]


def _seeds(unit: Tensor, count: int, generator: torch.Generator, sharing: Sharing) -> Tensor:
    """Choose ``count`` directions ``(count, D)`` that are far from each other, to start k-means from."""
    # 1. k-means||: in each round, draw about half of the count, likelier the farther from those drawn so far.
    # 2. Weight each direction drawn by the points that are nearest to it.
    # 3. Reduce them to the count with k-means++. If there are too few, fill up with random points.
    # Of several processes, each draws its part of every round among its own points.
    own = len(unit)
    n = int(sharing.total(torch.tensor([own], dtype=torch.int64, device="cpu")))
    if count >= n:
        return sharing.gathered(unit)[torch.arange(count, device=unit.device) % n]
    drawn = torch.randint(max(1, own), (min(1, own),), generator=generator, device=generator.device)
    sampled = sharing.gathered(unit[drawn.to(unit.device)])
    distance = 1 - (unit @ sampled.T).amax(dim=1)  # (n,)
    for _ in range(SEEDING_ROUNDS):
        share = distance.clamp(min=0).double().cpu()
        mass, far = sharing.total(torch.stack([share.sum(), (share > 0).sum()])).tolist()
        if mass <= 0:
            break
        wanted = min(count, int(far)) // 2 + 1
        part = min(math.ceil(wanted * (float(share.sum()) / mass)), int((share > 0).sum()))
        drawn = torch.multinomial(share, part, generator=generator) if part else drawn[:0]
        fresh = sharing.gathered(unit[drawn.to(unit.device)])  # (drawn, D)
        sampled = torch.cat([sampled, fresh])
        distance = torch.minimum(distance, 1 - assign(unit, fresh)[1])
    missing = count - len(sampled)
    if missing >= 0:
        rest = torch.randperm(own, generator=generator, device=generator.device)
        rest = rest[: _share(missing, own, sharing)].to(unit.device)
        return torch.cat([sampled, sharing.gathered(unit[rest])[:missing]])
    weight = sharing.total(torch.bincount(assign(unit, sampled)[0], minlength=len(sampled)).double())
    return sharing.of_first(lambda: [_plus_plus(sampled, weight, count, generator)])[0]


def _plus_plus(points: Tensor, weight: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++ (Arthur & Vassilvitskii 2007) on weighted unit vectors, each the best of ``DRAWS``."""
    weight = weight + 1e-6
    distance = points.new_full((len(points),), 2.0, dtype=torch.float64)
    # inverse sampling of the running sum is several times as fast as multinomial
    draws = torch.rand(count, DRAWS, generator=generator, dtype=torch.float64, device=generator.device)
    draws = draws.to(points.device)
    chosen = torch.empty(count, dtype=torch.int64, device=points.device)
    for number in range(count):
        mass = (weight * distance).cumsum(0)
        tried = torch.searchsorted(mass, draws[number] * mass[-1]).clamp(max=len(points) - 1)  # (draws,)
        left = torch.minimum(distance, (1 - points[tried] @ points.T).double().clamp(min=0))  # (draws, n)
        best = (left @ weight).argmin()
        chosen[number], distance = tried[best], left[best]
    return points[chosen]
