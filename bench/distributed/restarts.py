"""``kill -9`` of random ranks in a training: ``torchrun`` starts all again, and the losses stay the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.distributed.train import LOG

ROOT = Path(__file__).parents[2]
POLL = 0.02
"""Seconds between looks at what a run has noted."""
LONGEST = 300.0
"""Upper limit of the seconds in which a run must go on."""


class Run:
    """A training under ``torchrun``, from its start to its end.

    Args:
        folder: its folder; what is there is removed.
        ranks: number of processes.
        restarts: how often ``torchrun`` starts them again.
        flags: flags of ``bench.distributed.train``.
    """

    def __init__(self, folder: Path, ranks: int, restarts: int, flags: list[str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.ranks = folder, ranks
        self._output = (folder / "output.txt").open("w")
        launch = ["--nproc-per-node", str(ranks), "--max-restarts", str(restarts), "--master-port", _port()]
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", *launch),
                *("-m", "bench.distributed.train", str(folder.resolve()), *flags),
            ],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def noted(self) -> list[dict[str, Any]]:
        """What rank 0 has noted so far."""
        log = self.folder / LOG
        lines = log.read_text().splitlines() if log.exists() else []
        notes = []
        for line in lines:
            try:
                notes.append(json.loads(line))
            except ValueError:  # the last words of a rank that was killed
                continue
        return notes

    def wait_for(self, what: str, number: int, starts: int) -> None:
        """Wait for a note after some starts: a ``step`` of at least this number, or the ``end``.

        Raises:
            SystemExit: the run has failed, or nothing is noted for some minutes.
        """
        last, since = -1, time.monotonic()
        while True:
            notes = self.noted()
            begun = [place for place, note in enumerate(notes) if "start" in note]
            if len(begun) >= starts:
                recent = notes[begun[starts - 1] :]
                if any(what in note and (what == "end" or note[what] >= number) for note in recent):
                    return
            if len(notes) != last:
                last, since = len(notes), time.monotonic()
            if self._process.poll() not in (None, 0) or time.monotonic() - since > LONGEST:
                raise SystemExit(f"the run has failed:\n{self.output()[-3000:]}")
            time.sleep(POLL)

    def kill(self, rank: int) -> None:
        """End a rank at once."""
        os.kill(int((self.folder / f"rank-{rank}.pid").read_text()), signal.SIGKILL)

    def finish(self) -> list[dict[str, Any]]:
        """Wait for the end; what was noted."""
        code = self._process.wait()
        if code:
            raise SystemExit(f"the run has failed with {code}:\n{self.output()[-3000:]}")
        self._output.close()
        return self.noted()

    def stop(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        self._output.close()

    def output(self) -> str:
        """What the processes have printed."""
        return (self.folder / "output.txt").read_text()


def measure(work: Path, *, steps: int, kills: int, ranks: int, cells: int, every: float) -> dict[str, Any]:
    """A run that is left alone, and one of which a random rank is killed some times."""
    flags = ["--steps", str(steps), "--cells", str(cells), "--every", str(every)]
    alone = Run(work / "alone", ranks, 0, flags)
    try:
        alone_notes = alone.finish()
    finally:
        alone.stop()
    killed = Run(work / "killed", ranks, kills, flags)
    try:
        rows = list(_killed(killed, steps, kills))
        notes = killed.finish()
    finally:
        killed.stop()
    return {
        "ranks": ranks,
        "cells": cells,
        "steps": steps,
        "every_seconds": every,
        "kills": [{**row, **found} for row, found in zip(rows, _recoveries(notes, rows), strict=True)],
        **compared(alone_notes, notes, steps),
        "seconds_alone": round(_seconds(alone_notes), 1),
        "seconds_killed": round(_seconds(notes), 1),
    }


def _killed(run: Run, steps: int, kills: int) -> Iterator[dict[str, Any]]:
    """Kill a random rank at a random step of each part of the run."""
    rng = random.Random(0)
    for number in range(kills):
        low, high = (int(steps * (number + part) / kills) for part in (0.1, 0.9))
        rank, step = rng.randrange(run.ranks), rng.randrange(low, max(low + 1, high))
        run.wait_for("step", step, number + 1)
        time.sleep(0.1 * rng.random())  # so that it falls anywhere within a step, or a save
        run.kill(rank)
        yield {"rank": rank, "time": time.time()}
        run.wait_for("step", 0, number + 2)


def _recoveries(notes: list[dict[str, Any]], rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """For each kill: the steps that were done once more, and the time until the run was as far as before."""
    starts = [place for place, note in enumerate(notes) if "start" in note]
    for row, begun, ended in zip(rows, starts[1:], [*starts[2:], len(notes)], strict=True):
        before = max((note["step"] for note in notes[:begun] if "step" in note), default=-1)
        again = next((note for note in notes[begun:ended] if note.get("step", -1) >= before), None)
        yield {
            "step": before,
            "resumed_at": notes[begun]["start"],
            "repeated_steps": before + 1 - notes[begun]["start"],
            "restart_seconds": round(notes[begun]["time"] - row["time"], 1),
            "seconds_until_as_far": None if again is None else round(again["time"] - row["time"], 1),
        }


def compared(alone: list[dict[str, Any]], notes: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """How far losses and weights of a run differ from those of another."""
    wanted = {note["step"]: note["loss"] for note in alone if "step" in note}
    done = [note for note in notes if "step" in note]
    if set(wanted) != set(range(steps)) or {note["step"] for note in done} != set(range(steps)):
        raise SystemExit(f"a run has not done each of {steps} steps")
    pairs = [
        (one, other) for note in done for one, other in zip(wanted[note["step"]], note["loss"], strict=True)
    ]
    ends = [next(note["end"] for note in run if "end" in note) for run in (alone, notes)]
    return {
        "steps_done": len(done),
        "losses_that_differ": sum(one != other for one, other in pairs),
        "largest_relative_difference": max(abs(one - other) / abs(one) for one, other in pairs),
        "weights_are_equal": ends[0] == ends[1],
        "first_loss": sum(wanted[0]) / len(wanted[0]),
        "last_loss": sum(wanted[steps - 1]) / len(wanted[steps - 1]),
    }


def _seconds(notes: list[dict[str, Any]]) -> float:
    return float(notes[-1]["time"] - notes[0]["time"])


def _port() -> str:
    """A port that is free now."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
