"""All rows on one clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


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
