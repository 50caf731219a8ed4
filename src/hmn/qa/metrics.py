"""Figures on how well questions are answered. Ties count by shares, so no figure depends on an order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.protocol import Searcher
from hmn.qa.cells import Cells
from hmn.results import SearchResult

TIE = 1e-6
"""Relative difference of scores up to which two cells tie."""
DEPTH = 50
"""Lowest rank that is determined. A fact further down counts 0 in ``mrr``."""
SPARE = 1.6
"""Cells searched per fact wanted, since several cells may stand for one fact."""
BATCH = 256
"""Number of questions per search."""


@dataclass(frozen=True)
class Evaluation:
    """Figures over a set of questions. A figure is None if it needs the facts and only answers are known.

    Where several facts tie for a rank (scores within 1e-6, relative), each counts with its share.
    """

    questions: int
    """Number of questions."""
    fact_accuracy: float | None
    """The best fact is the question's fact."""
    pair_accuracy: float | None
    """Subject and relation of the best fact are both right."""
    answer_accuracy: float
    """The object of the best fact is a right answer."""
    mrr: float
    """Mean reciprocal rank of the question's fact (or the first right fact), 0 beyond rank 50."""
    recall_at_k: float
    """The question's fact (or a right fact) is among the k best facts."""
    k: int
    """The k of recall_at_k."""
    reads: float
    """Mean reads per question: bytes touched, divided by the bytes of one key in float32."""
    cells_scored: float | None
    """Mean number of keys scored in full per question; None for several hops, which count reads alone."""
    queries_per_second: float
    """Questions per second, from text to ranked facts, in batches."""
    hop_reads: tuple[float, ...] | None = None
    """Mean reads of each hop per question, if there are several."""
    known_share: float | None = None
    """The answer counts as known at the model's precision; None if the model did not learn to tell."""

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, for JSON."""
        hop_reads = None if self.hop_reads is None else list(self.hop_reads)
        return {**asdict(self), "hop_reads": hop_reads}


@dataclass(frozen=True)
class Outcome:
    """Figures of one question: shares between 0 and 1, as in ``Evaluation``."""

    fact: float
    pair: float
    answer: float
    reciprocal_rank: float
    recalled: float
    best: NDArray[np.int64]
    """Facts that tie for the first rank."""


def evaluate(
    encode: Callable[[NDArray[np.int64]], Tensor],
    index: Searcher,
    facts: FactTable,
    cells: Cells,
    questions: QuestionSet,
    *,
    k: int = 10,
    read: int | None = None,
    outcomes: list[Outcome] | None = None,
) -> Evaluation:
    """Answer all questions and compute the figures.

    The accuracies, reads and time are those of a search for ``read`` cells. Ranks need many more cells, and a
    search for more may find others; so a second search, which is not counted, serves the ranks. Without
    ``read``, one search serves both.

    Args:
        encode: Function that gives the queries ``(B, D)`` of the questions with the given numbers.
        index: Finds the best cells, or some of them.
        facts: The table.
        cells: The cells of the table.
        questions: Q questions with their facts, or with their answers.
        k: Number of facts that ``recall_at_k`` looks at.
        read: Number of cells that are read to answer a question.
        outcomes: List to which the figures of each question are appended, if given.
    """
    kept: list[Outcome] = []
    reads = scored = seconds = 0.0
    # more than all cells are never searched, however large k is
    deep = int(SPARE * min(max(k, DEPTH), max(len(index), DEPTH)))
    for first in range(0, len(questions), BATCH):
        began = time.perf_counter()
        numbers = np.arange(first, min(first + BATCH, len(questions)))  # (B,)
        query = encode(numbers)  # (B, D)
        result = index.search(query, read or deep)
        reads += float(result.reads.sum())
        scored += float(result.cells_scored.sum())
        best = None if read is None else best_facts(index, cells, query, result)
        seconds += time.perf_counter() - began
        if read is not None:
            result = index.search(query, deep)
        began = time.perf_counter()
        ranked = _outcomes(index, facts, cells, questions, numbers, query, result, k)
        if best is not None:
            ranked = [
                replace(outcome, **shares(facts, questions, int(number), tied), best=tied)
                for outcome, number, tied in zip(ranked, numbers, best, strict=True)
            ]
        kept += ranked
        seconds += time.perf_counter() - began
    if outcomes is not None:
        outcomes.extend(kept)
    known = bool((questions.cell >= 0).all())
    return _mean(kept, known, k, reads=reads, cells_scored=scored, seconds=seconds)


def _mean(
    outcomes: list[Outcome], known: bool, k: int, *, reads: float, cells_scored: float, seconds: float
) -> Evaluation:
    """Means over all questions; ``known`` says whether their facts are known, or only their answers."""
    count = len(outcomes)

    def mean(values: list[float]) -> float:
        return float(sum(values)) / count

    return Evaluation(
        questions=count,
        fact_accuracy=mean([outcome.fact for outcome in outcomes]) if known else None,
        pair_accuracy=mean([outcome.pair for outcome in outcomes]) if known else None,
        answer_accuracy=mean([outcome.answer for outcome in outcomes]),
        mrr=mean([outcome.reciprocal_rank for outcome in outcomes]),
        recall_at_k=mean([outcome.recalled for outcome in outcomes]),
        k=k,
        reads=reads / count,
        cells_scored=cells_scored / count,
        queries_per_second=count / seconds,
    )


def best_facts(index: Searcher, cells: Cells, query: Tensor, result: SearchResult) -> list[NDArray[np.int64]]:
    """Facts that tie for the first rank, per query; none if no cell was found.

    Args:
        index: Index that is searched again, for more, if all cells of a result tie.
        cells: The cells of the table.
        query: ``(B, D)`` queries.
        result: Result of a search for them.
    """
    best = []
    scores, rows = result.score.double().cpu().numpy(), result.cell.cpu().numpy()  # (B, k), (B, k)
    for number, (score, cell) in enumerate(zip(scores, rows, strict=True)):
        k = len(cell)
        while cell[-1] >= 0 and k < len(index) and score[-1] >= score[0] - TIE * abs(score[0]):
            k = min(2 * k, len(index))
            wider = index.search(query[number : number + 1], k)
            score, cell = wider.score[0].double().cpu().numpy(), wider.cell[0].cpu().numpy()
        used = cell >= 0  # unused positions score -inf: drop them before any comparison
        score, cell = score[used], cell[used]
        tied = cell[score >= score[0] - TIE * abs(score[0])] if len(cell) else cell
        best.append(facts_of(cells, tied))
    return best


def shares(
    facts: FactTable, questions: QuestionSet, number: int, best: NDArray[np.int64]
) -> dict[str, float]:
    """Shares of right ones among the facts that tie for the first rank: ``fact``, ``pair`` and ``answer``."""
    gold = int(questions.cell[number])
    right = np.array([gold]) if gold >= 0 else questions.right_cells(facts, number)
    if not len(best):
        return {"fact": 0.0, "pair": 0.0, "answer": 0.0}
    return {
        "fact": float(_among(best, right).mean()),
        "pair": float((facts.pair[best] == facts.pair[gold]).mean()) if gold >= 0 else 0.0,
        "answer": float(_among(facts.object[best], questions.answers(number)).mean()),
    }


def _outcomes(
    index: Searcher,
    facts: FactTable,
    cells: Cells,
    questions: QuestionSet,
    numbers: NDArray[np.int64],
    query: Tensor,
    result: SearchResult,
    k: int,
) -> list[Outcome]:
    """Figures of the questions ``numbers`` ``(B,)``, whose queries ``(B, D)`` gave ``result``."""
    outcomes = []
    score, cell = result.score.double().cpu().numpy(), result.cell.cpu().numpy()
    for row, number in enumerate(numbers.tolist()):
        gold = int(questions.cell[number])
        right = np.array([gold]) if gold >= 0 else questions.right_cells(facts, number)
        ranked = _deep_enough(index, cells, query[row : row + 1], score[row], cell[row], right, max(k, DEPTH))
        outcomes.append(_outcome(facts, cells, questions, number, right, *ranked, k))
    return outcomes


def _deep_enough(
    index: Searcher,
    cells: Cells,
    query: Tensor,
    score: NDArray[np.float64],
    cell: NDArray[np.int64],
    right: NDArray[np.int64],
    wanted: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Search wide enough to rank a question's right fact, or to find ``wanted`` facts above it.

    Returns:
        Scores and cells, best first. All cells that tie with the first right fact are among them.
    """
    k = len(cell)
    while cell[-1] >= 0 and k < len(index):
        # more cells may tie with the last one than were found; above it, no tie is cut
        whole = cell[score > score[-1] + TIE * abs(score[-1])]
        if len(_holding(cells, whole, right)) or len(facts_of(cells, whole)) >= wanted:
            break
        k = min(2 * k, len(index))
        result = index.search(query, k)
        score, cell = result.score[0].double().cpu().numpy(), result.cell[0].cpu().numpy()
    return score[cell >= 0], cell[cell >= 0]


