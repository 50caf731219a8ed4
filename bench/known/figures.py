"""Figures on probabilities: how well they separate, whether they mean what they say, and what they risk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 15
"""Number of bins of equal size that the calibration error compares."""


def auroc(higher: Floats, lower: Floats) -> float:
    """Probability that one of ``higher`` is larger than one of ``lower``; ties count by half."""
    both = np.concatenate([higher, lower])
    _, rank, count = np.unique(both, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count - 1) / 2
    wins = middle[rank[: len(higher)]].sum() - len(higher) * (len(higher) + 1) / 2
    return float(wins / (len(higher) * len(lower)))


def bins(probability: Floats, right: Floats) -> list[tuple[float, float, int]]:
    """Mean probability, share of right answers, and number of questions per bin, from low to high.

    Questions of equal probability count as right by their mean, so that their order does not matter.
    """
    _, level, count = np.unique(probability, return_inverse=True, return_counts=True)
    right = (np.bincount(level, right) / count)[level]
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return [(float(probability[part].mean()), float(right[part].mean()), len(part)) for part in parts]


def calibration_error(probability: Floats, right: Floats) -> float:
    """Expected calibration error: mean difference of probability and share of right answers over bins."""
    parts = bins(probability, right)
    return sum(abs(mean - share) * count for mean, share, count in parts) / len(probability)


def risks(probability: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Coverage and risk, answering the most probable questions first; equal ones are answered together."""
    order = np.argsort(-probability, kind="stable")
    count = np.arange(1, len(order) + 1)
    risk = 1 - np.cumsum(right[order]) / count
    ends = np.flatnonzero(np.diff(probability[order], append=-1.0))
    return count[ends] / len(order), risk[ends]


def coverage(probability: Floats, right: Floats, precision: float) -> float:
    """Largest share of questions that are answered with a precision of at least ``precision``."""
    covered, risk = risks(probability, right)
    enough = np.flatnonzero(1 - risk >= precision)
    return float(covered[enough[-1]]) if len(enough) else 0.0
