"""Runs the rows, each with each seed in a process of its own, and writes the report after every one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hmn.errors import ConfigError, HMNError
from hmn.paper.cells import cache_file
from hmn.paper.data import Files
from hmn.paper.job import Job
from hmn.paper.preset import Preset
from hmn.paper.results import Results, key_of
from hmn.paper.rows import BM25, ROWS, TEXT, Row

RESULTS_FILE = "results.jsonl"
PATIENCE = 10.0
"""Seconds that a child which was told to stop may take."""

Told = Callable[[str], None]


class RunError(HMNError):
    """A run's own process ended with an error, which it has told on standard error."""


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        files: the data.
        out: folder of results, report and what is kept in between.
        rows: the rows, in order.
        preset: their sizes.
        seeds: each row is run with the seeds 0 to ``seeds`` - 1.
        device: where it is computed.
    """

    files: Files
    out: Path
    rows: Sequence[Row]
    preset: Preset
    seeds: int = 1
    device: str = "cpu"

    def runs(self) -> list[tuple[Row, int, str]]:
        """Each run's row, seed and key: all rows with one seed before the next seed."""
        checksum = self.files.checksum()
        return [(row, seed, self.key(checksum, row, seed)) for seed in range(self.seeds) for row in self.rows]

    def key(self, checksum: str, row: Row, seed: int) -> str:
        """The key of a run; that of a row with a trained model's cells depends on the model."""
        model = self.files.model_checksum() if row.cells == TEXT else ""
        return key_of(checksum + model, row, self.preset, seed, self.device)


def reported(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """Finished runs of the plan's data, preset and device, of all rows, whichever of them it is to run."""
    checksum, rows = plan.files.checksum(), {row.name: row for row in ROWS}
    found = []
    for key, run in results.runs.items():
        row = rows.get(run["name"])
        if row is None or (row.cells == TEXT and plan.files.model is None):
            continue
        wanted = plan.key(checksum, row, int(run["seed"]))
        if key == wanted:
            found.append(run)
    return found


def run_all(plan: Plan, told: Told, after: Callable[[Results], None]) -> Results:
    """Run what is not finished yet.

    Stopped at any moment, the same call goes on: finished runs are not repeated, and the one that was cut
    goes on from its last epoch.

    Args:
        plan: what.
        told: is given a line for each run.
        after: is called with the results whenever there is one more, and at the end.

    Raises:
        ConfigError: ``seeds`` is less than 1.
        RunError: a run ended with an error.
    """
    if plan.seeds < 1:
        raise ConfigError(f"seeds is {plan.seeds}, expected at least 1")
    results, runs = Results(plan.out / RESULTS_FILE), plan.runs()
    checksum = plan.files.checksum()
    left = [run for run in runs if run[2] not in results]
    if len(left) < len(runs):
        told(f"{len(runs) - len(left)} of {len(runs)} runs are finished already")
    for number, (row, seed, key) in enumerate(left, 1):
        told(f"[{number}/{len(left)}] {row.name}, seed {seed}")
        vectors = cache_file(plan.out / "cells", checksum, plan.preset, seed)
        network = not row.pretrained and row.reader != BM25
        if network and row.cells != TEXT and not vectors.exists():
            # in a process of its own, so that its memory is not counted as the row's
            run_child(
                Job(plan.files, plan.preset, seed, plan.device, str(vectors)), plan.out / "work", "cells"
            )
        folder = plan.out / "work" / key
        job = Job(plan.files, plan.preset, seed, plan.device, str(vectors), row, str(folder))
        figures = run_child(job, plan.out / "work", f"{key}-job")
        results.add(
            {
                "key": key,
                "name": row.name,
                "table": row.table,
                "preset": plan.preset.name,
                "seed": seed,
                "device": plan.device,
                "data": checksum,
                "date": datetime.now(UTC).date().isoformat(),
                **figures,
            }
        )
        shutil.rmtree(folder, ignore_errors=True)
        after(results)
    with suppress(OSError):
        (plan.out / "work").rmdir()  # unless other rows that were cut are kept there
    after(results)
    return results


def run_child(job: Job, work: Path, name: str) -> dict[str, Any]:
    """Run a job in a child process to its end; if this process is interrupted, so is the child.

    Raises:
        RunError: it ended with an error.
    """
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"{name}.json"
    file.write_text(job.as_json(), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-m", "hmn.paper.job", str(file)])
    try:
        status = process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    if status == 130:
        raise KeyboardInterrupt
    if status:
        about = "its cells" if job.row is None else job.row.name
        raise RunError(f"the run of {about} ended with status {status}: see above")
    told = file.with_suffix(".result.json")
    result: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    told.unlink()
    file.unlink()
    return result
