"""By how much two rows must differ to count as different, given their questions and their seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MARGIN = 2.0
"""Standard errors by which two accuracies must differ if the error is well known."""
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Quantiles of Student's t that 2.5 % exceed, for 1 to 30 degrees of freedom."""
ENOUGH = 60
"""Degrees of freedom from which ``MARGIN`` replaces Student's t."""


@dataclass(frozen=True)
class Mean:
    """A figure over seeds.

    Attributes:
        value: the mean.
        spread: standard deviation over the seeds; 0 for one seed.
        seeds: number of seeds.
    """

    value: float
    spread: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """The mean of at least one value."""
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return cls(statistics.fmean(values), spread, len(values))


@dataclass(frozen=True, eq=False)
class Accuracy:
    """An accuracy.

    Attributes:
        mean: mean over the seeds.
        questions: number of questions.
        hits: ``(Q,)`` share of the seeds that got each question right; None if it was not kept.
    """

    mean: Mean
    questions: int
    hits: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Spread:
    """A standard deviation over seeds, estimated from several rows together.

    Attributes:
        value: the standard deviation.
        freedom: degrees of freedom: the sum over these rows of their seeds minus one.
    """

    value: float
    freedom: int

    @classmethod
    def of(cls, means: Iterable[Mean]) -> Spread | None:
        """The spread of the rows with several seeds; None if no row has several."""
        several = [mean for mean in means if mean.seeds > 1]
        freedom = sum(mean.seeds - 1 for mean in several)
        if not freedom:
            return None
        return cls(math.sqrt(sum((mean.seeds - 1) * mean.spread**2 for mean in several) / freedom), freedom)


@dataclass(frozen=True)
class Difference:
    """A difference and its uncertainty.

    Attributes:
        value: ours minus theirs.
        error: its standard error.
        factor: standard errors that it must exceed.
    """

    value: float
    error: float
    factor: float = MARGIN

    @property
    def margin(self) -> float:
        """The size that it must exceed to count."""
        return self.factor * self.error

    @property
    def sign(self) -> str:
        """``more``, ``less``, or ``level`` if it is within the margin."""
        return "level" if abs(self.value) <= self.margin else "more" if self.value > 0 else "less"


def difference(
    terms: Sequence[tuple[float, Mean]], pooled: Spread | None = None, of_questions: float = 0.0
) -> Difference:
    """A weighted sum of means over seeds, with the variance from the seeds and a known variance.

    The factor is Student's t with the degrees of freedom of Welch and Satterthwaite, at least ``MARGIN``.

    Args:
        terms: weights and means.
        pooled: spread over seeds for the means of one seed; None to add no variance for them.
        of_questions: variance from the choice of questions.
    """
    own = [
        ((weight * mean.spread) ** 2 / mean.seeds, mean.seeds - 1) for weight, mean in terms if mean.seeds > 1
    ]
    if pooled is not None:
        # one estimate serves all of them, so its errors add up instead of cancelling
        share = sum(weight**2 / mean.seeds for weight, mean in terms if mean.seeds == 1)
        own.append((share * pooled.value**2, pooled.freedom))
    variance = of_questions + sum(part for part, _ in own)
    unsure = sum(part**2 / freedom for part, freedom in own)
    return Difference(
        sum(weight * mean.value for weight, mean in terms),
        math.sqrt(variance),
        student(variance**2 / unsure) if unsure else MARGIN,
    )


def student(freedom: float) -> float:
    """Standard errors that a difference must exceed, by the degrees of freedom of its error."""
    if freedom >= ENOUGH:
        return MARGIN
    return STUDENT[min(max(int(freedom), 1), len(STUDENT)) - 1]


def question_variance(terms: Sequence[tuple[float, Accuracy]]) -> float:
    """Variance of a weighted sum of accuracies from the choice of questions.

    If all terms record the questions that they got right, it is the variance of the sums question by
    question: questions that are easy or hard for all of them do not count. Otherwise the terms are treated as
    if they had been asked different questions, which overstates the variance.
    """
    count = terms[0][1].questions
    kept = [
        (weight, accuracy.hits)
        for weight, accuracy in terms
        if accuracy.hits is not None and len(accuracy.hits) == count
    ]
    if len(kept) == len(terms) and count > 1:
        summed = np.sum([weight * hits for weight, hits in kept], axis=0)
        return float(summed.var(ddof=1)) / count
    shares = [
        (weight, min(max(accuracy.mean.value, 0.0), 1.0), accuracy.questions) for weight, accuracy in terms
    ]
    return sum(weight**2 * share * (1 - share) / asked for weight, share, asked in shares)
