from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hmn.paper.network.question_hits import packed
from hmn.paper.verdicts.significance import (
    STUDENT,
    Accuracy,
    Difference,
    Mean,
    Spread,
    difference,
    question_variance,
    student,
)
from hmn.paper.verdicts.table import Table

QUESTIONS = 2000


def run(name: str, seed: int, right: NDArray[np.bool_], *, hits: bool = True) -> dict[str, Any]:
    """A run that got these questions right."""
    tested: dict[str, Any] = {"questions": len(right), "fact": float(right.mean())}
    if hits:
        tested["hits"] = {"fact": packed(right.astype(np.float64))}
    return {"name": name, "seed": seed, "tested": {"valid": {"own": tested}}, "curve": [{}]}


@pytest.mark.parametrize("freedom", range(1, 31))
def test_students_t_leaves_one_in_twenty_outside(freedom: int) -> None:
    # the density (1 + t² / ν)^(-(ν + 1) / 2), with t = √ν tan(a), is cos(a)^(ν - 1)
    angle = np.linspace(0, np.pi / 2, 200_001)
    density = np.cos(angle) ** (freedom - 1)
    inside = np.arctan(STUDENT[freedom - 1] / freedom**0.5)
    weight = np.diff(angle, append=np.pi / 2) * density
    assert weight[angle > inside].sum() / weight.sum() == pytest.approx(0.05, abs=2e-4)


def test_more_seeds_need_fewer_standard_errors() -> None:
    factors = [student(freedom) for freedom in (0.5, 1, 1.9, 2, 8, 29.9, 31, 59, 60, 1e9)]
    assert factors == [12.706, 12.706, 12.706, 4.303, 2.306, 2.045, 2.042, 2.042, 2.0, 2.0]


def test_the_same_questions_tell_apart_what_different_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.random(QUESTIONS) < 0.5
    ours = theirs | (rng.random(QUESTIONS) < 0.03)  # right where they are, and now and then elsewhere
    paired = Table([run("ours", 0, ours), run("theirs", 0, theirs)]).compare("ours", "theirs")
    apart = Table([run("ours", 0, ours, hits=False), run("theirs", 0, theirs)]).compare("ours", "theirs")
    assert paired is not None
    assert apart is not None
    gained = ours.astype(float) - theirs
    assert paired.value == apart.value == pytest.approx(gained.mean())
    assert paired.error == pytest.approx(gained.std(ddof=1) / QUESTIONS**0.5)
    one, two = ours.mean(), theirs.mean()
    assert apart.error == pytest.approx(((one * (1 - one) + two * (1 - two)) / QUESTIONS) ** 0.5)
    assert (paired.sign, apart.sign) == ("more", "level")
    assert paired.factor == 2.0


def test_hits_are_averaged_over_seeds_before_they_are_compared() -> None:
    rng = np.random.default_rng(1)
    right = rng.random((2, 3, QUESTIONS)) < [[[0.52]], [[0.50]]]
    runs = [
        run(name, seed, right[row, seed]) for row, name in enumerate(("ours", "theirs")) for seed in range(3)
    ]
    found = Table(runs).compare("ours", "theirs")
    assert found is not None
    each = right.mean(axis=1)  # (2, Q)
    of_questions = (each[0] - each[1]).var(ddof=1) / QUESTIONS
    of_seeds = right.mean(axis=2).var(axis=1, ddof=1) / 3
    assert found.error == pytest.approx((of_questions + of_seeds.sum()) ** 0.5)
    freedom = (of_questions + of_seeds.sum()) ** 2 / (of_seeds**2 / 2).sum()
    assert found.factor == student(freedom)


def test_a_row_with_one_seed_is_given_the_spread_of_the_others() -> None:
    means = [Mean.of([0.5, 0.52]), Mean.of([0.6, 0.61, 0.65]), Mean.of([0.9])]
    pooled = Spread.of(means)
    within = [-0.01, 0.01, -0.02, -0.01, 0.03]
    assert pooled == Spread(pytest.approx((sum(one**2 for one in within) / 3) ** 0.5), 3)
    assert Spread.of([Mean.of([0.9])]) is None
    found = difference([(1.0, Mean.of([0.7])), (-1.0, Mean.of([0.6]))], pooled)
    assert found == Difference(pytest.approx(0.1), pytest.approx(2**0.5 * pooled.value), 3.182)
    assert difference([(1.0, Mean.of([0.7])), (-1.0, Mean.of([0.6]))]) == Difference(
        pytest.approx(0.1), 0.0, 2.0
    )
    # only what was trained counts: BM25 is the same with every seed
    runs = [
        {"name": name, "tested": {"valid": {"own": {"fact": fact, "questions": 9}}}, "curve": curve}
        for name, fact, curve in (
            *(("net", fact, [{}]) for fact in (0.5, 0.52)),
            *(("BM25", 0.5, []),) * 2,
        )
    ]
    assert Table(runs).spread() == Spread(pytest.approx(0.02 / 2**0.5), 1)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("of_seeds", [0.0, 0.01, 0.05])
def test_equal_rows_are_called_different_one_time_in_twenty(seeds: int, of_seeds: float) -> None:
    rng = np.random.default_rng(seeds)
    trials, asked = 2000, 400
    chance = rng.choice([0.1, 0.5, 0.9], size=(trials, 1, 1, asked))  # easy for one, easy for the other
    luck = of_seeds * rng.standard_normal((trials, 2, seeds, 1))
    right = rng.random((trials, 2, seeds, asked)) < chance + luck
    wrong = 0
    for one in right:
        means = [Mean.of(row.tolist()) for row in one.mean(axis=2)]
        rows = [Accuracy(mean, asked, hits) for mean, hits in zip(means, one.mean(axis=1), strict=True)]
        terms = [(1.0, rows[0]), (-1.0, rows[1])]
        found = difference([(weight, row.mean) for weight, row in terms], None, question_variance(terms))
        wrong += found.sign != "level"
    assert wrong / trials < 0.07  # 0.05 ± 0.01, and a little for an error that is itself estimated
    if of_seeds:
        assert wrong / trials > 0.003  # and not by never telling anything apart


def test_a_pooled_spread_is_one_estimate() -> None:
    pooled = Spread(0.01, 4)
    found = difference([(weight, Mean.of([0.5])) for weight in (0.5, 0.5, -0.5, -0.5)], pooled)
    assert found.error == pytest.approx(0.01)
    assert found.factor == 2.776  # as many degrees of freedom as it was estimated with, not four times
