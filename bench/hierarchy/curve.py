"""Recall of a hierarchy at given reads, between the points of its curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from hmn.index.structures.hierarchy.index import HierarchicalIndex

REACHES = (20, 30, 45, 60, 80, 100, 130, 170, 220, 300)


def recall_at(
    index: HierarchicalIndex, query: Tensor, wanted: Tensor, reads: Sequence[int]
) -> list[float | None]:
    """Share of the wanted cells ``(Q, k)`` that are found at so many reads a query; None beyond the curve."""
    before, points = index.reach, []
    for reach in REACHES:
        index.reach = reach
        found = index.search(query, wanted.shape[1])
        share = (found.cell.unsqueeze(2) == wanted.unsqueeze(1)).any(dim=1).float().mean()
        points.append((float(found.reads.mean()), float(share)))
    index.reach = before
    return [_between(points, one) for one in reads]


def _between(points: Sequence[tuple[float, float]], reads: float) -> float | None:
    for (few, less), (many, more) in pairwise(points):
        if few <= reads <= many:
            share = math.log(reads / few) / math.log(many / few) if many > few else 0.0
            return less + (more - less) * share
    return None
