"""How far two rows must differ to be told apart: by their questions, and by their seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MARGIN = 2.0
"""Standard errors by which two accuracies must differ, where the error is known well."""
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Student's t that 2.5 % exceed, for 1 to 30 degrees of freedom."""
ENOUGH = 60
"""Degrees of freedom from which ``MARGIN`` is used."""


@dataclass(frozen=True)
class Mean:
    """A figure over seeds.

    Attributes:
        value: the mean.
        spread: standard deviation over the seeds, 0 for one.
        seeds: how many.
    """

    value: float
    spread: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Of at least one value."""
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return cls(statistics.fmean(values), spread, len(values))


@dataclass(frozen=True, eq=False)
class Accuracy:
    """An accuracy.

    Attributes:
        mean: over the seeds.
        questions: how many were asked.
        hits: ``(Q,)`` share of the seeds that answered each question; None where it was not kept.
    """

    mean: Mean
    questions: int
    hits: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Spread:
    """A standard deviation over seeds, estimated from several rows together.

    Attributes:
        value: the standard deviation.
        freedom: degrees of freedom: seeds less one, of all these rows.
    """

    value: float
    freedom: int

    @classmethod
    def of(cls, means: Iterable[Mean]) -> Spread | None:
        """That of the rows with several seeds; None where there are none."""
        several = [mean for mean in means if mean.seeds > 1]
        freedom = sum(mean.seeds - 1 for mean in several)
        if not freedom:
            return None
        return cls(math.sqrt(sum((mean.seeds - 1) * mean.spread**2 for mean in several) / freedom), freedom)


@dataclass(frozen=True)
class Difference:
    """A difference, and how sure it is.

    Attributes:
        value: ours less theirs.
        error: its standard error.
        factor: standard errors that it must exceed.
    """

    value: float
    error: float
    factor: float = MARGIN

    @property
    def margin(self) -> float:
        """What it must exceed in size to count."""
        return self.factor * self.error

    @property
    def sign(self) -> str:
        """``more``, ``less``, or ``level`` within the margin."""
        return "level" if abs(self.value) <= self.margin else "more" if self.value > 0 else "less"


def difference(
    terms: Sequence[tuple[float, Mean]], pooled: Spread | None = None, of_questions: float = 0.0
) -> Difference:
    """A weighted sum of means over seeds, with the noise of the seeds and a known variance.

    The factor is Student's t with the degrees of freedom of Welch and Satterthwaite, at least ``MARGIN``.

    Args:
        terms: weight and mean.
        pooled: spread over seeds of what has only one; without it nothing is added for them.
        of_questions: variance from the choice of questions.
    """
    own = [
        ((weight * mean.spread) ** 2 / mean.seeds, mean.seeds - 1) for weight, mean in terms if mean.seeds > 1
    ]
    if pooled is not None:
        # one estimate for all of them: their errors of it go together
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
    """Standard errors that a difference must exceed, if its error has so many degrees of freedom."""
    if freedom >= ENOUGH:
        return MARGIN
    return STUDENT[min(max(int(freedom), 1), len(STUDENT)) - 1]


def question_variance(terms: Sequence[tuple[float, Accuracy]]) -> float:
    """Variance of a weighted sum of accuracies from the choice of questions.

    Where all terms tell which questions they got right, it is that of the sums question by question: what is
    easy or hard for all of them does not count. Otherwise they are taken to have had different questions, and
    the variance is too large.
    """
    count = terms[0][1].questions
    kept = [(weight, one.hits) for weight, one in terms if one.hits is not None and len(one.hits) == count]
    if len(kept) == len(terms) and count > 1:
        summed = np.sum([weight * hits for weight, hits in kept], axis=0)
        return float(summed.var(ddof=1)) / count
    shares = [(weight, min(max(one.mean.value, 0.0), 1.0), one.questions) for weight, one in terms]
    return sum(weight**2 * share * (1 - share) / asked for weight, share, asked in shares)
