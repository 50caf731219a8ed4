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
from hmn.index.allowed import Allowed
from hmn.index.protocol import Searcher
from hmn.index.tuning import recall_at_k
from hmn.paper.network.question_hits import packed
from hmn.qa.cells import Cells
from hmn.qa.metrics import BATCH, best_facts
from hmn.results import SearchResult

K = 10
"""Cells per question that every search is measured on."""

Search = Callable[[NDArray[np.int64], Tensor], SearchResult]
"""Finds the K best cells of questions, by their numbers and their queries ``(B, D)``."""


@dataclass(frozen=True)
class Figures:
    """How questions were answered by one search."""

    questions: int
    """Number of questions."""
    fact: float
    """fact_accuracy; facts that tie for the best place share it."""
    pair: float
    """pair_accuracy."""
    reads: float
    """Reads per question."""
    recall: float | None
    """recall@10 against exact search, on some of the questions; None if not measured."""
    questions_a_second: float
    """Questions per second of the search alone."""
    cells_scored: float
    """Keys scored in full per question."""
    hits: dict[str, str]
    """Questions that were right, by ``fact`` and ``pair``, in their order (``question_hits.packed``)."""

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
    exact: Searcher | None = None,
    recall_on: int = 0,
) -> Figures:
    """Answer all questions and count.

    Args:
        search: search to measure.
        encode: gives the queries ``(B, D)`` of the questions with the given numbers.
        facts: the table.
        cells: its cells.
        questions: questions with their facts.
        exact: exact search, which the recall is measured against; None to measure no recall.
        recall_on: number of questions, from the first, that the recall is measured on.
    """
    count = len(questions)
    right = {"fact": np.zeros(count), "pair": np.zeros(count)}  # (Q,) each
    reads = scored = seconds = 0.0
    recalls: list[tuple[int, float]] = []  # number of questions and their recall
    for start in range(0, count, BATCH):
        numbers = np.arange(start, min(start + BATCH, count))  # (B,)
        query = encode(numbers)  # (B, D)
        began = time.perf_counter()
        result = search(numbers, query)  # (B, K)
        reads += float(result.reads.sum())
        scored += float(result.cells_scored.sum())
        seconds += time.perf_counter() - began
        best = best_facts(_NoMore(), cells, query, result)
        for name, share in _shares(facts, questions.cell[numbers], best).items():
            right[name][numbers] = share
        if exact is not None and start < recall_on:
            part = min(len(numbers), recall_on - start)
            first = SearchResult(*(column[:part] for column in result))
            recalls.append((part, recall_at_k(first, exact.search(query[:part], K))))
    recalled = sum(part for part, _ in recalls)
    return Figures(
        questions=count,
        fact=sum(right["fact"].tolist()) / count,
        pair=sum(right["pair"].tolist()) / count,
        reads=reads / count,
        recall=sum(part * recall for part, recall in recalls) / recalled if recalled else None,
        questions_a_second=count / max(seconds, 1e-9),
        cells_scored=scored / count,
        hits={name: packed(share) for name, share in right.items()},
    )


def _shares(
    facts: FactTable, gold: NDArray[np.int64], best: Sequence[NDArray[np.int64]]
) -> dict[str, NDArray[np.float64]]:
    """Shares ``(B,)`` of the facts that tie for the best place that are right, by ``fact`` and ``pair``."""
    length = np.array([len(one) for one in best], np.int64)
    fact, row = np.concatenate(best), np.repeat(np.arange(len(best)), length)
    same = {"fact": fact == gold[row], "pair": facts.pair[fact] == facts.pair[gold[row]]}
    each = np.maximum(length, 1)
    return {name: np.bincount(row, one, minlength=len(best)) / each for name, one in same.items()}


class _NoMore:
    """Finds no further cells where all K that were found tie: they then stand for all of them."""

    def __len__(self) -> int:
        return 0

    def search(self, query: Tensor, k: int, allowed: Allowed | None = None) -> SearchResult:
        raise NotImplementedError


def index_search(searcher: Searcher) -> Search:
    """Search with an index, whatever the questions are."""

    def search(numbers: NDArray[np.int64], query: Tensor) -> SearchResult:  # noqa: ARG001
        return searcher.search(query, K)

    return search
