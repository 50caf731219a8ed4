"""Accuracies, reads and recall of a search over questions whose facts are known."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.protocol import Index
from hmn.index.structures.exact import ExactIndex
from hmn.index.tuning import recall_at_k
from hmn.paper.network.question_hits import packed
from hmn.qa.cells import Cells
from hmn.qa.metrics import BATCH, best_facts
from hmn.results import SearchResult

K = 10

Search = Callable[[NDArray[np.int64], Tensor], SearchResult]
"""Finds the ten best cells of questions, by their numbers and their queries ``(B, D)``."""


@dataclass(frozen=True)
class Figures:
    """How questions were answered by one search."""

    questions: int
    """Number of questions."""
    fact: float
    """fact_accuracy; facts that tie share a place."""
    pair: float
    """pair_accuracy."""
    reads: float
    """Reads a question."""
    recall: float | None
    """recall@10 of the search against exact search, on some of the questions; None where not measured."""
    questions_a_second: float
    """Of the search alone."""
    cells_scored: float
    """Keys scored in full, a question."""
    hits: dict[str, str]
    """Which questions were right, by ``fact`` and ``pair``, in their order (``question_hits.packed``)."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure(
    search: Search,
    encode: Callable[[NDArray[np.int64]], Tensor],
    facts: FactTable,
    cells: Cells,
    questions: QuestionSet,
    *,
    exact: ExactIndex | None = None,
    recall_on: int = 0,
) -> Figures:
    """Answer all questions and count.

    Args:
        search: what is measured.
        encode: queries ``(B, D)`` of the questions with the given numbers.
        facts: the table.
        cells: its cells.
        questions: with their facts.
        exact: what the recall is measured against, on the first ``recall_on`` questions.
        recall_on: see there.
    """
    count = len(questions)
    right = {"fact": np.zeros(count), "pair": np.zeros(count)}
    reads = scored = seconds = 0.0
    recalled: list[tuple[int, float]] = []
    for at in range(0, len(questions), BATCH):
        numbers = np.arange(at, min(at + BATCH, len(questions)))
        query = encode(numbers)
        began = time.perf_counter()
        found = search(numbers, query)
        reads += float(found.reads.sum())
        scored += float(found.cells_scored.sum())
        seconds += time.perf_counter() - began
        best = best_facts(_NoMore(), cells, query, found)
        for name, share in _shares(facts, questions.cell[numbers], best).items():
            right[name][numbers] = share
        if exact is not None and at < recall_on:
            part = min(len(numbers), recall_on - at)
            first = SearchResult(*(column[:part] for column in found))
            recalled.append((part, recall_at_k(first, exact.search(query[:part], K))))
    total = sum(part for part, _ in recalled)
    return Figures(
        questions=count,
        fact=sum(right["fact"].tolist()) / count,
        pair=sum(right["pair"].tolist()) / count,
        reads=reads / count,
        recall=sum(part * share for part, share in recalled) / total if total else None,
        questions_a_second=count / max(seconds, 1e-9),
        cells_scored=scored / count,
        hits={name: packed(each) for name, each in right.items()},
    )


def _shares(
    facts: FactTable, gold: NDArray[np.int64], best: Sequence[NDArray[np.int64]]
) -> dict[str, NDArray[np.float64]]:
    """How right the facts that tie for the best place of questions are, ``(B,)``: ``fact`` and ``pair``."""
    length = np.array([len(one) for one in best], np.int64)
    fact, row = np.concatenate(best), np.repeat(np.arange(len(best)), length)
    same = {"fact": fact == gold[row], "pair": facts.pair[fact] == facts.pair[gold[row]]}
    each = np.maximum(length, 1)
    return {name: np.bincount(row, one, minlength=len(best)) / each for name, one in same.items()}


class _NoMore:
    """Is asked for more cells where the ten that were found all tie: they stand for all of them then."""

    def __len__(self) -> int:
        return 0

    def search(self, query: Tensor, k: int) -> SearchResult:
        raise NotImplementedError


def index_search(index: Index) -> Search:
    """Search with an index."""

    def search(numbers: NDArray[np.int64], query: Tensor) -> SearchResult:  # noqa: ARG001
        return index.search(query, K)

    return search
