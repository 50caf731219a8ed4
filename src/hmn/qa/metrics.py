"""How well questions are answered: accuracies with ties by shares, so that no figure depends on an order."""

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
DEPTH = 50
"""Ranks are known down to here; a fact further down counts 0 in ``mrr``."""
SPARE = 1.6
"""So many times as many cells are searched at first, as several cells may stand for one fact."""
BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """Figures over a set of questions; None where the questions do not tell (only answers are known).

    Where several facts tie for a place (scores within 1e-6, relative), each counts with its share.
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
    """Mean reciprocal rank of the question's fact (of the first right one), 0 beyond rank 50."""
    recall_at_k: float
    """The question's fact (a right one) is among the k best facts."""
    k: int
    """The k of recall_at_k."""
    reads: float
    """Mean reads a question: bytes touched, divided by the bytes of one key in float32."""
    cells_scored: float
    """Mean number of keys scored in full."""
    queries_per_second: float
    """Questions a second, from text to ranked facts, in batches."""

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """How one question went; shares between 0 and 1."""

    fact: float
    pair: float
    answer: float
    reciprocal_rank: float
    recalled: float
    best: NDArray[np.int64]
    """Facts that tied for the best place."""


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
    """Answer all questions and count.

    Args:
        encode: queries ``(B, D)`` of the questions with the given numbers.
        index: finds the best cells, or some of them.
        facts: the table.
        cells: the cells of the table.
        questions: Q questions with their facts, or with their answers.
        k: facts that ``recall_at_k`` looks at.
        read: cells that are read to answer a question. The accuracies, reads and time are those of a search
            for so many, which may find other cells than a search for the many more that ranks need; that
            second search is not counted. If not given there is one search, which serves for both.
        outcomes: if given, how each question went is appended.
    """
    kept: list[Outcome] = []
    reads = scored = seconds = 0.0
    deep = int(SPARE * max(k, DEPTH))
    for at in range(0, len(questions), BATCH):
        began = time.perf_counter()
        numbers = np.arange(at, min(at + BATCH, len(questions)))
        query = encode(numbers)
        found = index.search(query, read or deep)
        reads += float(found.reads.sum())
        scored += float(found.cells_scored.sum())
        best = None if read is None else best_facts(index, cells, query, found)
        seconds += time.perf_counter() - began
        if read is not None:
            found = index.search(query, deep)
        began = time.perf_counter()
        score, cell = found.score.double().cpu().numpy(), found.cell.cpu().numpy()
        for row, number in enumerate(numbers):
            gold = int(questions.cell[number])
            right = np.array([gold]) if gold >= 0 else questions.right_cells(facts, int(number))
            ranked = _deep_enough(
                index, cells, query[row : row + 1], score[row], cell[row], right, max(k, DEPTH)
            )
            one = _outcome(facts, cells, questions, int(number), right, *ranked, k)
            if best is not None:
                one = replace(one, **shares(facts, questions, int(number), best[row]), best=best[row])
            kept.append(one)
        seconds += time.perf_counter() - began
    if outcomes is not None:
        outcomes.extend(kept)
    known = bool((questions.cell >= 0).all())
    count = len(kept)

    def mean(values: list[float]) -> float:
        return float(sum(values)) / count

    return Evaluation(
        questions=count,
        fact_accuracy=mean([one.fact for one in kept]) if known else None,
        pair_accuracy=mean([one.pair for one in kept]) if known else None,
        answer_accuracy=mean([one.answer for one in kept]),
        mrr=mean([one.reciprocal_rank for one in kept]),
        recall_at_k=mean([one.recalled for one in kept]),
        k=k,
        reads=reads / count,
        cells_scored=scored / count,
        queries_per_second=count / seconds,
    )


