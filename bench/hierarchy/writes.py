"""A memory that is written to while it is searched: recall after each write, and cells written per second."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.index.data import generated
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.tuning import recall_at_k, tune
from hmn.results import SearchResult

CELLS = 100_000
"""Cells before the first write."""
FEATURES = 128
"""Features of a key."""
CLUSTER = 500
"""Average number of cells per cluster in the generated memory."""
K = 10
"""Results per query."""
RECALL = 0.95
"""Recall@10 that the index is tuned to."""
NEAR = 0.5
"""Length of the noise between a written cell and a query near it."""
QUERIES = 8192
"""Queries in total."""
ASKED = 512
"""Queries of each kind per search."""
TUNED = 1024
"""Queries that the index is tuned on."""
WRITES = 10_000
"""Calls that write."""
SEARCHES = 50
"""Searches between the writes."""
DRAWN = 16
"""Draws of cells near which the untouched index is asked; a single draw is off by a point."""
CALLS = (1, 16, 256)
"""Cells per call; each size makes its own run."""
KINDS = ("add", "overwrite", "remove")
"""Kinds of calls."""
SEED = 0
"""Seed of the data and of all draws."""


class _Written:
    """The cells of the memory, kept apart from the index; exact search over them is the reference.

    Args:
        keys: ``(N, D)`` keys of the cells 0 to N - 1.
        fresh: ``(M, D)`` keys to be written.
    """

    def __init__(self, keys: Tensor, fresh: Tensor) -> None:
        self.keys = torch.cat([keys, torch.zeros_like(fresh)])  # by cell
        self.live = torch.zeros(len(self.keys), dtype=torch.bool)
        self.live[: len(keys)] = True
        self.fresh, self.used, self.cells = fresh, 0, len(keys)

    def take(self, count: int) -> Tensor:
        """The next keys ``(count, D)`` to write."""
        self.used += count
        return self.fresh[self.used - count : self.used]

    def best(self, query: Tensor) -> SearchResult:
        """The K best cells of the memory at this moment."""
        score = (query @ self.keys[: self.cells].T).masked_fill(~self.live[: self.cells], -torch.inf)
        best, cell = score.topk(K, dim=1)
        return SearchResult(best, cell, torch.zeros(len(query)), torch.zeros(len(query), dtype=torch.int64))


def measure(log: Callable[[str], None]) -> dict[str, Any]:
    """One run for each number of cells per call."""
    return {
        "runs": [_run(size, log) for size in CALLS],
        "cells": CELLS,
        "features": FEATURES,
        "k": K,
        "writes": WRITES,
        "searches": SEARCHES,
        "asked": ASKED,
        "seed": SEED,
    }


def _run(size: int, log: Callable[[str], None]) -> dict[str, Any]:
    generated_keys, generated_queries, about = generated(
        CELLS + WRITES * size, FEATURES, CELLS // CLUSTER, QUERIES, SEED
    )
    all_keys, queries = torch.from_numpy(generated_keys), torch.from_numpy(generated_queries)
    written = _Written(all_keys[:CELLS], all_keys[CELLS:])
    index = HierarchicalIndex(seed=SEED)
    index.build(all_keys[:CELLS].clone())
    held, rest = queries[:ASKED], queries[ASKED:]
    best = ExactIndex(all_keys[:CELLS]).search(rest, 1).cell[:, 0]
    index.learn(rest, best, vectors=False)
    tune(index, rest[:TUNED], K, target_recall=RECALL)
    generator = torch.Generator().manual_seed(SEED)

    def recalls(cells: Tensor) -> tuple[float, float]:
        """Recall of held-out queries, and of queries near these cells."""
        near = F.normalize(written.keys[cells], dim=1)
        near = F.normalize(near + torch.randn(near.shape, generator=generator) * NEAR / FEATURES**0.5, dim=1)
        shares = []
        for query in (held, near):
            result = index.search(query, K)
            assert bool(written.live[result.cell[result.cell >= 0]].all()), "a removed cell was found"
            shares.append(recall_at_k(result, written.best(query)))
        return shares[0], shares[1]

    drawn = [recalls(torch.randperm(CELLS, generator=generator)[:ASKED]) for _ in range(DRAWN)]
    untouched = [statistics.fmean(kind) for kind in zip(*drawn, strict=True)]
    reads = float(index.search(held, K).reads.mean())
    random = np.random.default_rng(SEED)
    spent = dict.fromkeys(KINDS, 0.0)
    looks: list[tuple[float, float]] = []
    recent: list[Tensor] = []
    for number in range(1, WRITES + 1):
        kind = KINDS[random.integers(len(KINDS))]
        if kind == "add":
            cells, keys = torch.arange(written.cells, written.cells + size), written.take(size)
        else:
            live = written.live.nonzero().squeeze(1)
            cells = live[torch.from_numpy(random.choice(len(live), size, replace=False))]
            keys = written.take(size) if kind == "overwrite" else cells
        began = time.perf_counter()
        if kind == "add":
            index.add(cells, keys)
        elif kind == "overwrite":
            index.update(cells, keys)
        else:
            index.remove(cells)
        spent[kind] += time.perf_counter() - began
        if kind == "remove":
            written.live[cells] = False
        else:
            written.cells = max(written.cells, int(cells.max()) + 1)
            written.keys[cells], written.live[cells] = keys, True
            recent.append(cells)
        if number % (WRITES // SEARCHES) == 0:
            last = torch.unique(torch.cat(recent))
            last = last[written.live[last]]
            looks.append(recalls(last[torch.randperm(len(last), generator=generator)[:ASKED]]))
            recent = []
            log(f"{size} per call: {number:,} calls, recall {looks[-1][0]:.3f} and {looks[-1][1]:.3f}")
    seconds = sum(spent.values())
    return {
        "size": size,
        "cells_a_second": WRITES * size / seconds,
        "ms_a_call": 1000 * seconds / WRITES,
        "seconds": spent,
        "reads": reads,
        "reads_after": float(index.search(held, K).reads.mean()),
        "untouched": untouched,
        "looks": looks,
        "mean": [statistics.fmean(kind) for kind in zip(*looks, strict=True)],
        "least": [min(kind) for kind in zip(*looks, strict=True)],
        "groups": [index.stats()["num_groups"], index.stats()["largest_group"]],
        "about": about["about"],
    }
