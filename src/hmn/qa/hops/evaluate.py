"""Figures on questions that are answered in several hops."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hmn.facts.questions import QuestionSet
from hmn.qa.hops.answers import TIE, HopAnswers, Reading
from hmn.qa.hops.reader import Chains
from hmn.qa.metrics import Evaluation, Outcome, rank_shares

BATCH = 128
"""Number of questions that are read together."""


def evaluate_chains(
    read: Callable[[NDArray[np.int64]], Chains],
    output: HopAnswers,
    questions: QuestionSet,
    *,
    k: int,
    outcomes: list[Outcome] | None = None,
) -> Evaluation:
    """Answer all questions and compute the figures.

    Entities are ranked in the order of the answers: by their reading, then by their weight within it. The
    first one is what a question is answered with. Where only the answers of a question are known, its facts
    and pairs are not.

    Args:
        read: function that reads the chains of the questions with the given numbers.
        output: turns chains into readings.
        questions: Q questions.
        k: number of entities that ``recall_at_k`` looks at.
        outcomes: list to which the figures of each question are appended, if given.
    """
    kept: list[Outcome] = []
    reads: list[NDArray[np.float64]] = []
    began = time.perf_counter()
    for first in range(0, len(questions), BATCH):
        numbers = np.arange(first, min(first + BATCH, len(questions)))
        chains = read(numbers)
        reads.append(chains.reads)
        for number, readings in zip(numbers.tolist(), output.readings(chains), strict=True):
            kept.append(_outcome(output, questions, number, readings, k))
    seconds = time.perf_counter() - began
    if outcomes is not None:
        outcomes.extend(kept)
    known = bool((questions.cell >= 0).all())
    hop_reads = np.concatenate(reads).mean(axis=0)
    return Evaluation(
        questions=len(kept),
        fact_accuracy=_mean([outcome.fact for outcome in kept]) if known else None,
        pair_accuracy=_mean([outcome.pair for outcome in kept]) if known else None,
        answer_accuracy=_mean([outcome.answer for outcome in kept]),
        mrr=_mean([outcome.reciprocal_rank for outcome in kept]),
        recall_at_k=_mean([outcome.recalled for outcome in kept]),
        k=k,
        reads=float(hop_reads.sum()),
        cells_scored=None,
        queries_per_second=len(kept) / seconds,
        hop_reads=tuple(hop_reads.tolist()),
    )


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _outcome(
    output: HopAnswers, questions: QuestionSet, number: int, readings: list[Reading], k: int
) -> Outcome:
    """Figures of one question from its readings."""
    if not readings:
        return Outcome(0.0, 0.0, 0.0, 0.0, 0.0, np.zeros(0, np.int64))
    entity = np.concatenate([reading.entity for reading in readings])
    weight = np.concatenate([reading.weight for reading in readings])
    level = np.concatenate([np.full(len(reading.entity), rank) for rank, reading in enumerate(readings)])
    # entities tie if they have the same reading and the same weight
    new = (np.diff(level) > 0) | (weight[1:] < weight[:-1] * (1 - TIE))
    tie = np.concatenate([[0], np.cumsum(new)])
    right = np.isin(entity, questions.answers(number))
    first = tie == 0
    best = readings[0].facts[: int(first.sum()), -1]
    recalled = reciprocal = 0.0
    if right.any():
        same = tie == tie[right.argmax()]
        recalled, reciprocal = rank_shares(int(same.argmax()), int(same.sum()), int(right[same].sum()), k)
    gold = int(questions.cell[number])
    pair = output.facts.pair
    single = readings[0].facts.shape[1] == 1
    return Outcome(
        fact=float((best == gold).mean()) if single and gold >= 0 else 0.0,
        pair=float((pair[best] == pair[gold]).mean()) if single and gold >= 0 else 0.0,
        answer=float(right[first].mean()),
        reciprocal_rank=reciprocal,
        recalled=recalled,
        best=best,
    )
