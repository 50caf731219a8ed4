"""Constants of the cost model, measured on this machine; and the model beside measured ranks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.distributed.plan.data import FEATURES, K, make
from bench.distributed.plan.model import (
    FULL_BATCH,
    Setting,
    costs_of,
    line,
    memory,
    parts,
    queries_per_second,
    seconds,
)
from bench.distributed.processes import TIMEOUT, run
from hmn.distributed import Ranks, ShardedMemory
from hmn.distributed.sharded_index import _best
from hmn.index.protocol import Index
from hmn.index.registry import make_index
from hmn.index.structures.exact import ExactIndex
from hmn.index.tuning import tune
from hmn.nn import Memory

SHARDS = (12_500, 50_000, 200_000, 800_000)
"""Cells of the shards that are measured; a tenth in a trial."""
QUERIES, RECALL = 1_024, 0.95
"""Queries, half for tuning and half for timing, and the recall@10 that the index is tuned to."""
STRUCTURES = ("exact", "hierarchy")
"""Search structures."""
ROUNDS, ALONE = 15, 2_000
"""Batches that are timed, and queries that are timed alone, at most."""
SECONDS = 3.0
"""Upper limit of the seconds for which queries are timed alone."""
TOGETHER, RANKS, BATCHES = 400_000, (1, 2, 4), (64, 1)
"""Cells of the memory over real ranks, numbers of ranks, and queries of all ranks per search."""
CORES = 2
"""Cores that the ranks share here."""
BLOCKS = 10
"""Blocks of exchanges that are timed."""
LINKED = (2, 4, 8)
"""Numbers of ranks between which messages are timed."""
SIZES = (1 << 10, 1 << 14, 1 << 18, 1 << 20, 1 << 22)
"""Bytes of the messages that are timed."""
CANDIDATES = (40, 160, 640, 2_560, 10_240)
"""Numbers of candidates per query whose merge is timed."""
MACHINES, CELLS = (128, 1_024), (10**9, 10**10, 10**11)
"""Numbers of machines and of cells that the model is carried to."""
NETWORK = 25e9 / 8
"""Bytes per second of their network."""
FILLED = 1_024
"""Queries per search of all machines, for the queries per second."""


def measure(*, small: bool = False) -> dict[str, Any]:
    """All figures; a tenth of the cells if it is small."""
    share = 10 if small else 1
    found: dict[str, Any] = {
        "shards": _shards([cells // share for cells in SHARDS]),
        "candidate": _candidate(),
        "overhead": _overhead(),
        "link": _link(),
    }
    cells = TOGETHER // share
    found["together"] = _together(cells, found)
    found["carried"] = _carried(found)
    return {"features": FEATURES, "k": K, "recall": RECALL, "together_cells": cells, **found}


def _shards(sizes: list[int]) -> list[dict[str, Any]]:
    """Seconds per query of shards: random parts of one memory, each tuned to the same recall."""
    made = make(max(sizes), QUERIES, exact=False)
    rows = []
    for cells in sizes:
        keys = made.keys[:cells].clone()
        row: dict[str, Any] = {"cells": cells}
        for structure in STRUCTURES:
            start = time.perf_counter()
            index = tuned(structure, keys, made.queries[: QUERIES // 2])
            row[structure] = {
                "build": time.perf_counter() - start,
                **_times(index, made.queries[QUERIES // 2 :]),
            }
        mebibytes = [float(index.stats()[name]) for name in ("codes_mib", "groups_mib")]
        row["index_bytes"] = 2**20 * sum(mebibytes) / cells
        rows.append(row)
    return rows


def tuned(structure: str, keys: Tensor, queries: Tensor) -> Index:
    """An index of the keys, tuned to the recall."""
    index = make_index(structure)
    index.build(keys)
    if structure != "exact":
        tune(index, queries, K, target_recall=RECALL, best=ExactIndex(keys).search(queries, K))
    return index


def _times(index: Index, queries: Tensor) -> dict[str, Any]:
    """Seconds per query in batches and alone, by the median; and the spread of the latter."""
    batched: list[float] = []
    alone: list[float] = []
    for number in range(ROUNDS):
        first = FULL_BATCH * number % len(queries)
        batched.append(_timed(index.search, queries[first : first + FULL_BATCH], K) / FULL_BATCH)
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end and len(alone) < ALONE:
        place = len(alone) % len(queries)
        alone.append(_timed(index.search, queries[place : place + 1], K))
    return {
        "batched": statistics.median(batched),
        "alone": statistics.median(alone),
        "quantiles": np.quantile(alone, np.linspace(0.005, 0.995, 100)).tolist(),
        "reads": float(index.search(queries, K).reads.mean()),
    }


def _timed(call: Callable[..., object], *args: Any) -> float:
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


def _candidate() -> float:
    """Seconds per candidate of a merge."""
    points = []
    for width in CANDIDATES:
        score = torch.randn(FULL_BATCH, width)
        cell = torch.randperm(FULL_BATCH * width).view(FULL_BATCH, width)
        spent = [_timed(_best, score, cell, K) for _ in range(ROUNDS)]
        points.append((FULL_BATCH * width, statistics.median(spent)))
    return line(points)[0]


def _overhead() -> float:
    """Seconds of a search over one rank that are not those of its index."""
    made = make(1_000, QUERIES, exact=False)
    memory = ShardedMemory(Memory(made.keys))
    memory.search(made.queries[:1], K)
    spent = [
        _timed(memory.search, query, K) - _timed(memory.index.search, query, K)
        for query in made.queries.unsqueeze(1)
    ]
    return max(0.0, statistics.median(spent))


def _link() -> dict[str, Any]:
    """What a message costs over loopback: seconds until it is there, of the processor, and per byte."""
    got = {size: run(_exchanges, size) for size in LINKED}
    # seconds of the processor do not depend on how many ranks share it
    processor = [(float(size - 1), statistics.mean(part[1] for part in got[size])) for size in LINKED]
    message, swap = line(processor)
    empty, spent, points = got[2][0]
    return {
        "wait": max(0.0, empty - spent),
        "swap": max(0.0, swap),
        "message": max(0.0, message),
        "byte": line(points)[0],
        "processor": processor,
        "points": points,
    }


def _exchanges(rank: int, size: int) -> tuple[float, float, list[tuple[float, float]]]:
    """Seconds of an exchange without rows, of the processor in it, and of exchanges by their bytes."""
    ranks = Ranks(timeout=TIMEOUT)

    def exchanged(length: int, repeats: int) -> tuple[float, float]:
        rows, counts = torch.zeros(length, dtype=torch.uint8), [0] * size
        counts[(rank + 1) % size] = length
        spent, processor = [], []
        for _ in range(BLOCKS):
            before = time.process_time()
            spent += [_timed(ranks.exchange, rows, counts, "bytes") for _ in range(repeats)]
            processor.append((time.process_time() - before) / repeats)
        return statistics.median(spent), min(processor)  # what else runs here can only add to it

    exchanged(1, 10)
    empty, processor = exchanged(0, 50)
    return empty, processor, [(float(length), exchanged(length, 5)[0]) for length in SIZES]


def _together(cells: int, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Searches over real ranks, beside what the model says of them."""
    rows = []
    for structure in STRUCTURES:
        costs = costs_of(found, structure)
        for size in RANKS:
            got = run(_searches, size, cells, structure)
            for place, batch in enumerate(BATCHES):
                setting = Setting(cells, size, batch, FEATURES, K, cores=CORES)
                rows.append(
                    {
                        "structure": structure,
                        "ranks": size,
                        "batch": batch,
                        "measured": max(spent[place] for spent in got),
                        "model": seconds(costs, setting),
                        "parts": parts(costs, setting),
                    }
                )
    return rows


