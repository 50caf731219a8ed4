"""One clock for all rows: a row's steps are timed in turns with those of the full softmax over its cells.

Rows are run one after the other, over days perhaps, on machines that others use as well, so that their own
seconds cannot be compared. What a row's step takes as a multiple of the full softmax's, both timed within the
same seconds, can be.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

ROUNDS, BLOCK = 9, 4
"""Turns of each, and steps of a turn."""


def in_turns(own: Callable[[int], object], softmax: Callable[[int], object] | None) -> dict[str, float]:
    """Time steps in turns.

    Args:
        own: makes one step, given its number.
        softmax: the same of the full softmax; None where a row is one itself.

    Returns:
        Medians of seconds a step: ``step`` of the row, ``softmax``; and ``ratio``, the median over the turns
        of the one divided by the other.
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