def _outcome(
    facts: FactTable,
    cells: Cells,
    questions: QuestionSet,
    number: int,
    right: NDArray[np.int64],
    score: NDArray[np.float64],
    cell: NDArray[np.int64],
    k: int,
) -> Outcome:
    """Figures of one question from its ranked cells; ``right`` are its right facts."""
    tolerance = TIE * np.abs(score)
    best = facts_of(cells, cell[score >= score[0] - tolerance[0]] if len(cell) else cell)
    holding = _holding(cells, cell, right)
    recalled = reciprocal = 0.0
    if len(holding):
        rank = int(holding[0])
        above, level = 0, best
        if score[rank] < score[0] - tolerance[0]:
            before = facts_of(cells, cell[score > score[rank] + tolerance[rank]])
            tied = facts_of(cells, cell[np.abs(score - score[rank]) <= tolerance[rank]])
            above, level = len(before), np.setdiff1d(tied, before)
        recalled, reciprocal = rank_shares(above, len(level), int(_among(level, right).sum()), k)
    return Outcome(
        **shares(facts, questions, number, best),
        reciprocal_rank=reciprocal,
        recalled=recalled,
        best=best,
    )


def facts_of(cells: Cells, cell: NDArray[np.int64]) -> NDArray[np.int64]:
    """Distinct facts that any of the cells stands for, ascending."""
    if len(cell) == 1:
        return cells.facts.row(int(cell[0]))
    return np.unique(cells.facts.take(cell).flat)


