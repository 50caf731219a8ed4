"""A trained network searched by every structure at several reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from hmn.nn.memory.stored import Memory
from hmn.paper.grid import SWEPT
from hmn.paper.network.attention.build import indexed_memory
from hmn.paper.network.attention.search_budget import tuned_to
from hmn.paper.network.measure import Figures, Search, index_search
from hmn.paper.preset import Preset

SWEPT_PARTS = (400, 200, 100, 50, 20, 10, 5)
"""Cells of the memory divided by the reads of each point, from few reads to many."""


def sweep(
    preset: Preset,
    memory: Memory,
    seed: int,
    query: Tensor,
    measured: Callable[[Search], Figures],
    log: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Reads, recall and accuracies of each structure, from few reads to many.

    Args:
        preset: sizes of the structures.
        memory: the fixed cells.
        seed: seed of the structures.
        query: ``(B, D)`` queries that they are tuned on.
        measured: measures a search.
        log: called with a line per structure.
    """
    points: list[dict[str, Any]] = []
    for structure, text in SWEPT.items():
        indexed = indexed_memory(text, preset, memory, seed)
        values: set[int] = set()
        for part in SWEPT_PARTS:
            tuned = tuned_to(indexed.index, query, max(1, len(memory) // part))
            if tuned["value"] in values:
                continue
            values.add(tuned["value"])
            figures = measured(index_search(indexed))
            points.append(
                {
                    "structure": structure,
                    "setting": tuned["setting"],
                    "value": tuned["value"],
                    "reads": figures.reads,
                    "recall": figures.recall,
                    "fact": figures.fact,
                    "pair": figures.pair,
                }
            )
        log(f"swept {structure}")
    return points
