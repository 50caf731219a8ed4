"""A memory that is written to while it is searched: does every search see it as it is, and how fast is it."""

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

CELLS, FEATURES, CLUSTER = 100_000, 128, 500
K, RECALL = 10, 0.95
NEAR = 0.5
"""Length of the noise by which a query lies off a cell that was written."""
QUERIES, ASKED, TUNED = 8192, 512, 1024
"""Queries in all; of each kind, so many are asked at every search."""
WRITES, SEARCHES = 10_000, 50
"""Calls that write, and searches between them."""
DRAWN = 16
"""Draws of cells near which the untouched index is asked: one alone is off by a point."""
CALLS = (1, 16, 256)
"""Cells of a call; each size makes its own run."""
KINDS = ("add", "overwrite", "remove")
SEED = 0


class _Written:
    """What the memory holds, kept apart from the index: exact search over it is the reference.

    Args:
        keys: ``(N, D)`` of cells 0 to N - 1.
        fresh: ``(M, D)`` keys for what is written.
    """

    def __init__(self, keys: Tensor, fresh: Tensor) -> None:
        self.keys = torch.cat([keys, torch.zeros_like(fresh)])  # by cell
        self.live = torch.zeros(len(self.keys), dtype=torch.bool)
        self.live[: len(keys)] = True
        self.fresh, self.used, self.cells = fresh, 0, len(keys)

    def take(self, count: int) -> Tensor:
        """The next keys to write ``(count, D)``."""
        self.used += count
        return self.fresh[self.used - count : self.used]

    def best(self, query: Tensor) -> SearchResult:
        """The k best cells of the memory as it is."""
        score = (query @ self.keys[: self.cells].T).masked_fill(~self.live[: self.cells], -torch.inf)
        best, cell = score.topk(K, dim=1)
        return SearchResult(best, cell, torch.zeros(len(query)), torch.zeros(len(query), dtype=torch.int64))


def measure(said: Callable[[str], None]) -> dict[str, Any]:
    """A run for each number of cells a call."""
    return {
        "runs": [_run(size, said) for size in CALLS],
        "cells": CELLS,
        "features": FEATURES,
        "k": K,
        "writes": WRITES,
        "searches": SEARCHES,
        "asked": ASKED,
        "seed": SEED,
    }


def _run(size: int, said: Callable[[str], None]) -> dict[str, Any]:
    made, queries, about = generated(CELLS + WRITES * size, FEATURES, CELLS // CLUSTER, QUERIES, SEED)
    every, asked = torch.from_numpy(made), torch.from_numpy(queries)
    written = _Written(every[:CELLS], every[CELLS:])
    index = HierarchicalIndex(seed=SEED)
    index.build(every[:CELLS].clone())
    held, taught = asked[:ASKED], asked[ASKED:]
    best = ExactIndex(every[:CELLS]).search(taught, 1).cell[:, 0]
    index.learn(taught, best, vectors=False)
    tune(index, taught[:TUNED], K, target_recall=RECALL)
    generator = torch.Generator().manual_seed(SEED)

    def recalls(cells: Tensor) -> tuple[float, float]:
        """Of held-out queries, and of queries near these cells."""
        near = F.normalize(written.keys[cells], dim=1)
        near = F.normalize(near + torch.randn(near.shape, generator=generator) * NEAR / FEATURES**0.5, dim=1)
        shares = []
        for query in (held, near):
            found = index.search(query, K)
            assert bool(written.live[found.cell[found.cell >= 0]].all()), "a removed cell was found"
            shares.append(recall_at_k(found, written.best(query)))
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
            said(f"{size} a call: {number:,} calls, recall {looks[-1][0]:.3f} and {looks[-1][1]:.3f}")
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
        "groups": [index.stats()["num_groups"], index.stats()["largest_leaf"]],
        "about": about["about"],
    }
