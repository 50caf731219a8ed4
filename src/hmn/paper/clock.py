"""One clock for all rows: a row's steps are timed in turns with those of the full softmax over its cells.

Rows are run one after the other, over days perhaps, on machines that others use as well, so that their own
seconds cannot be compared. What a row's step takes as a multiple of the full softmax's, both timed within the
same seconds, can be.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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


def on_one_clock(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Runs with the seconds of their steps, and of training in their curves, as if run side by side.

    A step takes its multiple of the full softmax's; that takes the least of all runs with cells of one shape,
    which is when the machine had least other work. Building and tuning take what they took. Runs that were
    not timed in turns stay as they are.
    """
    told: dict[tuple[int, ...], list[float]] = {}
    for run in runs:
        if run.get("clock"):
            told.setdefault(tuple(run["cells"]), []).append(run["clock"]["softmax"])
    softmax = {cells: min(steps) for cells, steps in told.items()}
    return [_on_clock(run, softmax[tuple(run["cells"])]) if run.get("clock") else run for run in runs]


def _on_clock(run: Mapping[str, Any], softmax: float) -> Mapping[str, Any]:
    step = run["clock"]["ratio"] * softmax
    epoch = step * run["steps"] / max(1, len(run["curve"]))
    curve, trained = [], 0.0
    for number, one in enumerate(run["curve"], 1):
        trained += one["train_seconds"]
        curve.append({**one, "seconds": one["seconds"] - trained + number * epoch})
    return {**run, "curve": curve, "seconds_a_step": step, "seconds_an_epoch": epoch}
