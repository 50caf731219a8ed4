"""The reads that a search may spend, and how it is tuned to them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hmn.index.protocol import Index
from hmn.index.tuning import tune
from hmn.nn.candidates.strategy import Strategy
from hmn.paper.grid import ALL_THREE, SAMPLE, TOP, TOP_BLOCK, TOP_SAMPLE
from hmn.paper.preset import Preset

TUNED_K = 10
"""Cells per query in the searches that tuning tries."""
ROUNDS = 6
"""Upper limit of numbers of clusters that the tuning of a strategy tries."""


def target_reads(preset: Preset, cells: int, speed_up: float = 0) -> int:
    """Reads per question that an approximate search may spend, except in the grid of strategies.

    Args:
        preset: sizes, its ``speed_up`` among them.
        cells: cells of the memory.
        speed_up: the row's own speed-up; 0 for the preset's.
    """
    return max(1, int(cells / (speed_up or preset.speed_up)))


def strategy_reads(preset: Preset, cells: int) -> int:
    """Reads per question that searches of the grid of strategies may spend."""
    return max(1, cells // preset.strategies_speed_up)


def tuned_to(index: Index, query: Tensor, reads: int) -> dict[str, Any]:
    """Tune an index to a number of reads; how it was set, and whether that met them within a tenth."""
    tuned = tune(index, query, TUNED_K, target_reads=reads)
    return {"setting": tuned.setting, "value": tuned.value, "reads": tuned.reads, "reached": tuned.reached}


def strategy_of(name: str, clusters: int, cells_per_cluster: int) -> Strategy:
    """A strategy whose parts share a number of clusters equally; a block has the cells of its share.

    Args:
        name: one of ``hmn.paper.grid.STRATEGIES``.
        clusters: clusters of all parts together, at least 1; at least one per part is taken.
        cells_per_cluster: mean number of cells per cluster.
    """
    parts = {
        TOP: ("top",),
        SAMPLE: ("sample",),
        TOP_SAMPLE: ("top", "sample"),
        TOP_BLOCK: ("top", "block"),
        ALL_THREE: ("top", "sample", "block"),
    }[name]
    share = dict.fromkeys(("top", "sample", "block"), 0)
    for number in range(max(clusters, len(parts))):
        share[parts[number % len(parts)]] += 1
    return Strategy(
        top_clusters=share["top"],
        sample_clusters=share["sample"],
        rand_block=share["block"] * cells_per_cluster,
    )
