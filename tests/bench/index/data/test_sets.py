"""Data sets on disk."""

from __future__ import annotations

import numpy as np
import pytest

from bench.index import data


def test_more_results_have_the_same_best_scores(small: data.DataSet) -> None:
    deep = small.at(100).best("measure")
    assert deep.shape == (256, 100)
    np.testing.assert_array_equal(deep[:, :10], small.best("measure"))
    scores = -np.sort(-(small.queries("measure").astype(np.float64) @ small.keys.T), axis=1)
    np.testing.assert_allclose(deep, scores[:, :100], rtol=1e-6)


def test_more_results_than_scores_are_kept_are_refused(small: data.DataSet) -> None:
    with pytest.raises(ValueError, match="k is 101, expected 1 to 100"):
        small.at(101)
