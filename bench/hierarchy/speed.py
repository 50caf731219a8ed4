"""Seconds of a training step through the hierarchy, and through full softmax, in turns."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from bench.index.data import generated
from hmn.facts.table import FactTable
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.tuning import recall_at_k, tune
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.attention.softmax import SoftmaxAttention
from hmn.nn.memory.stored import Memory
from hmn.qa.factoid_qa import FactoidQA

WARM = 400
"""Steps of ``hmn train`` before those that are timed: by then an epoch is over and the index has learned."""
ROUNDS, STEPS = 8, 20
"""In each round one step of the softmax, and so many of the other."""
BATCH, K, FEATURES = 128, 10, 128
REFILED = 64
"""Of the cells that a step has moved, so many are looked at again."""
RATE = 1e-3
RECALL = 0.95
SETTLED = 640
"""Steps over a stored memory before those that are timed: its index has moved with it by then."""
CELLS = (81_004, 1_000_000)
CLUSTER = 500
"""Cells of a cluster that memories are drawn in."""
QUERIES, HELD = 1 << 14, 1 << 10
SEED = 0


class Stepped:
    """A training that takes one step whenever it is asked to.

    Args:
        fit: trains; calls what it is given after every step.
    """

    def __init__(self, fit: Callable[[Callable[[int, int], None]], object]) -> None:
        self._asked, self._taken = threading.Semaphore(0), threading.Semaphore(0)
        self._ended = False
        self._thread = threading.Thread(target=self._run, args=(fit,), daemon=True)
        self._thread.start()

    def _run(self, fit: Callable[[Callable[[int, int], None]], object]) -> None:
        self._asked.acquire()
        try:
            fit(self._on_progress)
        except _EndedError:
            return

    def _on_progress(self, _done: int, _total: int) -> None:
        self._taken.release()
        self._asked.acquire()
        if self._ended:
            raise _EndedError

    def step(self) -> float:
        """Seconds of the next step; of the first, with all that comes before it."""
        began = time.perf_counter()
        self._asked.release()
        while not self._taken.acquire(timeout=1):
            if not self._thread.is_alive():
                raise RuntimeError("the training ended, expected another step of it")
        return time.perf_counter() - began

    def end(self) -> None:
        """End it where it stands."""
        self._ended = True
        self._asked.release()
        self._thread.join()


class _EndedError(Exception):
    """Ends a training from within."""


class Layer:
    """An attention layer over a memory of its own, behind a linear layer, with their optimisers.

    Args:
        keys: ``(N, D)`` of the memory, which are trained.
        index: of K-MIPS attention; full softmax if not given.
        adam: Adam trains the memory; plain SGD otherwise, which needs no memory of its own.
    """

    def __init__(self, keys: Tensor, index: HierarchicalIndex | None, *, adam: bool = True) -> None:
        self.memory = Memory(keys, trainable=True, sparse=index is not None)
        self.index = index
        self.attention: KMIPSAttention | SoftmaxAttention
        self.map = nn.Linear(keys.shape[1], keys.shape[1], bias=False)
        nn.init.eye_(self.map.weight)
        if index is None:
            self.attention = SoftmaxAttention(self.memory)
        else:
            self.attention = KMIPSAttention(self.memory, K, index, refiled=REFILED, seed=SEED)
        table = list(self.memory.parameters())
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(self.map.parameters(), lr=RATE, fused=True)
        ]
        if not adam:
            self.optimisers.append(torch.optim.SGD(table, lr=RATE))
        elif index is None:
            self.optimisers.append(torch.optim.Adam(table, lr=RATE, fused=True))
        else:
            self.optimisers.append(torch.optim.SparseAdam(table, lr=RATE))

    def step(self, query: Tensor, target: Tensor, wanted: Tensor) -> tuple[float, float]:
        """Seconds of a step in all, and of them those in which the index follows."""
        began = time.perf_counter()
        read = self.attention(self.map(query), target)
        assert read.value is not None
        (read.value - wanted).square().sum(dim=1).mean().backward()
        for optimiser in self.optimisers:
            optimiser.step()
        follows = time.perf_counter()
        if isinstance(self.attention, KMIPSAttention):
            self.attention.refresh()
        upkeep = time.perf_counter() - follows
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        return time.perf_counter() - began, upkeep


def measure(data: Path, said: Callable[[str], None]) -> dict[str, Any]:
    """The rows: ``hmn train`` on SimpleQuestions, and stored memories of some sizes."""
    rows = [_of_training(data, said), *(_of_memory(cells, said) for cells in CELLS)]
    return {
        "rows": rows,
        "rounds": ROUNDS,
        "steps": STEPS,
        "batch": BATCH,
        "k": K,
        "refiled": REFILED,
        "settled": SETTLED,
    }


def _of_training(data: Path, said: Callable[[str], None]) -> dict[str, Any]:
    facts = FactTable.read(data / "facts.tsv", data / "names.tsv")
    with TemporaryDirectory() as folder:

        def stepped(name: str, **config: Any) -> Stepped:
            def fit(on_progress: Callable[[int, int], None]) -> None:
                FactoidQA(facts, **config).fit(
                    data / "train.tsv",
                    out=Path(folder) / name,
                    quiet=True,
                    on_progress=on_progress,
                    checkpoint_seconds=1e9,
                )

            return Stepped(fit)

        ours, full = stepped("hierarchy", index="hierarchy"), stepped("softmax", reader="softmax")
        said(f"hmn train --index hierarchy: {WARM} steps to begin with")
        for _ in range(WARM):
            ours.step()
        for _ in range(2):
            full.step()
        spent: dict[str, list[float]] = {"ours": [], "softmax": []}
        for number in range(ROUNDS):
            said(f"round {number + 1} of {ROUNDS}")
            spent["softmax"].append(full.step())
            spent["ours"] += [ours.step() for _ in range(STEPS)]
        ours.end()
        full.end()
        log = (Path(folder) / "hierarchy.run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        upkeep = [
            one["upkeep_seconds"]
            for one in map(json.loads, log)
            if one["step"] > WARM and "upkeep_seconds" in one
        ]
    return {
        "name": "hmn train, SimpleQuestions",
        "cells": len(facts),
        **_row(spent["ours"], spent["softmax"], statistics.fmean(upkeep)),
    }


def _of_memory(cells: int, said: Callable[[str], None]) -> dict[str, Any]:
    made, queries, about = generated(cells, FEATURES, cells // CLUSTER, QUERIES, SEED)
    keys, asked = torch.from_numpy(made), torch.from_numpy(queries)
    index = HierarchicalIndex(seed=SEED)
    said(f"{cells:,} stored cells: building")
    index.build(keys)
    best = ExactIndex(keys).search(asked, 1).cell[:, 0]
    held, taught = asked[:HELD], slice(HELD, QUERIES)
    index.learn(asked[taught], best[taught], vectors=False)
    tuned = tune(index, held, K, target_recall=RECALL)
    full = Layer(keys.clone(), None)
    ours = Layer(keys, index)  # the memory shares its keys with the index
    generator = torch.Generator().manual_seed(SEED)
    before = keys.clone()

    def batch() -> tuple[Tensor, Tensor, Tensor]:
        chosen = torch.randint(HELD, QUERIES, (BATCH,), generator=generator)
        return asked[chosen], best[chosen], before[best[chosen]]

    said(f"{SETTLED} steps to begin with, at {tuned.reads:,.0f} reads a query")
    for _ in range(SETTLED):
        ours.step(*batch())
    spent: dict[str, list[float]] = {"ours": [], "softmax": []}
    upkeep = []
    full.step(*batch())
    for number in range(ROUNDS):
        said(f"round {number + 1} of {ROUNDS}")
        spent["softmax"].append(full.step(*batch())[0])
        for _ in range(STEPS):
            step, follows = ours.step(*batch())
            spent["ours"].append(step)
            upkeep.append(follows)
    now = ours.memory.snapshot()
    query = ours.map(held).detach()
    wanted = ExactIndex(now).search(query, K)
    fresh = HierarchicalIndex(reach=index.reach, seed=SEED)
    fresh.build(now)
    for one, other in zip(fresh._tree.tiers, index._tree.tiers, strict=True):
        one.width = other.width
    found = {name: one.search(query, K) for name, one in (("followed", index), ("anew", fresh))}
    return {
        "name": f"stored memory, {about['about']}",
        "cells": cells,
        **_row(spent["ours"], spent["softmax"], statistics.fmean(upkeep)),
        "reads": {name: float(one.reads.mean()) for name, one in found.items()},
        "recall": {name: recall_at_k(one, wanted) for name, one in found.items()},
        "moved": float((now != before).any(dim=1).double().mean()),
    }


def _row(ours: list[float], softmax: list[float], upkeep: float) -> dict[str, Any]:
    # upkeep is done for several steps at once, so a step of ours is a mean
    step = statistics.fmean(ours)
    return {
        "ours_ms": 1000 * step,
        "softmax_ms": 1000 * statistics.median(softmax),
        "softmax_all_ms": [1000 * one for one in softmax],
        "times": statistics.median(softmax) / step,
        "upkeep_ms": 1000 * upkeep,
        "upkeep_share": upkeep / step,
    }
