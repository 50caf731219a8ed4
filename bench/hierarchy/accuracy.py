"""How many reads it takes to answer questions as exact search does, and what each part contributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from hmn.facts.questions import QuestionSet
from hmn.index.protocol import Tunable
from hmn.index.structures.cluster import ClusterIndex
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.faiss import FaissIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.sweep.figures import Point
from hmn.qa.sweep.measure import Measure

GROUPS = 1200
"""Groups of the hierarchy: twice as many as by default, since questions tell 1,627 relations apart."""
PARTS = 16
"""Parts of its short codes: half as many as by default."""
REACHES = (50, 60, 70, 80, 85, 90, 95, 100, 110, 130)
"""Values of the hierarchy's ``reach`` that are tried."""
FOR_TEN = (20, 25, 30, 35, 40, 45, 50, 60, 80)
"""The same where all ten results are wanted."""
UNTAUGHT = (150, 175, 200, 225, 250, 275, 300, 350, 400)
"""The same where nothing was learned."""
PROBES = tuple(2**power for power in range(10))
"""Numbers of probes that are tried."""
LOST = (1.0, 0.5, 0.3, 0.1)
"""Losses, in points of accuracy, at which the table gives the reads."""


@dataclass(frozen=True)
class Variant:
    """A structure, whether it learns from queries, and the efforts that are tried."""

    name: str
    make: Callable[[], Tunable]
    values: tuple[int, ...]
    learns: bool = False

    def settings(self, index: Tunable) -> Iterator[int]:
        """Set the index to each value in turn."""
        for value in self.values:
            index.effort = value
            yield value


def hierarchy(
    groups: int | None = GROUPS, parts: int | None = PARTS, wanted: int | None = 1
) -> Callable[[], Tunable]:
    """A hierarchy of this shape, which wants this number of results."""
    return lambda: HierarchicalIndex(groups, parts=parts, wanted=wanted)


VARIANTS = (
    Variant("hierarchy", hierarchy(), REACHES, learns=True),
    Variant("all ten results wanted", hierarchy(wanted=None), FOR_TEN, learns=True),
    Variant("nothing learned", hierarchy(), UNTAUGHT),
    Variant("half as many groups", hierarchy(GROUPS // 2), REACHES, learns=True),
    Variant("twice as many groups", hierarchy(2 * GROUPS), REACHES, learns=True),
    Variant("short codes of 8 parts", hierarchy(parts=8), REACHES, learns=True),
    Variant("short codes of 32 parts", hierarchy(parts=32), REACHES, learns=True),
    Variant(
        "clusters, a number of them",
        lambda: ClusterIndex("200x7500", "40x200", rescore=36),
        PROBES,
    ),
    Variant("faiss IVF-Flat", lambda: FaissIndex("IVF1000,Flat"), PROBES),
)


def measure(model: Path, data: Path, log: Callable[[str], None]) -> dict[str, Any]:
    """All variants on the held-out questions; those that learn do so from the training questions."""
    qa = FactoidQA.from_pretrained(model)
    train, valid = (QuestionSet.read(data / f"{name}.tsv", qa.facts) for name in ("train", "valid"))
    keys = qa.memory.snapshot()
    queries, train_queries = qa.encode(valid.text), qa.encode(train.text)
    exact = ExactIndex(keys)
    best_cells = exact.search(train_queries, 1).cell[:, 0]
    measured = Measure(qa, valid, queries, qa.config.k)
    best = measured(exact, "exact", None)
    curves: dict[str, list[dict[str, Any]]] = {}
    for variant in VARIANTS:
        log(variant.name)
        index = variant.make()
        index.build(keys)
        if variant.learns:
            assert isinstance(index, HierarchicalIndex)
            index.learn(train_queries, best_cells)
        curves[variant.name] = [
            _figures(measured(index, variant.name, value), best) for value in variant.settings(index)
        ]
    return {
        "exact": _figures(best, best),
        "curves": curves,
        "facts": len(qa.facts),
        "cells": len(keys),
        "features": keys.shape[1],
        "questions": len(valid.text),
        "lessons": len(train.text),
    }


def _figures(point: Point, best: Point) -> dict[str, Any]:
    """A point of a curve, with its loss of accuracy against exact search in percentage points."""
    assert point.fact_accuracy is not None and point.pair_accuracy is not None
    assert best.fact_accuracy is not None and best.pair_accuracy is not None
    return {
        "value": point.value,
        "reads": point.reads,
        "fact_accuracy": point.fact_accuracy,
        "pair_accuracy": point.pair_accuracy,
        "facts_lost": 100 * (best.fact_accuracy - point.fact_accuracy),
        "pairs_lost": 100 * (best.pair_accuracy - point.pair_accuracy),
        "recall_at_k": point.recall_at_k,
    }


def reads_at(curve: list[dict[str, Any]], lost: float) -> float | None:
    """Reads at which the larger of both losses, of pairs and of facts, falls to ``lost`` points.

    Interpolated between the points of the curve; None if the loss stays above.
    """
    points = [(max(point["pairs_lost"], point["facts_lost"]), point["reads"]) for point in curve]
    for (worse, fewer_reads), (better, more_reads) in pairwise(points):
        if better <= lost < worse:
            share = (worse - lost) / (worse - better)
            return float(fewer_reads * (more_reads / fewer_reads) ** share)
    return float(points[0][1]) if points[0][0] <= lost else None
