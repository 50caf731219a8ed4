"""How few reads answer questions as exact search does, and what each part of the hierarchy adds to that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from hmn.facts.questions import QuestionSet
from hmn.index.protocol import Index
from hmn.index.structures.cluster import ClusterIndex
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.faiss import FaissIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.sweep.figures import Point
from hmn.qa.sweep.measure import Measure

RESCORED = 36
REACHES = (40, 60, 80, 100, 115, 130, 150, 175, 200, 250)
PROBES = tuple(2**power for power in range(10))
LOST = (1.0, 0.5, 0.2)
"""Points of pair_accuracy for which the table tells the reads."""


@dataclass(frozen=True)
class Variant:
    """A structure, how it is taught, and the values of its setting that are tried."""

    name: str
    make: Callable[[], Index]
    values: tuple[int, ...]
    setting: str = "reach"
    taught: bool = False

    def settings(self, index: Index) -> Iterator[int]:
        """Set the index to each value in turn."""
        for value in self.values:
            setattr(index, self.setting, value)
            yield value


def hierarchy(groups: str | None = None, codes: str = "int1") -> Callable[[], Index]:
    """A hierarchy of this shape, which scores few cells in full."""
    return lambda: HierarchicalIndex(groups, codes=codes, rescore=RESCORED)


VARIANTS = (
    Variant("hierarchy", hierarchy(), REACHES, taught=True),
    Variant("nothing learned", hierarchy(), REACHES),
    Variant("cells in 4 bits", hierarchy(codes="int4"), REACHES, taught=True),
    Variant("leaves of 36 cells", hierarchy("750x2500"), REACHES, taught=True),
    Variant("250 groups above", hierarchy("250x7500"), REACHES, taught=True),
    Variant("one tier", hierarchy("7500"), REACHES, taught=True),
    Variant(
        "clusters, a number of them",
        lambda: ClusterIndex("200x7500", "40x200", rescore=RESCORED),
        PROBES,
        "last_probes",
    ),
    Variant("faiss IVF-Flat", lambda: FaissIndex("IVF1000,Flat"), PROBES, "num_probes"),
)


def measure(model: Path, data: Path, said: Callable[[str], None]) -> dict[str, Any]:
    """All variants on the held-out questions, taught by the training questions."""
    qa = FactoidQA.from_pretrained(model)
    train, valid = (QuestionSet.read(data / f"{name}.tsv", qa.facts) for name in ("train", "valid"))
    keys = qa.memory.snapshot()
    queries, lessons = qa.encode(valid.text), qa.encode(train.text)
    exact = ExactIndex(keys)
    best_cells = exact.search(lessons, 1).cell[:, 0]
    ask = Measure(qa, valid, queries, qa.config.k)
    best = ask(exact, "exact", None)
    curves: dict[str, list[dict[str, Any]]] = {}
    for variant in VARIANTS:
        said(variant.name)
        index = variant.make()
        index.build(keys)
        if variant.taught:
            assert isinstance(index, HierarchicalIndex)
            index.learn(lessons, best_cells)
        curves[variant.name] = [
            _figures(ask(index, variant.name, value), best) for value in variant.settings(index)
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
    """A point of a curve, with the points of accuracy that it loses to exact search."""
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
    """Reads at which a curve loses so many points, of pairs or facts, the more; None if it never does."""
    points = [(max(one["pairs_lost"], one["facts_lost"]), one["reads"]) for one in curve]
    for (worse, few), (better, many) in pairwise(points):
        if better <= lost < worse:
            share = (worse - lost) / (worse - better)
            return float(few * (many / few) ** share)
    return float(points[0][1]) if points[0][0] <= lost else None
