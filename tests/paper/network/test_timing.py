"""Steps are timed in turns, and runs of different days come to one clock."""

from __future__ import annotations

from typing import Any

import pytest

from hmn.paper.network import timing as clock
from hmn.paper.network.timing import BLOCK, ROUNDS, in_turns
from hmn.paper.verdicts.one_clock import on_one_clock
from hmn.paper.verdicts.table import Table


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until it is moved."""
    time = [0.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: time[0])
    return time


def test_a_machine_that_slows_down_changes_no_ratio(now: list[float]) -> None:
    done: list[tuple[str, int]] = []

    def stepping(name: str, seconds: float) -> Any:
        def step(number: int) -> None:
            done.append((name, number))
            slow = 1 + number // BLOCK  # from turn to turn; the one that warms up is the first
            now[0] += 1000.0 if number < BLOCK else seconds * slow

        return step

    found = in_turns(stepping("own", 0.5), stepping("softmax", 2.0))
    assert found["ratio"] == pytest.approx(0.25)
    middle = 1 + (1 + ROUNDS) / 2
    assert (found["step"], found["softmax"]) == pytest.approx((0.5 * middle, 2.0 * middle))
    assert len(done) == 2 * BLOCK * (ROUNDS + 1) and len(set(done)) == len(done)
    assert [name for name, _ in done[: 3 * BLOCK]] == ["own"] * BLOCK + ["softmax"] * BLOCK + ["own"] * BLOCK


def test_the_full_softmax_is_its_own_measure(now: list[float]) -> None:
    def step(number: int) -> None:
        now[0] += 3.0 + number % 2

    found = in_turns(step, None)
    assert found == {"step": pytest.approx(3.5), "softmax": pytest.approx(3.5), "ratio": 1.0}


def run(name: str, cells: tuple[int, int], trained: list[float], **more: Any) -> dict[str, Any]:
    """A run with epochs of ten steps that took the given seconds; building took two, each tuning one."""
    curve = [
        {
            "epoch": number,
            "fact": 0.1 * number,
            "train_seconds": seconds,
            "seconds": 2.0 + number + sum(trained[:number]),
        }
        for number, seconds in enumerate(trained, 1)
    ]
    steps = 10 * len(trained)
    own = {"seconds_a_step": sum(trained) / steps, "seconds_an_epoch": sum(trained) / len(trained)}
    return {
        "name": name,
        "tested": {"valid": {}},
        "cells": list(cells),
        "steps": steps,
        "curve": curve,
        **own,
        **more,
    }


def test_rows_of_slow_and_quick_days_are_brought_together() -> None:
    slow = run("slow", (8, 2), [40.0, 80.0], clock={"step": 2.0, "softmax": 4.0, "ratio": 0.5})
    quick = run("quick", (8, 2), [9.0], clock={"step": 1.0, "softmax": 1.0, "ratio": 1.0})
    third = run("third", (8, 2), [9.0], clock={"step": 1.0, "softmax": 2.0, "ratio": 0.5})
    other = run("other cells", (8, 3), [70.0], clock={"step": 7.0, "softmax": 7.0, "ratio": 1.0})
    without = run("no clock", (8, 2), [33.0])
    table = Table([slow, quick, third, other, without])
    # the full softmax takes the least of 4, 1 and 2 seconds
    steps = {name: runs[0]["seconds_a_step"] for name, runs in table.runs.items()}
    assert steps == {"slow": 0.5, "quick": 1.0, "third": 0.5, "other cells": 7.0, "no clock": 3.3}
    assert [one["seconds"] for one in table.runs["slow"][0]["curve"]] == [8.0, 14.0]
    assert table.runs["slow"][0]["seconds_an_epoch"] == 5.0
    assert [one["seconds"] for one in table.runs["quick"][0]["curve"]] == [13.0]
    assert table.runs["no clock"][0] is without
    assert slow["curve"][0]["seconds"] == 43.0, "the runs themselves stay as they are"
    assert on_one_clock([]) == []
