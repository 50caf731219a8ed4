"""All runs by row: means over seeds, differences between rows, and when an accuracy is reached."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hmn.paper.network.question_hits import unpacked
from hmn.paper.verdicts.one_clock import on_one_clock
from hmn.paper.verdicts.significance import Accuracy, Difference, Mean, Spread, difference, question_variance

SETTLED = 3
"""Epochs without a better one after which a run that met the epoch limit counts as finished."""


class Table:
    """All runs of a preset, by row.

    Args:
        runs: runs of the results file; their seconds are put on one clock. If any was asked the test
            questions, those that were not are left out, so that a table has one set of questions.

    Attributes:
        runs: runs by the names of their rows.
        split: questions that are reported: ``test``, or if none were given ``valid``.
        left_out: number of runs that were not asked the test questions that others were.
    """

    def __init__(self, runs: Iterable[Mapping[str, Any]]) -> None:
        known = list(runs)
        self.split = "test" if any("test" in run["tested"] for run in known) else "valid"
        asked = [run for run in known if self.split in run["tested"]]
        self.left_out = len(known) - len(asked)
        self.runs: dict[str, list[Mapping[str, Any]]] = {}
        for run in on_one_clock(asked):
            self.runs.setdefault(run["name"], []).append(run)

    def __contains__(self, name: str) -> bool:
        """Whether a row has a run."""
        return name in self.runs

    def mean(self, name: str, *path: str) -> Mean | None:
        """A figure of a row over its seeds, by its path in a run; None if a run does not have it."""
        values = []
        for run in self.runs.get(name, []):
            value = _at(run, *path)
            if value is None:
                return None
            values.append(float(value))
        return Mean.of(values) if values else None

    def accuracy(self, name: str, how: str = "own", what: str = "fact") -> Accuracy | None:
        """An accuracy of a row.

        Args:
            name: name of the row.
            how: search: the row's ``own``, ``exact``, the ``common`` one of the strategies, or the ``other``
                one that it was tested with.
            what: ``fact`` or ``pair``.
        """
        mean = self.mean(name, "tested", self.split, how, what)
        if mean is None:
            return None
        tested = [run["tested"][self.split][how] for run in self.runs[name]]
        kept = [_at(figures, "hits", what) for figures in tested]
        questions = int(tested[0]["questions"])
        same = all(figures["questions"] == questions for figures in tested)
        if not same or any(hits is None for hits in kept):
            return Accuracy(mean, questions)
        return Accuracy(mean, questions, np.mean([unpacked(hits) for hits in kept], axis=0))

    def spread(self, how: str = "own", what: str = "fact") -> Spread | None:
        """The pooled spread over seeds of all networks that have several; None if none has."""
        trained = [name for name, runs in self.runs.items() if any(run["curve"] for run in runs)]
        means = [self.mean(name, "tested", self.split, how, what) for name in trained]
        return Spread.of(mean for mean in means if mean is not None)

    def compare(self, ours: str, theirs: str, how: str = "own") -> Difference | None:
        """The accuracy of a row minus that of another, both with one search; None if one has none."""
        return self.contrast([(1.0, ours), (-1.0, theirs)], how)

    def contrast(self, terms: Iterable[tuple[float, str]], how: str = "own") -> Difference | None:
        """A weighted sum of the accuracies of rows with one search; None if one of them has none."""
        accuracies = [(weight, self.accuracy(name, how)) for weight, name in terms]
        known = [(weight, accuracy) for weight, accuracy in accuracies if accuracy is not None]
        if len(known) < len(accuracies):
            return None
        means = [(weight, accuracy.mean) for weight, accuracy in known]
        return difference(means, self.spread(how), question_variance(known))

    def until(self, name: str, accuracy: float, clock: str) -> Mean | None:
        """The ``epoch`` or ``seconds`` at which validation under exact search reaches an accuracy.

        Accuracy is taken to rise evenly between epochs, and in the first epoch from 0, after the seconds that
        building the index took. None unless every run reaches it.
        """
        reached = []
        for run in self.runs.get(name, []):
            passed, height = float(run.get("build_seconds", 0.0)) if clock == "seconds" else 0.0, 0.0
            for epoch in run["curve"]:
                now = validation(epoch)
                if now >= accuracy:
                    share = (accuracy - height) / (now - height) if now > height else 1.0
                    reached.append(passed + share * (epoch[clock] - passed))
                    break
                passed, height = float(epoch[clock]), now
            else:
                return None
        return Mean.of(reached) if reached else None

    def reaching(self, name: str, accuracy: float) -> int:
        """The number of the row's runs that reach an accuracy in validation under exact search."""
        return sum(best_validation(run) >= accuracy for run in self.runs[name])

    def best_valid(self, name: str) -> float:
        """Mean over the seeds of a row's best validation accuracy under exact search."""
        return statistics.fmean(map(best_validation, self.runs[name]))

    def rising(self, name: str) -> bool:
        """Whether a run of the row met the epoch limit while it was still improving."""
        return any(
            run.get("stopped") == "epochs" and len(run["curve"]) - run["epochs_to_best"] < SETTLED
            for run in self.runs.get(name, [])
        )

    def one_seed(self, names: Iterable[str], *, curves: bool) -> bool:
        """Whether nothing measures how much these rows differ from seed to seed.

        Args:
            names: names of rows.
            curves: whether the time until an accuracy counts, which has no pooled spread.
        """
        return all(len(self.runs[name]) == 1 for name in names) and (curves or self.spread() is None)


def validation(epoch: Mapping[str, Any]) -> float:
    """Validation fact_accuracy under exact search after an epoch."""
    return float(epoch.get("exact", epoch)["fact"])


def best_validation(run: Mapping[str, Any]) -> float:
    """Best validation fact_accuracy of any epoch under exact search; another epoch may be the one kept."""
    return max(map(validation, run["curve"]))


def _at(value: Any, *path: str) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
