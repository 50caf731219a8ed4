"""Time, memory and recall of a training step with each layer, at several numbers of cells."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from bench.index.load.quiet import Quiet
from bench.index.worker import Child
from bench.layer.systems import SYSTEMS

CELLS = (65_536, 262_144, 1_048_576)
"""Numbers of cells."""
MARKS = (1, 10, 100)
"""Steps after which recall is measured, besides the last one."""
ROUNDS, STEPS = 12, 5
"""Rounds in which the systems take turns, and steps of each per round."""
PARTS = ("forward", "backward", "optimiser")
"""Parts of a step; the last includes the upkeep of the index."""


def measure(
    log: Callable[[str], None],
    threads: int,
    quiet: Quiet,
    cells: tuple[int, ...] = CELLS,
    rounds: int = ROUNDS,
    marks: tuple[int, ...] = MARKS,
) -> dict[str, Any]:
    """Figures of every system for each number of cells."""
    found: dict[str, Any] = {}
    for count in cells:
        quiet.wait(f"{count} cells")
        found[str(count)] = _measured(count, threads, quiet, rounds, marks, log)
    return {"threads": threads, "rounds": rounds, "steps": STEPS, "cells": found}


def _measured(
    cells: int, threads: int, quiet: Quiet, rounds: int, marks: tuple[int, ...], log: Callable[[str], None]
) -> dict[str, Any]:
    children: dict[str, Child] = {}
    found: dict[str, dict[str, Any]] = {}
    try:
        for name in SYSTEMS:
            child = children[name] = Child("bench.layer.systems:System", name, cells, threads)
            first, load = quiet.seen(lambda child=child: child.call("steps", 1)[0])  # type: ignore[misc]
            if load is not None:
                log(f"{cells:,} cells, {name}: {load} in the first step")
            found[name] = {"first_seconds": sum(first), "first_was_loaded": load is not None, "recall": {}}
            done = 1
            for mark in marks:
                child.call("steps", mark - done)
                done = mark
                found[name]["recall"][str(mark)] = child.call("recall")
            found[name]["seconds"] = []
        for turn in range(rounds):
            for name in SYSTEMS if turn % 2 == 0 else reversed(SYSTEMS):
                call = children[name].call
                taken, _ = quiet.timed(f"{cells:,} cells, {name}", lambda call=call: call("steps", STEPS))  # type: ignore[misc]
                found[name]["seconds"] += taken
        for name, own in found.items():
            own["recall"]["last"] = children[name].call("recall")
            own["peak_mib"] = children[name].call("peak")
            taken = own.pop("seconds")
            own["step"] = statistics.median(sum(step) for step in taken)
            parts = zip(*taken, strict=True)
            own |= {part: statistics.median(seconds) for part, seconds in zip(PARTS, parts, strict=True)}
            log(f"{cells:,} cells, {name}: {own}")
    finally:
        for child in children.values():
            child.close()
    return found
