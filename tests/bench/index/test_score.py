"""Recall as the benchmark judges it."""

from __future__ import annotations

import numpy as np
import pytest
from bench.index.score import best_scores, recalls
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.index import data


def test_answers_of_another_shape_are_refused(small: data.DataSet) -> None:
    cells = np.argsort(-(small.queries("tune") @ small.keys.T), axis=1)[:, : data.K]
    with pytest.raises(ValueError, match=r"ids \(256, 9\)"):
        recalls(small.keys, small.queries("tune"), cells[:, :9], small.best("tune"))


def test_worse_cells_count_nothing(small: data.DataSet) -> None:
    worst = np.argsort(small.queries("tune") @ small.keys.T, axis=1)[:, : data.K]
    assert recalls(small.keys, small.queries("tune"), worst, small.best("tune")).max() == 0


def test_any_of_tied_cells_counts() -> None:
    keys = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)  # every key five times
    query = np.array([[4, 3, 2, 1]], dtype=np.float32)
    best = best_scores(keys, query, 7)
    for last_two in ([5, 6], [8, 9]):
        assert recalls(keys, query, np.array([[0, 1, 2, 3, 4, *last_two]]), best).item() == 1
    assert recalls(keys, query, np.array([[0, 1, 2, 3, 4, 5, 10]]), best).item() == pytest.approx(6 / 7)


@settings(deadline=None)
@given(cells=st.integers(1, 60), k=st.integers(1, 20), seed=st.integers(0, 99))
def test_best_scores_are_those_of_a_full_sort(cells: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    keys = random.integers(-2, 3, (cells, 3)).astype(np.float32)
    queries = random.standard_normal((4, 3)).astype(np.float32)
    expected = -np.sort(-(queries.astype(np.float64) @ keys.T), axis=1)[:, :k]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.index.score.PART", 7)
        np.testing.assert_allclose(best_scores(keys, queries, k), expected, rtol=1e-6, atol=1e-9)
