from __future__ import annotations

from typing import Any

import pytest

from hmn.paper.claims import DOES_NOT, HOLDS, NEEDED_STRATEGIES, UNDECIDED, verdicts
from hmn.paper.published import PUBLISHED
from hmn.paper.rows import ROWS
from hmn.paper.table import Accuracy, Mean, Table, compare

QUESTIONS = 10_000  # an accuracy of 0.5 has a standard error of half a point, a difference one of 0.7


def run(name: str, fact: float, **more: Any) -> dict[str, Any]:
    """A made-up run; ``curve`` are pairs of validation accuracy and seconds."""
    curve = more.get("curve", [(0.5 * fact, 10.0), (fact, 20.0)])
    tested = {
        how: {"questions": QUESTIONS, "fact": value, "pair": value, "reads": more.get("reads", 1000.0)}
        for how, value in {"own": fact, "exact": more.get("exact", fact), "other": more.get("other")}.items()
        if value is not None
    }
    return {
        "name": name,
        "seed": more.get("seed", 0),
        "tested": {"valid": tested},
        "curve": [
            {"epoch": epoch, "fact": value, "seconds": seconds}
            for epoch, (value, seconds) in enumerate(curve, 1)
        ],
    }


def verdict(number: int, *runs: dict[str, Any]) -> str:
    return verdicts(Table(runs))[number - 1].verdict


def k_mips(softmax: float, *by_k: float) -> list[dict[str, Any]]:
    found = [run(f"exact {k}-MIPS", fact) for k, fact in zip((10, 50, 100, 1000), by_k, strict=True)]
    return [run("full softmax", softmax), *found]


@pytest.mark.parametrize(
    ("softmax", "by_k", "expected"),
    [
        (0.595, (0.622, 0.612, 0.606, 0.596), HOLDS),
        (0.595, (0.600, 0.600, 0.600, 0.597), UNDECIDED),
        (0.595, (0.622, 0.612, 0.570, 0.596), DOES_NOT),
        (0.595, (0.600, 0.612, 0.622, 0.640), DOES_NOT),
    ],
)
def test_smaller_k(softmax: float, by_k: tuple[float, ...], expected: str) -> None:
    assert verdict(1, *k_mips(softmax, *by_k)) == expected


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ([(0.55, 20.0), (0.60, 30.0)], HOLDS),
        ([(0.20, 20.0), (0.30, 30.0), (0.58, 40.0)], HOLDS),
        ([(0.20, 5.0), (0.30, 10.0), (0.40, 15.0), (0.60, 20.0)], UNDECIDED),
        ([(0.20, 5.0), (0.30, 10.0), (0.40, 15.0), (0.50, 20.0), (0.60, 25.0)], DOES_NOT),
        ([(0.60, 90.0)], DOES_NOT),
        ([(0.60, 62.0)], UNDECIDED),
        ([(0.50, 10.0), (0.56, 20.0)], DOES_NOT),
    ],
)
def test_convergence(ours: list[tuple[float, float]], expected: str) -> None:
    flat = [(0.3, 20.0), (0.5, 40.0), (0.58, 60.0), (0.6, 80.0)]  # 95 % of the best are 0.57: epoch 3, 60 s
    runs = run("full softmax", 0.6, curve=flat), run("exact 10-MIPS", 0.6, curve=ours)
    assert verdict(2, *runs) == expected


@pytest.mark.parametrize(
    ("wta", "pca", "reads", "expected"),
    [
        (0.40, 0.32, 1000.0, HOLDS),
        (0.40, 0.32, 1300.0, UNDECIDED),
        (0.51, 0.32, 1000.0, UNDECIDED),
        (0.56, 0.32, 1000.0, DOES_NOT),
    ],
)
def test_clustering(wta: float, pca: float, reads: float, expected: str) -> None:
    runs = run("clustering", 0.515), run("WTA-Hash", wta, reads=reads), run("PCA-Tree", pca)
    assert verdict(3, *runs) == expected


