"""Recall of a system's answers from scores computed here; the system's own scores are not used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.index.systems.base import Floats, Ids

TIE = 1e-6
"""Relative difference up to which scores count as tied."""
PART = 1 << 14
"""Keys scored at a time."""
SPARE = 10
"""Cells kept beyond k for scoring in float64."""

Scores = np.ndarray[Any, np.dtype[np.float64]]


def best_scores(keys: Floats, queries: Floats, k: int) -> Scores:
    """Scores ``(Q, k)`` of the k best cells of each query, best first.

    Products in float32 choose k + 10 cells, products in float64 decide.
    """
    wanted = min(len(keys), k + SPARE)
    score = np.full((len(queries), 0), -np.inf, dtype=np.float32)
    cell = np.zeros((len(queries), 0), dtype=np.int64)
    for start in range(0, len(keys), PART):
        part = queries @ keys[start : start + PART].T  # (Q, PART)
        best = _largest(part, wanted)
        score = np.concatenate([score, np.take_along_axis(part, best, axis=1)], axis=1)
        cell = np.concatenate([cell, best + start], axis=1)
        kept = _largest(score, wanted)
        score, cell = np.take_along_axis(score, kept, axis=1), np.take_along_axis(cell, kept, axis=1)
    exact: Scores = -np.sort(-scores_of(keys, queries, cell), axis=1)
    return exact[:, : min(k, len(keys))]


def _largest(score: Floats, count: int) -> Ids:
    """Columns ``(Q, count)`` of the largest entries of each row, in no order; all if there are fewer."""
    least = max(0, score.shape[1] - count)
    columns: Ids = np.argpartition(score, least, axis=1)[:, least:]
    return columns


def scores_of(keys: Floats, queries: Floats, cells: Ids) -> Scores:
    """Inner products ``(Q, k)`` in float64 of queries ``(Q, D)`` with cells ``(Q, k)``; ids must exist."""
    scores = np.empty(cells.shape, dtype=np.float64)
    for start in range(0, len(cells), 1024):
        part = slice(start, start + 1024)
        picked = keys[cells[part]].astype(np.float64)  # (1024, k, D)
        scores[part] = np.einsum("qd,qkd->qk", queries[part].astype(np.float64), picked)
    return scores


def recalls(keys: Floats, queries: Floats, cells: Ids, best: Scores) -> NDArray[np.float64]:
    """Recall ``(Q,)`` at k of the cells ``(Q, k)`` that a system found.

    A cell counts if its score reaches the k-th best score within a relative 1e-6, so that any of several tied
    cells counts. A repeated cell counts once; an id outside the memory does not count.

    Raises:
        ValueError: the answers are not one row of k ids per query.
    """
    if cells.shape != best.shape:
        raise ValueError(
            f"a system answered with ids {cells.shape}, expected {best.shape}: one row of k ids per query"
        )
    ordered = np.sort(cells, axis=1)
    good = (ordered >= 0) & (ordered < len(keys))
    good[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    scores = scores_of(keys, queries, np.where(good, ordered, 0))
    last = best[:, -1:]
    recall: NDArray[np.float64] = (good & (scores >= last - TIE * np.abs(last))).mean(axis=1)
    return recall
