"""The simulation of stragglers, in cases whose latencies are known."""

from __future__ import annotations

import numpy as np
import pytest
from bench.distributed.plan.stragglers import LENGTH, measure, simulate

SAME = np.ones(1)


def test_at_low_load_a_query_takes_as_long_as_its_service() -> None:
    latency, answers = simulate(SAME, 1, 0.001, 200, pauses=0)
    assert np.median(latency) == pytest.approx(1)
    assert np.array_equal(latency, answers)


def test_a_queue_waits_as_theory_says() -> None:
    load = 0.5  # by turns to two servers: arrivals at each are of Erlang's kind, and wait less than in M/D/1
    latency, _ = simulate(SAME, 1, load, 40_000, pauses=0)
    assert 1.05 < latency.mean() < 1 + load / (2 * (1 - load))


def test_a_query_waits_for_its_slowest_shard() -> None:
    service = np.array([0.5, 1.5])
    latency, _ = simulate(service, 64, 0.001, 200, pauses=0)
    assert np.median(latency) == pytest.approx(1.5)
    assert np.quantile(simulate(service, 1, 0.001, 2_000, pauses=0)[0], 0.25) == pytest.approx(0.5)


def test_hedged_requests_never_hurt_without_load_and_cut_pauses_short() -> None:
    plain, _ = simulate(SAME, 16, 0.001, 2_000, pauses=0.01)
    hedged, _ = simulate(SAME, 16, 0.001, 2_000, pauses=0.01, delay=1.5)
    assert bool((hedged <= plain + 1e-9).all())
    paused = plain > LENGTH
    assert 0.1 < paused.mean() < 0.2  # 1 - 0.99 ** 16
    assert np.median(hedged[paused]) == pytest.approx(2.5)


def test_a_budget_of_nothing_hedges_nothing() -> None:
    plain, _ = simulate(SAME, 4, 0.6, 500, pauses=0.01)
    budget, _ = simulate(SAME, 4, 0.6, 500, pauses=0.01, delay=1.5, budget=0)
    assert np.array_equal(plain, budget)
    free, _ = simulate(SAME, 4, 0.6, 500, pauses=0.01, delay=1.5)
    assert not np.array_equal(plain, free)


def test_more_shards_are_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.distributed.plan.stragglers.SHARDS", (1, 64))
    monkeypatch.setattr("bench.distributed.plan.stragglers.LOADS", (0.3,))
    few, many = measure([0.5, 1.0, 1.5], small=True)["rows"]
    assert many["plain"]["p50"] > few["plain"]["p50"] > 0
    assert many["hedged"]["p99"] < many["plain"]["p99"]
