"""One clock for all rows: a row's steps are timed in turns with those of the full softmax over its cells.

Rows run one after the other, perhaps over days and on shared machines, so their seconds cannot be compared.
The ratio of a row's step to the full softmax's step can, if both are timed within the same seconds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

ROUNDS = 9
"""Turns of each, after one that warms up."""
BLOCK = 4
"""Steps per turn."""


def in_turns(own: Callable[[int], object], softmax: Callable[[int], object] | None) -> dict[str, float]:
    """Time steps in turns.

    Args:
        own: makes one step of the row, given its number.
        softmax: makes one step of the full softmax; None if the row is the full softmax itself.

    Returns:
        Median seconds per step of the row, ``step``, and of the full softmax, ``softmax``; and ``ratio``, the
        median over the turns of the first divided by the second.
    """
    turns: list[tuple[float, float]] = []
    for turn in range(-1, ROUNDS):  # the first one warms up
        steps = range((turn + 1) * BLOCK, (turn + 2) * BLOCK)
        mine = _seconds(own, steps)
        theirs = mine if softmax is None else _seconds(softmax, steps)
        if turn >= 0:
            turns.append((mine, theirs))
    return {
        "step": statistics.median(mine for mine, _ in turns),
        "softmax": statistics.median(theirs for _, theirs in turns),
        "ratio": statistics.median(mine / max(theirs, 1e-9) for mine, theirs in turns),
    }


def _seconds(step: Callable[[int], object], numbers: range) -> float:
    began = time.perf_counter()
    for number in numbers:
        step(number)
    return (time.perf_counter() - began) / len(numbers)