def _among(values: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask of the values that are among ``wanted``, which ascend. On a few values np.isin is far slower."""
    if not len(wanted):
        return np.zeros(len(values), np.bool_)
    position = np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)
    among: NDArray[np.bool_] = wanted[position] == values
    return among


def _holding(cells: Cells, cell: NDArray[np.int64], facts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of those cells that stand for any of the facts."""
    if len(facts) == 1:
        return np.flatnonzero(_among(cell, cells.of_fact.row(int(facts[0]))))
    held = cells.facts.take(cell)
    hit = np.concatenate([np.zeros(1, np.int64), np.cumsum(_among(held.flat, facts))])
    return np.flatnonzero(hit[held.start[1:]] > hit[held.start[:-1]])


def rank_shares(above: int, level: int, right: int, k: int) -> tuple[float, float]:
    """Expected recall at k and reciprocal rank of the first right fact, if tied facts are in random order.

    Args:
        above: Number of facts that rank above all that tie.
        level: Number of facts that tie.
        right: Number of right facts among those that tie.
        k: The k of the recall.
    """
    recalled = reciprocal = 0.0
    none_before = 1.0  # probability that all facts before this position are wrong
    for position in range(min(level - right + 1, max(DEPTH, k) - above)):
        first_here = none_before * right / (level - position)
        reciprocal += first_here / (above + position + 1) if above + position < DEPTH else 0.0
        recalled += first_here if above + position < k else 0.0
        none_before -= first_here
    return recalled, reciprocal
