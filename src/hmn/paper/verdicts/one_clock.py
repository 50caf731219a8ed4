"""Puts the seconds of all runs on one clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def on_one_clock(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Runs whose seconds, of steps and of training in their curves, are as if they had run side by side.

    A step takes the run's own ratio times the full softmax's step. The latter is the shortest of all runs
    with cells of one shape, measured when the machine had least other work. Building and tuning take what
    they took. Runs that were not timed in turns are returned unchanged.
    """
    measured: dict[tuple[int, ...], list[float]] = {}
    for run in runs:
        if run.get("clock"):
            measured.setdefault(tuple(run["cells"]), []).append(run["clock"]["softmax"])
    softmax = {cells: min(steps) for cells, steps in measured.items()}
    return [_on_clock(run, softmax[tuple(run["cells"])]) if run.get("clock") else run for run in runs]


def _on_clock(run: Mapping[str, Any], softmax: float) -> Mapping[str, Any]:
    step = run["clock"]["ratio"] * softmax
    epoch = step * run["steps"] / max(1, len(run["curve"]))
    curve, trained = [], 0.0
    for number, point in enumerate(run["curve"], 1):
        trained += point["train_seconds"]
        curve.append({**point, "seconds": point["seconds"] - trained + number * epoch})
    return {**run, "curve": curve, "seconds_a_step": step, "seconds_an_epoch": epoch}
