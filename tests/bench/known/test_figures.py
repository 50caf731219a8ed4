"""Figures on probabilities, compared with counting."""

from __future__ import annotations

import numpy as np
import pytest
from bench.known.figures import auroc, bins, calibration_error, coverage, risks

RNG = np.random.default_rng(0)


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    higher, lower = RNG.integers(0, 8, 40) / 8, RNG.integers(0, 6, 30) / 8
    pairs = [1.0 if one > other else 0.5 if one == other else 0.0 for one in higher for other in lower]
    assert auroc(higher, lower) == pytest.approx(np.mean(pairs))
    assert auroc(np.ones(3), np.zeros(2)) == 1.0


def test_calibration_error_of_probabilities_that_mean_what_they_say() -> None:
    probability = RNG.random(60_000)
    right = (RNG.random(60_000) < probability).astype(float)
    assert calibration_error(probability, right) < 0.01
    assert calibration_error(np.full(1000, 0.9), np.repeat([1.0, 0.0], [600, 400])) == pytest.approx(0.3)
    assert sum(count for _, _, count in bins(probability, right)) == 60_000


def test_coverage_is_the_most_that_can_be_answered() -> None:
    probability = np.array([0.9, 0.8, 0.7, 0.7, 0.2])
    right = np.array([1.0, 1.0, 0.0, 1.0, 1.0])
    assert coverage(probability, right, 0.9) == 0.4
    assert coverage(probability, right, 0.75) == 1.0  # 4 of 5; the two that tie are answered together
    assert coverage(probability, 1 - right, 0.5) == 0.0
    covered, risk = risks(probability, right)
    assert covered.tolist() == [0.2, 0.4, 0.8, 1.0] and risk == pytest.approx([0.0, 0.0, 0.25, 0.2])
