"""Recall of a hierarchy at given reads, between the points of its curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from hmn.index.structures.hierarchy.index import HierarchicalIndex

REACHES = (20, 30, 45, 60, 80, 100, 130, 170, 220, 300)
"""Values of the hierarchy's ``reach`` that a curve is made of."""


def recall_at(
    index: HierarchicalIndex, query: Tensor, wanted: Tensor, reads: Sequence[int]
) -> list[float | None]:
    """Share of the wanted cells ``(Q, k)`` found at each number of reads per query; None beyond the curve."""
    before, points = index.reach, []
    for reach in REACHES:
        index.reach = reach
        result = index.search(query, wanted.shape[1])
        found = (result.cell.unsqueeze(2) == wanted.unsqueeze(1)).any(dim=1)  # (Q, k)
        points.append((float(result.reads.mean()), float(found.float().mean())))
    index.reach = before
    return [_between(points, count) for count in reads]


def look_alike(index: HierarchicalIndex, other: HierarchicalIndex) -> None:
    """Let an index look as far as another one has measured or learned."""
    index.groups.measured = replace(other.groups.measured, last=None)


def _between(points: Sequence[tuple[float, float]], reads: float) -> float | None:
    for (fewer, low), (more, high) in pairwise(points):
        if fewer <= reads <= more:
            share = math.log(reads / fewer) / math.log(more / fewer) if more > fewer else 0.0
            return low + (high - low) * share
    return None
