"""Measure all search structures over the memory of a trained model: accuracy against reads."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hmn.errors import ConfigError, MissingPackageError
from hmn.facts.questions import QuestionSet
from hmn.index.protocol import Index, Tunable
from hmn.index.registry import make_index, with_setting
from hmn.index.structures.cluster import default_clusters
from hmn.index.tuning import recall_at_k
from hmn.machine import machine
from hmn.qa.hops.network import HopNetwork
from hmn.qa.metrics import BATCH, best_facts, shares
from hmn.qa.sweep.figures import Curve, Point, Sweep
from hmn.results import SearchResult
from hmn.store.atomic import check_folder, resolved, write_atomically

if TYPE_CHECKING:
    from hmn.qa.factoid_qa import FactoidQA


STRUCTURES = {
    "exact": "exact",
    "cluster": "cluster",
    "hierarchy": "hierarchy",
    "cluster, no codes": "cluster:codes=none",
    "WTA-Hash": "wta-hash:num_tables=64,num_permutations=4,prefix=4,num_probes=3",
    "PCA-Tree": "pca-tree",
    "faiss IVF": "faiss:IVF{lists},Flat",
}
"""Texts of the indexes that are measured, by the names of their structures. The first must be exact."""
FOUND_ALL = 0.9995
"""Recall from which an index counts as finding everything."""
MOST_READ = 0.5
"""Reads, as a share of the cells, beyond which an index is not worth it."""

OnProgress = Callable[[int, int, str], None]
"""Called with the structures done, their total, and what is being measured."""


def run_sweep(
    qa: FactoidQA,
    questions: QuestionSet,
    folder: Path | str,
    *,
    command: str = "",
    on_progress: OnProgress | None = None,
) -> Sweep:
    """Measure every structure over the model's memory, and write ``sweep.json`` and ``sweep.md``.

    The effort of each structure doubles until it finds all that exact search finds, reads half of the cells,
    or has nothing more to read. The files are written after each structure, completely or not at all.

    Args:
        qa: A trained model. Its own index is not touched.
        questions: Questions with their facts or with their answers.
        folder: Folder to write to. It is created if it does not exist.
        command: Command line that the files name as their origin.
        on_progress: Called with the structures done, their total, and what is being measured.

    Raises:
        ConfigError: The model reads in several hops, each of which is a search.
        NotFittedError: The model was not trained.
        BundleError: The files cannot be written.
    """
    if isinstance(qa.network, HopNetwork):
        raise ConfigError(
            f"the model reads in up to {qa.config.hops} hops, expected a single one: compare the structures "
            "with hmn evaluate --index"
        )
    folder = resolved(folder)
    check_folder(folder)
    keys, k = qa.memory.snapshot(), qa.config.k
    query = qa.encode(questions.text)
    here = machine()
    about = {
        "command": command,
        "questions": len(questions),
        "facts_known": bool((questions.cell >= 0).all()),
        "facts": len(qa.facts),
        "cells": len(keys),
        "features": keys.shape[1],
        "k": k,
        **{name: here[name] for name in ("platform", "cores", "threads", "hmn", "torch", "date")},
    }
    sweep, measure = Sweep(about), Measure(qa, questions, query, k)
    for done, (name, text) in enumerate(STRUCTURES.items()):
        text = text.format(lists=default_clusters(len(keys)))

        def log(stage: str, done: int = done, name: str = name) -> None:
            if on_progress is not None:
                on_progress(done, len(STRUCTURES), f"{name}: {stage}")

        try:
            sweep.curves.append(_curve(name, text, keys, measure, log))
        except (ConfigError, MissingPackageError) as error:
            sweep.skipped[name] = str(error)
        write_atomically(folder / "sweep.json", (json.dumps(sweep.as_dict(), indent=2) + "\n").encode())
        write_atomically(folder / "sweep.md", sweep.markdown().encode())
    return sweep


class Measure:
    """Measures indexes on the same questions. The first one measured must be exact.

    Args:
        qa: A trained model.
        questions: Q questions with their facts or with their answers.
        query: ``(Q, D)`` their queries.
        k: Number of cells that are read per question.
    """

    def __init__(self, qa: FactoidQA, questions: QuestionSet, query: Tensor, k: int) -> None:
        self.qa, self.questions, self.query, self.k = qa, questions, query, k
        self.known = bool((questions.cell >= 0).all())
        self.exact: SearchResult | None = None

    def __call__(self, index: Index, text: str, value: int | None) -> Point:
        """Measure an index, which ``text`` names and whose effort is ``value``."""
        results, seconds, number = [], 0.0, 0
        total = {"fact": 0.0, "pair": 0.0, "answer": 0.0}
        for part in torch.split(self.query, BATCH):
            began = time.perf_counter()
            results.append(index.search(part, self.k))
            seconds += time.perf_counter() - began
            for best in best_facts(index, self.qa.cells, part, results[-1]):
                for name, share in shares(self.qa.facts, self.questions, number, best).items():
                    total[name] += share
                number += 1
        result = SearchResult(*(torch.cat(column) for column in zip(*results, strict=True)))
        self.exact = result if self.exact is None else self.exact
        reads = float(result.reads.mean())
        return Point(
            index=text,
            value=value,
            fact_accuracy=total["fact"] / number if self.known else None,
            pair_accuracy=total["pair"] / number if self.known else None,
            answer_accuracy=total["answer"] / number,
            recall_at_k=recall_at_k(result, self.exact),
            reads=None if math.isnan(reads) else reads,
            cells_scored=float(result.cells_scored.double().mean()),
            queries_per_second=number / max(seconds, 1e-9),
        )


def _curve(name: str, text: str, keys: Tensor, measure: Measure, log: Callable[[str], None]) -> Curve:
    """Build one structure and measure it over the range of its effort."""
    log("building")
    index = make_index(text)
    began = time.perf_counter()
    index.build(keys)
    spent = time.perf_counter() - began
    if measure.exact is None:
        log("searching")
        return Curve(name, None, spent, [measure(index, text, None)])
    if not isinstance(index, Tunable):
        raise ConfigError(f"{text} has no setting that trades reads for recall")
    setting, most = index.effort_name, index.max_effort
    points: list[Point] = []
    for value in _values(measure.k if setting == "max_candidates" else 1, most):
        log(f"{setting}={value}")
        index.effort = value
        points.append(measure(index, with_setting(text, index, setting), value))
        last = points[-1]
        if last.recall_at_k >= FOUND_ALL or (last.reads or 0) >= len(keys) * MOST_READ:
            break
        before = points[-2] if len(points) > 1 else None
        if before is not None and (before.reads, before.cells_scored) == (last.reads, last.cells_scored):
            points.pop()  # there is nothing more to read
            break
    return Curve(name, setting, spent, points)


def _values(first: int, most: int) -> Iterator[int]:
    """``first``, its doubles below ``most``, and ``most``."""
    value = first
    while value < most:
        yield value
        value *= 2
    yield most
