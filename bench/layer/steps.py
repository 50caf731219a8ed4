"""Time, memory and recall of a training step with each layer, at several numbers of cells."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from bench.index.load.quiet import Quiet
from bench.index.worker import Child
from bench.layer.systems import RATE, SYSTEMS

CELLS = (65_536, 262_144, 1_048_576)
"""Numbers of cells."""
SETTLED = 40
"""Steps with spread reads before timing: by then the optimisers have touched the rows."""
TRAINED = 100
"""Steps of training between the two timings."""
ROUNDS = 8
"""Rounds in which the systems take turns."""
STEPS = 5
"""Steps of each system per round."""
STATES = ("spread", "trained")
"""States that steps are timed in: reads spread over the cells as they begin, and after training."""
PARTS = ("forward", "backward", "optimiser")
"""Parts of a step; the last includes the upkeep of the index."""


def measure(
    log: Callable[[str], None],
    threads: int,
    quiet: Quiet,
    cells: tuple[int, ...] = CELLS,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """Figures of every system for each number of cells."""
    found: dict[str, Any] = {}
    for count in cells:
        quiet.wait(f"{count} cells")
        found[str(count)] = _measured(count, threads, quiet, rounds, log)
    return {"threads": threads, "rounds": rounds, "steps": STEPS, "cells": found}


def _measured(
    cells: int, threads: int, quiet: Quiet, rounds: int, log: Callable[[str], None]
) -> dict[str, Any]:
    children: dict[str, Child] = {}
    found: dict[str, dict[str, Any]] = {}
    try:
        for name in SYSTEMS:
            child = children[name] = Child("bench.layer.systems:System", name, cells, threads)
            first, load = quiet.seen(lambda child=child: child.call("steps", 1)[0])  # type: ignore[misc]
            if load is not None:
                log(f"{cells:,} cells, {name}: {load} in the first step")
            recall = {"1": child.call("recall")}
            found[name] = {
                "first_seconds": sum(first),
                "first_was_loaded": load is not None,
                "recall": recall,
            }
            child.call("steps", SETTLED)
        for state in STATES:
            if state == "trained":
                for child in children.values():
                    child.call("learn", RATE)
                    child.call("steps", TRAINED)
            timed = _in_turns(children, cells, quiet, rounds)
            for name, child in children.items():
                own = found[name]
                own[state] = {**timed[name], "cells_read": child.call("cells_read")}
                own["recall"][state] = child.call("recall")
                own["peak_mib"] = child.call("peak")
                log(f"{cells:,} cells, {name}, {state}: {own[state]}")
    finally:
        for child in children.values():
            child.close()
    return found


def _in_turns(
    children: dict[str, Child], cells: int, quiet: Quiet, rounds: int
) -> dict[str, dict[str, float]]:
    """Median seconds of a step, and of its parts, of each system."""
    seconds: dict[str, list[list[float]]] = {name: [] for name in children}
    for turn in range(rounds):
        for name in children if turn % 2 == 0 else reversed(children):
            call = children[name].call
            taken, _ = quiet.timed(f"{cells:,} cells, {name}", lambda call=call: call("steps", STEPS))  # type: ignore[misc]
            seconds[name] += taken
    found: dict[str, dict[str, float]] = {}
    for name, taken in seconds.items():
        parts = [statistics.median(part) for part in zip(*taken, strict=True)]
        found[name] = {"step": statistics.median(map(sum, taken)), **dict(zip(PARTS, parts, strict=True))}
    return found
