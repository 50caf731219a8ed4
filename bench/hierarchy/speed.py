"""Time of a training step through the hierarchy and through full softmax, in turns."""

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

from bench.hierarchy.curve import look_alike
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
"""Steps of ``hmn train`` before timing: by then an epoch is over and the index has learned."""
ROUNDS = 8
"""Rounds in which both trainings take turns; full softmax takes one step per round."""
STEPS = 20
"""Steps through the hierarchy per round."""
BATCH = 128
"""Queries per step."""
K = 10
"""Cells read per query."""
FEATURES = 128
"""Features of a key."""
REFILED = 64
"""Upper limit of moved cells that the index files again per step."""
RATE = 1e-3
"""Learning rate."""
RECALL = 0.95
"""Recall@10 that the hierarchy is tuned to."""
SETTLED = 640
"""Steps over a stored memory before timing: by then its index has followed moved keys."""
CELLS = (81_004, 1_000_000)
"""Sizes of the stored memories."""
CLUSTER = 500
"""Average number of cells per cluster in the generated memories."""
QUERIES = 1 << 14
"""Queries in total."""
HELD = 1 << 10
"""Queries that recall is measured on; the others are for learning and training."""
SEED = 0
"""Seed of the data and of all draws."""


class Stepped:
    """A training that takes one step whenever it is asked to.

    Args:
        fit: runs the training; it is given a callback for the end of every step.
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
        """Seconds that the next step takes; the first includes everything before it."""
        began = time.perf_counter()
        self._asked.release()
        while not self._taken.acquire(timeout=1):
            if not self._thread.is_alive():
                raise RuntimeError("the training has ended, expected another step: train for more epochs")
        return time.perf_counter() - began

    def end(self) -> None:
        """End the training after the present step."""
        self._ended = True
        self._asked.release()
        self._thread.join()


class _EndedError(Exception):
    """Ends a training from within."""


class Layer:
    """An attention layer over a memory of its own, behind a linear layer, with their optimisers.

    Args:
        keys: ``(N, D)`` keys of the memory; they are trained.
        index: index of K-MIPS attention; full softmax if not given.
        adam: train the memory with Adam; otherwise with plain SGD, which keeps no state.
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
        """Seconds of a whole step, and of the index's upkeep within it."""
        began = time.perf_counter()
        read = self.attention(self.map(query), target)
        assert read.value is not None
        (read.value - wanted).square().sum(dim=1).mean().backward()
        for optimiser in self.optimisers:
            optimiser.step()
        upkeep_began = time.perf_counter()
        if isinstance(self.attention, KMIPSAttention):
            self.attention.refresh()
        upkeep = time.perf_counter() - upkeep_began
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        return time.perf_counter() - began, upkeep


def measure(data: Path, log: Callable[[str], None]) -> dict[str, Any]:
    """One row for ``hmn train`` on SimpleQuestions and one for each stored memory."""
    rows = [_of_training(data, log), *(_of_memory(cells, log) for cells in CELLS)]
    return {
        "rows": rows,
        "rounds": ROUNDS,
        "steps": STEPS,
        "batch": BATCH,
        "k": K,
        "refiled": REFILED,
        "settled": SETTLED,
    }


def _of_training(data: Path, log: Callable[[str], None]) -> dict[str, Any]:
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
        log(f"hmn train --index hierarchy: {WARM} steps of warm-up")
        for _ in range(WARM):
            ours.step()
        for _ in range(2):
            full.step()
        spent: dict[str, list[float]] = {"ours": [], "softmax": []}
        for number in range(ROUNDS):
            log(f"round {number + 1} of {ROUNDS}")
            spent["softmax"].append(full.step())
            spent["ours"] += [ours.step() for _ in range(STEPS)]
        ours.end()
        full.end()
        metrics = (Path(folder) / "hierarchy.run" / "metrics.jsonl").read_text(encoding="utf-8")
        upkeep = [
            record["upkeep_seconds"]
            for record in map(json.loads, metrics.splitlines())
            if record["step"] > WARM and "upkeep_seconds" in record
        ]
    return {
        "name": "hmn train, SimpleQuestions",
        "cells": len(facts),
        **_row(spent["ours"], spent["softmax"], statistics.fmean(upkeep)),
    }


def _of_memory(cells: int, log: Callable[[str], None]) -> dict[str, Any]:
    generated_keys, generated_queries, about = generated(cells, FEATURES, cells // CLUSTER, QUERIES, SEED)
    keys, queries = torch.from_numpy(generated_keys), torch.from_numpy(generated_queries)
    index = HierarchicalIndex(seed=SEED)
    log(f"{cells:,} stored cells: building")
    index.build(keys)
    best = ExactIndex(keys).search(queries, 1).cell[:, 0]
    held, rest = queries[:HELD], slice(HELD, QUERIES)
    index.learn(queries[rest], best[rest], vectors=False)
    tuned = tune(index, held, K, target_recall=RECALL)
    full = Layer(keys.clone(), None)
    ours = Layer(keys, index)  # the memory shares its keys with the index
    generator = torch.Generator().manual_seed(SEED)
    before = keys.clone()

    def batch() -> tuple[Tensor, Tensor, Tensor]:
        chosen = torch.randint(HELD, QUERIES, (BATCH,), generator=generator)
        return queries[chosen], best[chosen], before[best[chosen]]

    log(f"{SETTLED} steps of warm-up, at {tuned.reads:,.0f} reads per query")
    for _ in range(SETTLED):
        ours.step(*batch())
    spent: dict[str, list[float]] = {"ours": [], "softmax": []}
    upkeep = []
    full.step(*batch())
    for number in range(ROUNDS):
        log(f"round {number + 1} of {ROUNDS}")
        spent["softmax"].append(full.step(*batch())[0])
        for _ in range(STEPS):
            seconds, upkeep_seconds = ours.step(*batch())
            spent["ours"].append(seconds)
            upkeep.append(upkeep_seconds)
    now = ours.memory.snapshot()
    query = ours.map(held).detach()
    wanted = ExactIndex(now).search(query, K)
    fresh = HierarchicalIndex(reach=index.reach, seed=SEED)
    fresh.build(now)
    look_alike(fresh, index)
    results = {"followed": index.search(query, K), "anew": fresh.search(query, K)}
    return {
        "name": f"stored memory, {about['about']}",
        "cells": cells,
        **_row(spent["ours"], spent["softmax"], statistics.fmean(upkeep)),
        "reads": {name: float(result.reads.mean()) for name, result in results.items()},
        "recall": {name: recall_at_k(result, wanted) for name, result in results.items()},
        "moved": float((now != before).any(dim=1).double().mean()),
    }


def _row(ours: list[float], softmax: list[float], upkeep: float) -> dict[str, Any]:
    # upkeep is done for several steps together, so the time of our step is a mean
    step = statistics.fmean(ours)
    return {
        "ours_ms": 1000 * step,
        "softmax_ms": 1000 * statistics.median(softmax),
        "softmax_all_ms": [1000 * seconds for seconds in softmax],
        "times": statistics.median(softmax) / step,
        "upkeep_ms": 1000 * upkeep,
        "upkeep_share": upkeep / step,
    }