@pytest.mark.parametrize(
    ("sample", "block", "expected"),
    [
        (0.53, 0.505, HOLDS),
        (0.508, 0.505, UNDECIDED),
        (0.47, 0.505, DOES_NOT),
        (0.53, 0.530, DOES_NOT),
    ],
)
def test_strategies(sample: float, block: float, expected: str) -> None:
    values = {"Top-K": 0.5, "Top-K + Sample-K": sample, "Top-K + Rand-block": block}
    runs = [run(name, values[name.partition(" with ")[0]]) for name in NEEDED_STRATEGIES]
    assert verdict(4, *runs) == expected


@pytest.mark.parametrize(("ours", "expected"), [(0.6, HOLDS), (0.505, UNDECIDED), (0.4, DOES_NOT)])
def test_keyword_filter(ours: float, expected: str) -> None:
    assert verdict(5, run("exact 10-MIPS", ours), run("keyword filter", 0.5)) == expected


@pytest.mark.parametrize(
    ("fact", "curve", "expected"),
    [
        (0.65, [(0.1, 1.0)] * 5 + [(0.6, 2.0)], HOLDS),
        (0.60, [(0.59, 1.0)], HOLDS),
        (0.55, [(0.59, 1.0)], DOES_NOT),
        (0.60, [(0.3, 1.0), (0.59, 2.0)], UNDECIDED),
        (0.60, [(0.3, 1.0), (0.4, 2.0), (0.59, 3.0)], DOES_NOT),
        (0.60, [(0.3, 1.0), (0.4, 2.0)], DOES_NOT),
    ],
)
def test_hierarchy(fact: float, curve: list[tuple[float, float]], expected: str) -> None:
    flat = run("full softmax", 0.6, curve=[(0.3, 1.0), (0.5, 2.0), (0.6, 3.0)])
    assert verdict(6, flat, run("two levels of clusters", fact, curve=curve)) == expected


@pytest.mark.parametrize(("trained", "expected"), [(0.55, HOLDS), (0.595, UNDECIDED), (0.65, DOES_NOT)])
def test_approximate_training(trained: float, expected: str) -> None:
    runs = (
        run("exact 10-MIPS", 0.6, other=0.5),
        run("10-MIPS by clusters", trained - 0.02, exact=trained),
    )
    assert verdict(7, *runs) == expected
    told = verdicts(Table(runs))[6].figures
    assert f"of {100 * (0.62 - trained):.1f} points lost, {100 * (0.6 - trained):.1f} in training" in told
    assert "and 2.0 in the search" in told
    assert "10.0)" in told


def test_without_its_rows_a_claim_is_undecided_and_says_what_is_missing() -> None:
    found = verdicts(Table([run("full softmax", 0.6)]))
    assert len(found) == 7
    assert {one.verdict for one in found} == {UNDECIDED}
    assert found[4].figures == "not run: exact 10-MIPS, keyword filter"


def test_seeds_that_differ_much_make_a_difference_unsure() -> None:
    one = Accuracy(Mean.of([0.60, 0.60, 0.60]), QUESTIONS)
    sure, unsure = (Accuracy(Mean.of(values), QUESTIONS) for values in ([0.57] * 3, [0.50, 0.57, 0.64]))
    assert compare(one, sure) == "more"
    assert compare(sure, one) == "less"
    assert compare(one, unsure) == "level"
    runs = [run("full softmax", fact, seed=seed) for seed, fact in enumerate((0.5, 0.6, 0.7))]
    found = Table(runs).accuracy("full softmax")
    assert found is not None
    assert found.mean == Mean(pytest.approx(0.6), pytest.approx(0.1), 3)
    assert found.error == pytest.approx((0.24 / QUESTIONS + 0.01 / 3) ** 0.5)


def test_every_figure_of_the_paper_belongs_to_a_row() -> None:
    assert PUBLISHED.keys() <= {row.name for row in ROWS}
    # PAPER.md's own, not the recalled ones
    read = {name: one.accuracy for name, one in PUBLISHED.items() if not one.recalled}
    assert len(read) == 9
    assert (read["full softmax"], read["exact 10-MIPS"], read["WTA-Hash"]) == (59.5, 62.2, 40.2)
