"""Generated keys and queries of the plan's parts, with what exact search finds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bench.index.data import generated
from hmn.index.structures.exact import ExactIndex
from hmn.results import SearchResult

K = 10
"""Results per query."""
FEATURES = 128
"""Features of a key."""
CLUSTER = 500
"""Cells per cluster of the generated keys, on average."""
SEED = 0
"""Seed of the keys and queries."""


class Made(NamedTuple):
    """Keys ``(N, D)``, queries ``(Q, D)``, and the results of exact search."""

    keys: Tensor
    queries: Tensor
    best: SearchResult

    def half(self, part: int) -> tuple[Tensor, SearchResult]:
        """The first or the second half of the queries, with their results: to tune on, and to measure on."""
        half = len(self.queries) // 2
        chosen = slice(part * half, (part + 1) * half)
        return self.queries[chosen], SearchResult(*(each[chosen] for each in self.best))


def make(cells: int, queries: int, *, clustered: bool = True, exact: bool = True) -> Made:
    """Keys in no order, and queries; see ``bench.index.data.generated``.

    Args:
        cells: number of keys.
        queries: number of queries.
        clustered: whether keys lie in clusters of ``CLUSTER``, and not each by itself.
        exact: whether to search them exactly.
    """
    clusters = max(1, cells // CLUSTER) if clustered else cells
    keys, asked = (torch.from_numpy(part) for part in generated(cells, FEATURES, clusters, queries, SEED)[:2])
    nothing = SearchResult(*[torch.empty(queries, 0)] * 4)
    return Made(keys, asked, ExactIndex(keys).search(asked, K) if exact else nothing)
