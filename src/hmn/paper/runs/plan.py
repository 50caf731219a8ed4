"""What is to be run, and which finished runs a report of it is made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hmn.errors import ConfigError
from hmn.paper.cells.fixed import cache_file
from hmn.paper.data import Data, Files
from hmn.paper.grid import ROWS, TEXT, Row
from hmn.paper.preset import Preset
from hmn.paper.runs.results import FIELDS, Results, key_of


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        files: the data.
        out: folder of results, report and intermediate files.
        rows: rows, in order.
        preset: sizes of the rows.
        seeds: number of seeds; each row is run with the seeds 0 to ``seeds`` - 1.
        device: device that computes.
    """

    files: Files
    out: Path
    rows: Sequence[Row]
    preset: Preset
    seeds: int = 1
    device: str = "cpu"

    def runs(self) -> list[tuple[Row, int, str]]:
        """Row, seed and key of each run: all rows with one seed before the next seed."""
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
        """The checksum of the trained model that a row takes its cells from; None for other rows."""
        return self.files.model_checksum() if row.cells == TEXT else None

    def vectors(self, seed: int) -> Path:
        """The file of a seed's TransE vectors."""
        return cache_file(self.out / "cells", self.files.checksum(), self.preset, seed, self.device)

    def network(self, key: str) -> Path:
        """The folder of a finished run's network."""
        return self.out / "networks" / key


def reported(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """Finished runs that a report of the plan is made from, whether or not the plan has their rows.

    These are the runs of the plan's data, preset and device, with three exceptions:

    - A row other than the paper's network is not timed against the others. If it has no run on the plan's
      device, it may come from another one, with the plan's seeds alone.
    - Rows of text cells have the plan's model; if it names none, that of the newest run that has one.
    - Figures of test questions are left out unless the plan has the same test questions.
    """
    checksum, test = plan.files.checksum(), plan.files.test_checksum()
    rows = {row.name: row for row in ROWS}
    model = plan.files.model_checksum() if plan.files.model else _newest_model(plan, checksum, results)
    runs = []
    for key, run in results.runs.items():
        if any(type(run.get(name)) is not kind for name, kind in FIELDS.items()):
            continue
        row, seed, device = rows.get(run["name"]), int(run["seed"]), str(run["device"])
        if row is None or (device != plan.device and (row.network or seed >= plan.seeds)):
            continue
        if key == key_of(checksum, row, plan.preset, seed, device, model):
            same_test = test is not None and run.get("test_data") == test
            tested = {name: part for name, part in run["tested"].items() if name != "test" or same_test}
            runs.append({**run, "tested": tested})
    here = {run["name"] for run in runs if run["device"] == plan.device}
    return [run for run in runs if run["device"] == plan.device or run["name"] not in here]


def _newest_model(plan: Plan, checksum: str, results: Results) -> str:
    alike = (checksum, plan.preset.name)
    models = [
        run.get("model") for run in results.runs.values() if (run.get("data"), run.get("preset")) == alike
    ]
    return str(([model for model in models if model] or [""])[-1])


def without_other_tables(plan: Plan, log: Callable[[str], None]) -> Plan:
    """Leave out the rows of text cells if a miniature's table of facts is not that of the model.

    Args:
        plan: plan whose rows are checked.
        log: called with the reason if rows are left out.

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
        log(f"rows of text cells are left out: {error}")
        return replace(plan, rows=rows)
    return plan
