"""A trained network searched by every structure at several reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from hmn.nn.memory.stored import Memory
from hmn.paper.grid import SWEPT
from hmn.paper.network.attention import built_index
from hmn.paper.network.measure import Figures, Search, index_search
from hmn.paper.network.search_budget import tuned_to
from hmn.paper.preset import Preset

SWEPT_PARTS = (400, 200, 100, 50, 20, 10, 5)
"""A sweep reads the memory's cells divided by each of these."""


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
        seed: of the structures.
        query: ``(B, D)`` on which they are tuned.
        measured: figures of a search.
        log: called with a line per structure.
    """
    found: list[dict[str, Any]] = []
    for structure, text in SWEPT.items():
        index = built_index(text, preset, memory, seed)
        values: set[int] = set()
        for part in SWEPT_PARTS:
            tuned = tuned_to(index, query, max(1, len(memory) // part))
            if tuned["value"] in values:
                continue
            values.add(tuned["value"])
            figures = measured(index_search(index))
            figures_kept = {name: getattr(figures, name) for name in ("reads", "recall", "fact", "pair")}
            setting = {"setting": tuned["setting"], "value": tuned["value"]}
            found.append({"structure": structure, **setting, **figures_kept})
        log(f"swept {structure}")
    return found
