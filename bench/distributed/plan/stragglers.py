"""Stragglers: a query waits for the slowest of W shards; simulated, with and without hedged requests.

Each shard has two replicas, and each replica is a queue that serves one query after the other. Every query
goes to all shards, by turns to one replica and to the other. A hedged request is sent to the other replica of
a shard that has not answered within the time in which 95 of 100 of its answers come; the first answer counts,
and both take up their server to the end (Dean & Barroso, "The Tail at Scale", 2013). With a budget, a shard
sends a limited share of its requests twice, so that hedged requests cannot call forth more of them.

Simplified: queries come at random (Poisson) and are not batched; service times are independent, drawn from
the measured ones, with a pause now and then; the network takes no time; no server ends.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARDS = (4, 16, 128, 1_024)
"""Numbers of shards."""
LOADS = (0.3, 0.6, 0.8)
"""Shares of the time in which servers are busy, without hedged requests."""
PAUSES, LENGTH = 0.001, 20.0
"""Share of requests that a pause falls into, and its length in mean service times."""
QUERIES, SMALL = 10_000, 1_000
"""Queries of each simulation, and in a trial."""
LATE = 0.95
"""Share of a shard's answers that come before a hedged request is sent."""
BUDGET, SAVED = 0.1, 10.0
"""Hedged requests per request that a shard's budget allows, and the most that it saves up."""

Floats = NDArray[np.float64]


def measure(quantiles: list[float], *, small: bool = False) -> dict[str, Any]:
    """Latencies for each number of shards and each load.

    Args:
        quantiles: measured service times of a query, at equally spaced quantiles.
        small: whether this is a trial.
    """
    rows = []
    queries = SMALL if small else QUERIES
    base = np.array(quantiles) / np.mean(quantiles)
    for shards in SHARDS:
        for load in LOADS:
            plain, answers = simulate(base, shards, load, queries)
            delay = float(np.quantile(answers, LATE))
            row: dict[str, Any] = {"shards": shards, "load": load, "plain": _tail(plain)}
            for name, budget in (("hedged", np.inf), ("budget", BUDGET)):
                hedged, _ = simulate(base, shards, load, queries, delay=delay, budget=budget)
                row[name] = _tail(hedged)
            rows.append(row)
    return {
        "queries": queries,
        "pauses": PAUSES,
        "length": LENGTH,
        "budget": BUDGET,
        "service_milliseconds": 1e3 * float(np.mean(quantiles)),
        "service_p99": float(np.quantile(base, 0.99)),
        "rows": rows,
    }


def simulate(
    service: Floats,
    shards: int,
    load: float,
    queries: int,
    *,
    delay: float = np.inf,
    budget: float = np.inf,
    pauses: float = PAUSES,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Latencies ``(queries,)`` of queries, and a sample of the answers of single shards.

    Args:
        service: equally likely service times, of mean 1.
        shards: W.
        load: share of the time in which servers are busy, without hedged requests.
        queries: number of queries.
        delay: time after which a second replica is asked; infinite for never.
        budget: hedged requests that a shard may send per request; infinite for any number.
        pauses: share of requests that a pause falls into.
        seed: of all draws.
    """
    arrivals_of, service_of, second_of = (np.random.default_rng([seed, number]) for number in range(3))
    mean = float(service.mean()) + pauses * LENGTH
    arrivals = np.cumsum(arrivals_of.exponential(mean / (2 * load), queries))  # two replicas share them
    free, allowed = np.zeros((2, shards)), np.zeros(shards)
    latency, sample = np.empty(queries), np.empty((queries, min(shards, 16)))
    waiting: deque[tuple[float, int, Floats]] = deque()  # hedged requests, in the order of their times

    def ask(replica: int, time: float, of: NDArray[np.intp] | slice, drawn: np.random.Generator) -> Floats:
        start = np.maximum(free[replica, of], time)
        spent = service[drawn.integers(len(service), size=start.shape)]
        spent = spent + LENGTH * (drawn.random(start.shape) < pauses)
        free[replica, of] = start + spent
        return start + spent

    def hedge(until: float) -> None:
        while waiting and waiting[0][0] <= until:
            time, number, finish = waiting.popleft()
            late = np.flatnonzero((finish > time) & (allowed >= 1))
            allowed[late] -= 1
            finish[late] = np.minimum(finish[late], ask(1 - number % 2, time, late, second_of))
            latency[number] = finish.max() - arrivals[number]

    for number, time in enumerate(arrivals):
        hedge(time)
        np.minimum(allowed + budget, SAVED, out=allowed)
        finish = ask(number % 2, time, slice(None), service_of)
        sample[number] = finish[: sample.shape[1]] - time
        latency[number] = finish.max() - time
        if latency[number] > delay:
            waiting.append((time + delay, number, finish))
    hedge(np.inf)
    return latency, sample.ravel()


def _tail(latency: Floats) -> dict[str, float]:
    settled = latency[len(latency) // 10 :]  # queues are empty at first
    return {"p50": float(np.quantile(settled, 0.5)), "p99": float(np.quantile(settled, 0.99))}
