"""Runs of one row together: means over seeds, and how far two rows must differ to be told apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARGIN = 2.0
"""Standard errors by which two accuracies must differ."""


@dataclass(frozen=True)
class Mean:
    """A figure over seeds.

    Attributes:
        value: the mean.
        spread: standard deviation over the seeds, 0 for one.
        seeds: how many.
    """

    value: float
    spread: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Of at least one value."""
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return cls(statistics.fmean(values), spread, len(values))


@dataclass(frozen=True)
class Accuracy:
    """An accuracy with how sure it is."""

    mean: Mean
    questions: int

    @property
    def error(self) -> float:
        """Standard error: of drawing so many questions, and of drawing so many seeds."""
        share = min(max(self.mean.value, 0.0), 1.0)
        return math.hypot(
            math.sqrt(share * (1 - share) / self.questions), self.mean.spread / math.sqrt(self.mean.seeds)
        )


def compare(ours: Accuracy, theirs: Accuracy) -> str:
    """``more``, ``less`` or ``level``: which of two accuracies is larger, by ``MARGIN`` standard errors.

    The errors of both are added as if the questions were different ones. They are the same, so the true error
    of the difference is smaller, and the rule errs on the side of ``level``.
    """
    return sign(ours.mean.value - theirs.mean.value, MARGIN * math.hypot(ours.error, theirs.error))


def sign(difference: float, margin: float) -> str:
    """``more``, ``less``, or ``level`` within the margin."""
    return "level" if abs(difference) <= margin else "more" if difference > 0 else "less"


class Table:
    """All runs of a preset, by row.

    Args:
        runs: as the results file has them.
    """

    def __init__(self, runs: Iterable[Mapping[str, Any]]) -> None:
        self.runs: dict[str, list[Mapping[str, Any]]] = {}
        for run in runs:
            self.runs.setdefault(run["name"], []).append(run)

    def __contains__(self, name: str) -> bool:
        """Whether a row has a run."""
        return name in self.runs

    @property
    def split(self) -> str:
        """What is reported: the test questions, if every run was given them, else the held-out ones."""
        tested = [run["tested"] for runs in self.runs.values() for run in runs]
        return "test" if tested and all("test" in one for one in tested) else "valid"

    def mean(self, name: str, *path: str) -> Mean | None:
        """A figure of a row over its seeds, by where it stands in a run; None where there is none."""
        values = []
        for run in self.runs.get(name, []):
            value: Any = run
            for part in path:
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is None:
                return None
            values.append(float(value))
        return Mean.of(values) if values else None

    def accuracy(self, name: str, how: str = "own", what: str = "fact") -> Accuracy | None:
        """An accuracy of a row.

        Args:
            name: the row.
            how: with which search: the row's ``own``, ``exact``, or the ``other`` that it was tested with.
            what: ``fact`` or ``pair``.
        """
        mean = self.mean(name, "tested", self.split, how, what)
        if mean is None:
            return None
        questions = self.runs[name][0]["tested"][self.split][how]["questions"]
        return Accuracy(mean, int(questions))

    def until(self, name: str, accuracy: float, clock: str) -> Mean | None:
        """``epoch`` or ``seconds`` at which validation accuracy reaches a value; None if not in all runs."""
        reached = []
        for run in self.runs.get(name, []):
            at = next((epoch[clock] for epoch in run["curve"] if epoch["fact"] >= accuracy), None)
            if at is None:
                return None
            reached.append(float(at))
        return Mean.of(reached) if reached else None

    def best_valid(self, name: str) -> float:
        """Mean over the seeds of a row's best validation accuracy."""
        return statistics.fmean(max(epoch["fact"] for epoch in run["curve"]) for run in self.runs[name])
