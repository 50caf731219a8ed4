"""Directions of groups: unit means of their keys, on the few features that tell the groups apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn.index.clustering.kmeans import unit_rows

EXPLAINED = 0.97
"""Share of the directions' squared distances from their mean that the chosen features must explain."""
MOST_FEATURES = 64
"""Upper limit of features that are chosen; where more would be needed, all are taken."""
SAMPLED = 2048
"""Upper limit of directions from which principal components are computed, where there are more features."""
SHORTEST = 1e-30
"""Lower limit of lengths, so that it is safe to divide by them."""
POINTS_AT_A_TIME = 1 << 16
"""Keys averaged at a time."""


def unit_means(keys: Tensor, rows: Tensor | None, group: Tensor, groups: int) -> Tensor:
    """Mean ``(groups, D)`` of the keys of each group, all scaled to length 1, then scaled itself to length 1.

    Args:
        keys: ``(rows, D)`` of any float type.
        rows: ``(n,)`` rows that count; None for all.
        group: ``(n,)`` group of each, 0 to ``groups`` - 1.
        groups: number of groups; those without rows get zeros.
    """
    total = torch.zeros(groups, keys.shape[1], dtype=torch.float32, device=keys.device)
    for begin in range(0, len(group), POINTS_AT_A_TIME):
        part = slice(begin, begin + POINTS_AT_A_TIME)
        points = keys[part] if rows is None else keys[rows[part]]
        total.index_add_(0, group[part], unit_rows(points.float()))
    return F.normalize(total, dim=1, eps=SHORTEST)


def choose_basis(direction: Tensor, weight: Tensor) -> Tensor | None:
    """The features that tell directions apart.

    Args:
        direction: ``(G, D)`` float32 of length 1, or 0.
        weight: ``(G,)`` how much each counts: its number of cells.

    Returns:
        ``(m,)`` int32 features as they are, ascending; or ``(m, D)`` float32 orthonormal rows: the mean and
        principal components; or None for all features. m is at most ``MOST_FEATURES``.
    """
    features = direction.shape[1]
    if features <= MOST_FEATURES or not len(direction):
        return None
    share = weight.float() / weight.sum().clamp(min=1)  # (G,)
    mean = share @ direction  # (D,)
    apart = (direction - mean) * share.sqrt().unsqueeze(1)  # (G, D)
    own = apart.square().sum(dim=0)  # (D,)
    wanted = EXPLAINED * float(own.sum())
    if wanted <= 0:
        return None
    most = own.sort(descending=True)
    if float(most.values[:MOST_FEATURES].sum()) >= wanted:
        return most.indices[: _enough(most.values, wanted)].sort().values.int()
    middle = F.normalize(mean, dim=0)
    value, component = _components(apart - (apart @ middle).unsqueeze(1) * middle)
    if float(value[: MOST_FEATURES - 1].sum()) < wanted:
        return None
    return torch.cat([middle.unsqueeze(0), component[: _enough(value, wanted)]])


def on_basis(vectors: Tensor, basis: Tensor | None) -> Tensor:
    """Coordinates ``(n, m)`` of vectors ``(n, D)`` on a basis; see ``choose_basis``."""
    if basis is None:
        return vectors
    return vectors[:, basis] if basis.dim() == 1 else vectors @ basis.T


def from_basis(coordinates: Tensor, basis: Tensor | None, features: int) -> Tensor:
    """Vectors ``(n, features)`` with these coordinates ``(n, m)`` on a basis, and nothing besides."""
    if basis is None:
        return coordinates
    if basis.dim() == 2:
        return coordinates @ basis
    return coordinates.new_zeros(len(coordinates), features).index_copy_(1, basis.long(), coordinates)


def _enough(falling: Tensor, wanted: float) -> int:
    """How many of these numbers, from the first on, have a sum of ``wanted``."""
    return min(len(falling), 1 + int((falling.cumsum(0) < wanted).sum()))


def _components(points: Tensor) -> tuple[Tensor, Tensor]:
    """Squared lengths ``(c,)`` of points ``(n, D)`` along principal components ``(c, D)``, falling."""
    count, features = points.shape
    if count > features or (count > SAMPLED and features <= SAMPLED):
        value, vector = torch.linalg.eigh(points.T @ points)
        return value.flip(0).clamp(min=0), vector.T.flip(0)
    if count > SAMPLED:
        chosen = torch.linspace(0, count - 1, SAMPLED, dtype=torch.float64, device=points.device).long()
        points = points[chosen] * (count / SAMPLED) ** 0.5
    value, vector = torch.linalg.eigh(points @ points.T)
    value = value.flip(0).clamp(min=0)
    return value, F.normalize(vector.T.flip(0) @ points, dim=1)
