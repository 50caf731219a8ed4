"""The cost model: its bytes, its parts, and what it says in cases that can be computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.distributed.plan.model import (
    FULL_BATCH,
    Costs,
    Growth,
    Setting,
    fitted,
    memory,
    parts,
    queries_per_second,
    search_bytes,
    seconds,
)

COSTS = Costs(
    alone=Growth(1e-4, 1e-9, 1.0),
    batched=Growth(0.0, 1e-6, 0.5),
    overhead=2e-4,
    wait=5e-5,
    swap=3e-5,
    message=1e-5,
    byte=1e-9,
    candidate=1e-7,
    index_bytes=200.0,
)
ONE = Setting(cells=1_000_000, ranks=1, batch=1)


def test_one_rank_searches_and_sends_nothing() -> None:
    assert parts(COSTS, ONE) == pytest.approx(
        {"overhead": 2e-4, "search": 1e-4 + 1e-3, "messages": 0, "bytes": 0, "merge": 1e-6}
    )
    assert seconds(COSTS, ONE) == pytest.approx(1.301e-3)


def test_parts_over_several_ranks_are_those_computed_by_hand() -> None:
    setting = Setting(cells=4_000_000, ranks=4, batch=64, features=128, k=10)
    assert parts(COSTS, setting) == pytest.approx(
        {
            "overhead": 2e-4,
            "search": 64 * 1e-3,  # a million cells in each shard
            "messages": 4 * (5e-5 + 3e-5 + 3 * 1e-5),
            "bytes": 16 * 3 * 4 * (128 + 22) * 1e-9,  # 16 queries to 3 ranks, and as many answers
            "merge": 16 * 40 * 1e-7,
        }
    )
    assert search_bytes(4, 128, 10) == 1_800


def test_ranks_that_share_cores_take_turns_on_the_processor_only() -> None:
    setting = Setting(cells=4_000_000, ranks=4, batch=64)
    apart, shared = parts(COSTS, setting), parts(COSTS, replace(setting, cores=2))
    assert shared["search"] == pytest.approx(2 * apart["search"])
    assert shared["bytes"] == apart["bytes"]
    assert shared["messages"] == pytest.approx(2 * apart["messages"] - 4 * COSTS.wait)
    assert parts(COSTS, replace(setting, cores=8)) == apart


@pytest.mark.parametrize("batch", [1, FULL_BATCH, 1_024])
def test_more_cells_take_longer_and_more_ranks_hold_less(batch: int) -> None:
    spent = [seconds(COSTS, Setting(cells, 128, batch)) for cells in (10**8, 10**9, 10**10)]
    assert spent == sorted(spent) and spent[0] < spent[-1]
    held = [memory(COSTS, Setting(10**9, ranks, batch)) for ranks in (1, 2, 4)]
    assert held == [1_224e9, 612e9, 306e9]
    messages = [parts(COSTS, Setting(10**9, ranks, batch))["messages"] for ranks in (1, 2, 128, 1_024)]
    assert messages == sorted(messages) and messages[0] == 0
    setting = Setting(10**9, 128, batch)
    assert queries_per_second(COSTS, setting) == pytest.approx(batch / seconds(COSTS, setting))


@pytest.mark.parametrize("power", [1.0, None])
def test_growth_is_found_again(power: float | None) -> None:
    growth = Growth(1e-4, 1e-9, 1.0) if power else Growth(0.0, 1e-6, 0.3)
    got = fitted([(cells, growth.seconds(cells)) for cells in (1e4, 1e5, 1e6)], power)
    assert (got.fixed, got.factor, got.power) == pytest.approx((growth.fixed, growth.factor, growth.power))
