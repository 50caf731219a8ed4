"""Runbooks: which rows of a data set are inserted and deleted, and when searches run.

The format is that of the streaming track of big-ann-benchmarks (Simhadri et al., NeurIPS 2023): YAML with
numbered steps under the name of a data set. A step inserts or deletes the rows from ``start`` up to ``end``,
or searches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.index.systems.base import package

OPERATIONS = ("insert", "delete", "search")
"""Kinds of steps."""


class RunbookError(Exception):
    """A runbook cannot be followed."""


@dataclass(frozen=True)
class Step:
    """A step of a runbook.

    Attributes:
        operation: ``insert``, ``delete`` or ``search``.
        start: first row; 0 for a search.
        end: row after the last one; 0 for a search.
    """

    operation: str
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Runbook:
    """Steps over the rows of a data set.

    Attributes:
        name: name of the data set.
        rows: number of its rows.
        steps: what is done, in this order.
        most: the largest number of rows that are in at the same time.

    Raises:
        RunbookError: a step inserts a row that is in, deletes one that is not, or has rows that do not exist;
            a search comes while nothing is in.
    """

    name: str
    rows: int
    steps: Sequence[Step]
    most: int = field(init=False)

    def __post_init__(self) -> None:
        most = 0
        present = np.zeros(self.rows, dtype=bool)
        for number, step in enumerate(self.steps, start=1):
            where = f"step {number} of {self.name}: {step.operation}"
            if step.operation not in OPERATIONS:
                raise RunbookError(f"{where}, expected one of {', '.join(OPERATIONS)}")
            if step.operation == "search":
                if not present.any():
                    raise RunbookError(f"{where} while nothing is in, expected an insert before it")
                continue
            if not 0 <= step.start < step.end <= self.rows:
                raise RunbookError(
                    f"{where} of rows {step.start} to {step.end}, expected rows of the {self.rows} in order"
                )
            part = present[step.start : step.end]
            if (part if step.operation == "insert" else ~part).any():
                state = "that are not in" if step.operation == "insert" else "that are in"
                raise RunbookError(f"{where} of rows {step.start} to {step.end}, expected rows {state}")
            part[:] = step.operation == "insert"
            most = max(most, int(present.sum()))
        object.__setattr__(self, "most", most)

    def write(self, file: Path) -> None:
        """Write the runbook as YAML."""
        lines = [f"{self.name}:", f"  max_pts: {self.rows}"]
        for number, step in enumerate(self.steps, start=1):
            lines += [f"  {number}:", f'    operation: "{step.operation}"']
            if step.operation != "search":
                lines += [f"    start: {step.start}", f"    end: {step.end}"]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(file: Path, name: str) -> Runbook:
    """Read the runbook of a data set from a file of big-ann-benchmarks.

    Raises:
        RunbookError: the file has no such data set, or its steps are not numbered from 1.
    """
    held = package("yaml", "pyyaml").safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(held, dict) or name not in held:
        raise RunbookError(f"{file} has no runbook of {name!r}, expected one of {', '.join(map(str, held))}")
    book: dict[Any, Any] = held[name]
    numbers = sorted(key for key in book if isinstance(key, int))
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise RunbookError(f"{file}: the steps of {name} are {numbers[:5]} ..., expected 1, 2, 3 and so on")
    steps = [
        Step(book[number]["operation"], book[number].get("start", 0), book[number].get("end", 0))
        for number in numbers
    ]
    return Runbook(name, int(book["max_pts"]), steps)


def sliding_window(name: str, rows: int, parts: int) -> Runbook:
    """All rows once, in ``parts`` inserts with a search after each; half of the rows are in at a time.

    From the middle on, each insert is followed by a delete of the oldest part that is in.
    """
    edge = [rows * part // parts for part in range(parts + 1)]
    window = parts // 2
    steps: list[Step] = []
    for part in range(parts):
        steps.append(Step("insert", edge[part], edge[part + 1]))
        if part >= window:
            steps.append(Step("delete", edge[part - window], edge[part - window + 1]))
        steps.append(Step("search"))
    return Runbook(name, rows, steps)


def clustered(name: str, sizes: Sequence[int], rounds: int, seed: int) -> Runbook:
    """Inserts and deletes cluster by cluster; the rows of a cluster are next to each other.

    In each round every cluster gets a random share of its rows that are left, in random order, then loses a
    random share of its oldest rows, more than half of them. A search follows every insert and every delete.

    Args:
        name: name of the data set.
        sizes: rows of each cluster.
        rounds: number of rounds; the last one inserts all that is left.
        seed: seed of all draws.
    """
    random = np.random.default_rng(seed)
    ends = np.cumsum(sizes)
    first = ends - np.asarray(sizes)  # the oldest row that is in
    following = first.copy()  # the first row that was never in
    steps: list[Step] = []
    for number in range(rounds):
        for cluster in random.permutation(len(sizes)):
            left = int(ends[cluster] - following[cluster])
            last = number == rounds - 1
            count = left if last else int(left * random.uniform(0.2, 0.8))
            if count:
                start = int(following[cluster])
                following[cluster] += count
                steps += [Step("insert", start, start + count), Step("search")]
        for cluster in random.permutation(len(sizes)):
            there = int(following[cluster] - first[cluster])
            count = int(there * random.uniform(0.5, 0.9))
            if count:
                start = int(first[cluster])
                first[cluster] += count
                steps += [Step("delete", start, start + count), Step("search")]
    return Runbook(name, int(ends[-1]), steps)
