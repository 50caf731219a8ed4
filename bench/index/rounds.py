"""All systems at their best settings, in turns, so that noise affects them all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.index.cache import Kept
from bench.index.data import DataSet
from bench.index.harness import BATCHES, Options, Tuner, cache_of, chosen, sweep_key
from bench.index.load.busy import BUSY, busy_processes
from bench.index.load.quiet import LoadedError, Quiet
from bench.index.systems.base import Setting, cluster_counts
from bench.index.worker import Child

REFERENCE = "faiss IVF-Flat"
"""Row that speeds are compared with."""
OURS = "hmn cluster"
"""Row of our own structure."""

Sweeps = dict[str, list[dict[str, Any]]]
Log = Callable[[str], None]


def take_turns(
    sweeps: Sweeps, data: DataSet, work: Path, options: Options, log: Log, quiet: Quiet
) -> tuple[dict[str, Any], list[str]]:
    """Time the best setting of every system, round after round; results by batch size, then by row.

    A row beside which others used the machine in some round, however often it was timed again, is refused: it
    is not among the results, but in a note.

    Settings were chosen on the other half of the queries. A setting that misses the target on this half gets
    more effort until its recall reaches it. In each round, every system is timed on the quiet machine, then
    beside busy processes.
    """
    best = {batch: {row: chosen(found, batch) for row, found in sweeps.items()} for batch in BATCHES}
    keys = {
        str(batch): {
            row: sweep_key(row, pick[0], data, options) | {"setting": pick[1]}
            for row, pick in picks.items()
            if pick
        }
        for batch, picks in best.items()
    }
    kept = Kept(work)
    key = {"rounds": options.rounds, "seconds": options.round_seconds, "busy": BUSY, "systems": keys}
    name = f"rounds-{data.k}"
    figures: dict[str, Any] | None = kept.read(name, key)
    if figures is not None:
        return figures, []
    figures = {}
    notes: list[str] = []
    for batch, picks in best.items():
        taken = {row: pick for row, pick in picks.items() if pick}
        figures[str(batch)] = _rounds(taken, batch, data, work, options, log, quiet, notes)
    if not notes:
        kept.write(name, key, figures)
    return figures, notes


def _rounds(
    picks: dict[str, tuple[Setting, Setting]],
    batch: int,
    data: DataSet,
    work: Path,
    options: Options,
    log: Log,
    quiet: Quiet,
    notes: list[str],
) -> dict[str, Any]:
    systems: dict[str, tuple[Child, Tuner]] = {}
    settings: dict[str, Setting] = {}
    try:
        for row, (build, setting) in picks.items():
            log(f"batch {batch}: {row}, {build}, {setting}")
            child = Child("bench.index.worker:Bench", row, build, data.folder, options.threads)
            child.call("load", cache_of(row, build, work))
            systems[row] = child, Tuner(child, data, options, quiet, "measure")
            settings[row] = _settled(systems[row][1], setting, options.target)
        times: dict[str, list[tuple[float, float, float | None]]] = {row: [] for row in systems}
        loaded: dict[str, list[float]] = {row: [] for row in systems}
        order = list(systems)
        for number in range(options.rounds):
            log(f"batch {batch}: round {number + 1} of {options.rounds}")
            shift = number % max(1, len(order))
            for row in order[shift:] + order[:shift]:
                if row not in times:
                    continue
                timed = partial(systems[row][1].timed, settings[row], batch, options.round_seconds)
                try:
                    time.sleep(options.pause)
                    times[row].append(timed())
                    with busy_processes():
                        time.sleep(options.pause)
                        loaded[row].append(timed()[0])
                except LoadedError as error:
                    del times[row]
                    notes.append(f"{row}, {error}")
                    log(notes[-1])
        return {
            row: {
                "build": picks[row][0],
                "setting": settings[row],
                "recall": systems[row][1].recall(settings[row]),
                "recall_timed": statistics.mean(recall for _, recall, _ in measured),
                "reads": systems[row][1].point(settings[row], 0, ()).reads,
                "speeds": [speed for speed, _, _ in measured],
                "others": [others for _, _, others in measured],
                "speeds_loaded": loaded[row],
            }
            for row, measured in times.items()
        }
    finally:
        for child, _ in systems.values():
            child.close()


def _settled(tuner: Tuner, setting: Setting, target: float) -> Setting:
    while tuner.recall(setting) < target:
        more = tuner.stronger(setting)
        if more is None:
            return setting
        setting = more
    return setting


def ratios(rounds: dict[str, Any], row: str, reference: str) -> list[float] | None:
    """Speed of a row divided by that of another, round by round; None if either was not measured."""
    if row not in rounds or reference not in rounds:
        return None
    pairs = zip(rounds[row]["speeds"], rounds[reference]["speeds"], strict=True)
    return [own / other for own, other in pairs]


def build_in_turn(
    ours: Setting, data: DataSet, work: Path, options: Options, log: Log, quiet: Quiet
) -> dict[str, Any]:
    """Seconds to build our clusters and faiss's, in turn; each in a new process.

    Both get the same number of clusters: the one nearest to 1,000 of those tried.

    Raises:
        LoadedError: others used the machine during every build of a round.
    """
    clusters = min(cluster_counts(data.about["cells"]), key=lambda count: abs(count - 1000))
    builds: dict[str, Setting] = {
        REFERENCE: {"clusters": clusters},
        OURS: {**ours, "num_clusters": clusters},
    }
    kept = Kept(work)
    key = {
        "rounds": options.build_rounds,
        "systems": {row: sweep_key(row, build, data, options) for row, build in builds.items()},
    }
    figures: dict[str, Any] | None = kept.read("builds", key)
    if figures is None:
        seconds: dict[str, list[float]] = {row: [] for row in builds}
        for number in range(options.build_rounds):
            for row, build in builds.items():
                log(f"build {number + 1} of {options.build_rounds}: {row}, {build}")
                make = partial(_seconds, row, build, data, options)
                seconds[row].append(quiet.timed(f"build of {row}", make)[0])
        figures = {"builds": builds, "seconds": seconds}
        kept.write("builds", key, figures)
    return figures


def _seconds(row: str, build: Setting, data: DataSet, options: Options) -> float:
    child = Child("bench.index.worker:Bench", row, build, data.folder, options.threads)
    try:
        return float(child.call("build", None)["build_seconds"])
    finally:
        child.close()


def label(setting: Setting) -> str:
    """A setting in words."""
    return ", ".join(f"{name} {value}" for name, value in setting.items() if value is not None) or "-"
