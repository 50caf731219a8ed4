"""How systems are tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.index.harness import Options, Tuner, chosen, least_effort, sweeps
from bench.index.load.quiet import Quiet
from bench.index.systems import ROWS, Row
from bench.index.systems.base import Floats, Ids, Setting
from bench.index.worker import Bench, ChildError
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.index import data


class Here:
    """Calls a bench in this process."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self.bench, method)(*arguments)


class Liar:
    """Knows the right answers and gives ``honesty`` of them; claims to read nothing."""

    effort = "honesty"

    def __init__(self, best: Ids, lie: str) -> None:
        self.best, self.lie, self.honesty = best, lie, 0
        self.asked = 0

    def efforts(self, k: int) -> tuple[int, int]:  # noqa: ARG002
        return 1, 10

    def others(self, k: int) -> list[Setting]:  # noqa: ARG002
        return [{}]

    def set(self, setting: Setting) -> None:
        self.honesty = setting["honesty"]
        self.asked = 0

    def search(self, queries: Floats, k: int) -> Ids:  # noqa: ARG002
        found = self.best[self.asked : self.asked + len(queries)].copy()
        self.asked += len(queries)
        false = {"repeats": found[:, :1], "nowhere": np.full_like(found[:, :1], 10**9), "none": -1}[self.lie]
        found[:, self.honesty :] = false
        return found

    def reads(self, queries: Floats, k: int) -> float | None:  # noqa: ARG002
        return 0.0


def right_answers(small: data.DataSet, part: str) -> Ids:
    order: Ids = np.argsort(-(small.queries(part).astype(np.float64) @ small.keys.T), axis=1)
    return order[:, : data.K]


def tuner(small: data.DataSet, system: Any, options: Options) -> Tuner:
    bench = Bench.__new__(Bench)
    bench.system, bench.data, bench._queries, bench._next = system, small.folder, {}, 0
    return Tuner(Here(bench), small, options, Quiet(limit=None))


@pytest.mark.parametrize("lie", ["repeats", "nowhere", "none"])
def test_a_liar_is_credited_with_what_is_true_alone(small: data.DataSet, lie: str) -> None:
    liar = Liar(right_answers(small, "tune"), lie)
    found = tuner(small, liar, Options(tuning=256))
    for honesty in (1, 4, 10):
        assert found.recall({"honesty": honesty}) == pytest.approx(honesty / 10, abs=1e-9)
    assert found.reach() == [{"honesty": 10}]
    assert tuner(small, liar, Options(tuning=256, target=0.65)).reach() == [{"honesty": 7}]


@settings(deadline=None)
@given(low=st.integers(1, 20), more=st.integers(0, 300), at=st.integers(0, 400), guess=st.integers(0, 400))
def test_the_least_effort_is_found_from_any_guess(low: int, more: int, at: int, guess: int) -> None:
    high, asked = low + more, []

    def recall(effort: int) -> float:
        assert low <= effort <= high
        asked.append(effort)
        return effort / at if effort < at else 1.0

    expected = max(low, at) if at <= high else None
    assert least_effort(recall, low, high, 1.0, guess) == expected
    assert len(asked) <= 25


def test_effort_that_gains_nothing_is_given_up() -> None:
    asked: list[int] = []
    assert least_effort(lambda effort: asked.append(effort) or 0.9, 1, 1 << 20, 0.95, 1) is None  # type: ignore[func-returns-value]
    assert len(asked) < 6


def test_efforts_that_begin_alike_are_not_given_up() -> None:
    assert least_effort(lambda effort: min(1.0, max(0.5, effort / 700)), 1, 1000, 0.95, 1) == 665


def test_a_refused_build_is_named_and_the_others_are_measured(
    small: data.DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_row: str, build: Setting, *_: Any) -> dict[str, Any]:
        if build["links"] == 8:
            raise ChildError("Traceback\nValueError: dimension 16 is not supported\n")
        return {"build": build, "reached": [1], "curve": []}

    monkeypatch.setattr("bench.index.harness.sweep", refuse)
    monkeypatch.setitem(
        ROWS, "picky", Row(Liar, "none", lambda _cells, _features: [{"links": 8}, {"links": 9}])
    )
    found, notes = sweeps("picky", small, tmp_path, Options(), lambda _line: None, Quiet(limit=None))
    assert [sweep["build"] for sweep in found] == [{"links": 9}]
    assert notes == ["picky, {'links': 8}: ValueError: dimension 16 is not supported"]


def test_the_fastest_point_of_all_builds_is_chosen() -> None:
    def point(speed: float, ef: int) -> dict[str, Any]:
        return {"speed": {"256": speed, "1": -speed}, "setting": {"ef": ef}}

    sweeps = [
        {"build": {"links": 8}, "reached": [point(3, 1), point(5, 2)]},
        {"build": {"links": 9}, "reached": [point(4, 3)]},
        {"build": {"links": 10}, "reached": []},
    ]
    assert chosen(sweeps, 256) == ({"links": 8}, {"ef": 2})
    assert chosen(sweeps, 1) == ({"links": 8}, {"ef": 1})
    assert chosen(sweeps[2:], 1) is None
