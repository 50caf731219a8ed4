"""The clusters of the benchmarks are one per 64 cells, however many cells there are."""

from __future__ import annotations

import torch
from bench.clusters import AT_EVERY_BUILD, index_of

from hmn.index.registry import make_index

CELLS = 17_000
"""Enough cells for the default to make fewer clusters: 260."""


def clusters_made(index: str, *sizes: int) -> list[object]:
    made = make_index(index, iterations=0)
    keys = torch.randn(max(sizes), 4, generator=torch.Generator().manual_seed(0))
    counts: list[object] = []
    for size in sizes:
        made.build(keys[:size])
        counts.append(made.stats()["num_clusters"])
    return counts


def test_clusters_of_a_number_of_cells() -> None:
    assert clusters_made(index_of(CELLS), CELLS) == ["265"]
    assert clusters_made(index_of(63), 63) == ["1"]


def test_a_growing_index_has_them_at_every_build() -> None:
    assert clusters_made(AT_EVERY_BUILD, 0, 640, CELLS) == ["1", "10", "265"]