def best_facts(index: Searcher, cells: Cells, query: Tensor, found: SearchResult) -> list[NDArray[np.int64]]:
    """Facts that tie for the best place of each query ``(B, D)``, none where no cell was found.

    Args:
        index: is asked for more where all cells that were found tie.
        cells: the cells of the table.
        query: the queries.
        found: the result of a search for them.
    """
    best = []
    scores, rows = found.score.double().cpu().numpy(), found.cell.cpu().numpy()
    for at, (score, cell) in enumerate(zip(scores, rows, strict=True)):
        k = len(cell)
        while cell[-1] >= 0 and k < len(index) and score[-1] >= score[0] - TIE * abs(score[0]):
            k = min(2 * k, len(index))
            again = index.search(query[at : at + 1], k)
            score, cell = again.score[0].double().cpu().numpy(), again.cell[0].cpu().numpy()
        there = cell >= 0  # before any comparison: places that are not used score -inf
        score, cell = score[there], cell[there]
        tied = cell[score >= score[0] - TIE * abs(score[0])] if len(cell) else cell
        best.append(facts_of(cells, tied))
    return best


def shares(
    facts: FactTable, questions: QuestionSet, number: int, best: NDArray[np.int64]
) -> dict[str, float]:
    """How right the facts that tie for the best place of a question are: ``fact``, ``pair``, ``answer``."""
    gold = int(questions.cell[number])
    right = np.array([gold]) if gold >= 0 else questions.right_cells(facts, number)
    if not len(best):
        return {"fact": 0.0, "pair": 0.0, "answer": 0.0}
    return {
        "fact": float(_among(best, right).mean()),
        "pair": float((facts.pair[best] == facts.pair[gold]).mean()) if gold >= 0 else 0.0,
        "answer": float(_among(facts.object[best], questions.answers(number)).mean()),
    }


def _deep_enough(
    index: Searcher,
    cells: Cells,
    query: Tensor,
    score: NDArray[np.float64],
    cell: NDArray[np.int64],
    right: NDArray[np.int64],
    wanted: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Ranked cells of a question, with all of the first right fact's level or ``wanted`` facts above it."""
    k = len(cell)
    while cell[-1] >= 0 and k < len(index):
        # the last level may go on below the cells that were found; those above it are whole
        whole = cell[score > score[-1] + TIE * abs(score[-1])]
        if len(_holding(cells, whole, right)) or len(facts_of(cells, whole)) >= wanted:
            break
        k = min(2 * k, len(index))
        found = index.search(query, k)
        score, cell = found.score[0].double().cpu().numpy(), found.cell[0].cpu().numpy()
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
    tolerance = TIE * np.abs(score)
    best = facts_of(cells, cell[score >= score[0] - tolerance[0]] if len(cell) else cell)
    at = _holding(cells, cell, right)
    recalled = reciprocal = 0.0
    if len(at):
        place = int(at[0])
        above, level = 0, best
        if score[place] < score[0] - tolerance[0]:
            before = facts_of(cells, cell[score > score[place] + tolerance[place]])
            tied = facts_of(cells, cell[np.abs(score - score[place]) <= tolerance[place]])
            above, level = len(before), np.setdiff1d(tied, before)
        recalled, reciprocal = _rank_shares(above, len(level), int(_among(level, right).sum()), k)
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
    """Which values are among the wanted ones, which ascend; many times as fast as ``np.isin`` on a few."""
    at = np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)
    found: NDArray[np.bool_] = wanted[at] == values
    return found


def _holding(cells: Cells, cell: NDArray[np.int64], facts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of the cells that stand for any of the facts."""
    if len(facts) == 1:
        return np.flatnonzero(_among(cell, cells.of_fact.row(int(facts[0]))))
    held = cells.facts.take(cell)
    hit = np.concatenate([np.zeros(1, np.int64), np.cumsum(_among(held.flat, facts))])
    return np.flatnonzero(hit[held.start[1:]] > hit[held.start[:-1]])


def _rank_shares(above: int, level: int, right: int, k: int) -> tuple[float, float]:
    """Expected recall at k and reciprocal rank of the first right fact, in a random order of a level.

    ``above`` facts come before it for certain; ``level`` facts tie, ``right`` of them right.
    """
    recalled = reciprocal = 0.0
    still_wrong = 1.0
    for place in range(min(level - right + 1, max(DEPTH, k) - above)):
        first_here = still_wrong * right / (level - place)
        reciprocal += first_here / (above + place + 1) if above + place < DEPTH else 0.0
        recalled += first_here if above + place < k else 0.0
        still_wrong -= first_here
    return recalled, reciprocal