def _searches(rank: int, size: int, cells: int, structure: str) -> list[float]:
    """Seconds of a search by all ranks, for each size of batch."""
    made = make(cells, QUERIES, exact=False)
    keys = torch.tensor_split(made.keys, size)[rank].clone()
    index = tuned(structure, keys, made.queries[: QUERIES // 2])
    memory, queries = ShardedMemory(Memory(keys), index, ranks=Ranks(timeout=TIMEOUT)), made.queries
    seconds_of = []
    for batch in BATCHES:
        spent = []
        for number in range(4 * ROUNDS):
            first = QUERIES // 2 + batch * number % (QUERIES // 2)
            own = torch.tensor_split(queries[first : first + batch], size)[rank]
            spent.append(_timed(memory.search, own, K))
        seconds_of.append(statistics.median(spent))
    return seconds_of


def _carried(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The model for more cells on more machines, with all of them as one memory and in groups."""
    costs = replace(costs_of(found, "hierarchy"), byte=1 / NETWORK)
    rows = []
    for cells in CELLS:
        for machines in MACHINES:
            for ranks in sorted({min(MACHINES), machines}):
                one = Setting(cells, ranks, 1, FEATURES, K)
                many = replace(one, batch=FILLED)
                rows.append(
                    {
                        "cells": cells,
                        "machines": machines,
                        "ranks": ranks,
                        "alone": seconds(costs, one),
                        "alone_parts": parts(costs, one),
                        "batched": seconds(costs, many),
                        "per_second": machines // ranks * queries_per_second(costs, many),
                        "bytes": memory(costs, one),
                    }
                )
    return rows
