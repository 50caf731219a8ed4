"""How many reads a search may spend, and how it is brought to them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hmn.index.protocol import Index
from hmn.index.tuning import tune
from hmn.nn.candidates.strategy import Strategy
from hmn.paper.grid import ALL_THREE, SAMPLE, TOP, TOP_BLOCK, TOP_SAMPLE
from hmn.paper.preset import Preset

TUNED_K = 10
ROUNDS = 6


def target_reads(preset: Preset, cells: int, speed_up: int = 0) -> int:
    """Reads that an approximate search may spend on a question, but for the grid of strategies.

    Args:
        preset: has the number by which the cells are divided.
        cells: of the memory.
        speed_up: the row's own such number; 0 for the preset's.
    """
    return max(1, cells // (speed_up or preset.speed_up))


def strategy_reads(preset: Preset, cells: int) -> int:
    """Reads that the searches of the grid of strategies may spend on a question."""
    return max(1, cells // preset.strategies_speed_up)


def tuned_to(index: Index, query: Tensor, reads: int) -> dict[str, Any]:
    """Tune an index to some reads; says what was set and whether they are met within a tenth."""
    found = tune(index, query, TUNED_K, target_reads=reads)
    return {"setting": found.setting, "value": found.value, "reads": found.reads, "reached": found.reached}


def strategy_of(name: str, clusters: int, cells_a_cluster: int) -> Strategy:
    """A strategy of about so many clusters: its parts have equal shares, a block the cells of its share.

    Args:
        name: one of ``hmn.paper.grid.STRATEGIES``.
        clusters: all parts together, at least 1.
        cells_a_cluster: on average.
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
        rand_block=share["block"] * cells_a_cluster,
    )
