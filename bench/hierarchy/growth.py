"""How the time and the memory of a query and of a training step grow with the number of cells.

Each system runs over each memory in a process of its own; those of one system are timed in turns.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.hierarchy.speed import BATCH, Layer
from bench.index.data import generated
from bench.index.worker import Child, memory
from hmn.index.protocol import Index, Tunable
from hmn.index.registry import make_index
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.tuning import recall_at_k, tune
from hmn.results import SearchResult
from hmn.store.bundle import BundleReader, write_tensors, writing_bundle

CELLS = (100_000, 1_000_000, 10_000_000)
"""Sizes of the memories."""
FEATURES = 128
"""Features of a key."""
K = 10
"""Results per query."""
CLUSTER = 500
"""Average number of cells per cluster in the generated memories."""
LEARNED = 512
"""Queries that the hierarchy learns from."""
TUNED = 512
"""Queries that the effort is tuned on."""
HELD = 512
"""Queries that times and recall are measured on."""
RECALL = 0.9
"""Recall@10 that every index is tuned to."""
ROUNDS = 5
"""Rounds in which the sizes take turns."""
SECONDS = 1.5
"""Seconds for which queries are timed per round, at least."""
STEPS = 32
"""Training steps per round, and warm-up steps before the first."""
SOFTMAX_BYTES = 2 << 30
"""Upper limit of bytes for the scores of a batch of full softmax; larger batches are split."""
SYSTEMS = ("hierarchy", "faiss IVF-Flat", "full softmax")
"""Systems that are measured."""
SEED = 0
"""Seed of the data and of all draws."""


def make(cells: int, folder: Path) -> None:
    """Write keys, queries and their exact results to disk, unless they exist."""
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    keys, queries, _ = generated(cells, FEATURES, cells // CLUSTER, LEARNED + TUNED + HELD, SEED)
    np.save(folder / "keys.npy", keys)
    np.save(folder / "queries.npy", queries)
    best = ExactIndex(torch.from_numpy(keys)).search(torch.from_numpy(queries), K)
    np.save(folder / "cell.npy", best.cell.numpy())
    np.save(folder / "score.npy", best.score.numpy())
    (folder / "done").touch()


class Made:
    """Makes the data; lives in a process of its own, whose memory is returned when it ends."""

    def make(self, cells: int, folder: Path) -> None:
        """See ``make``."""
        make(cells, folder)


class Data:
    """The queries in a folder and what exact search finds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queries = torch.from_numpy(np.load(folder / "queries.npy"))
        self.cell = torch.from_numpy(np.load(folder / "cell.npy"))
        self.score = torch.from_numpy(np.load(folder / "score.npy"))

    def keys(self) -> Tensor:
        """Keys ``(N, D)``, read into memory."""
        return torch.from_numpy(np.load(self.folder / "keys.npy"))

    def part(self, name: str) -> slice:
        """Range of the queries ``learned``, ``tuned`` or ``held``."""
        begin = {"learned": 0, "tuned": LEARNED, "held": LEARNED + TUNED}[name]
        return slice(begin, begin + {"learned": LEARNED, "tuned": TUNED, "held": HELD}[name])

    def best(self, part: slice) -> SearchResult:
        """What exact search finds for a range of the queries."""
        zeros = torch.zeros(len(self.cell[part]))
        return SearchResult(self.score[part], self.cell[part], zeros, zeros.long())


class Grown:
    """A system over a memory; lives in a process of its own.

    Args:
        name: one of ``SYSTEMS``.
        folder: folder of the data.
        threads: number of threads that it may use.
    """

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self.name, self.data = name, Data(folder)
        self.index: Index | None = None
        self.layer: Layer | None = None
        self._generator = torch.Generator().manual_seed(SEED)
        self._wanted = torch.zeros(0)
        self._settled = 0

    def build(self) -> dict[str, Any]:
        """Build it and tune it to ``RECALL``."""
        keys, held = self.data.keys(), self.data.part("held")
        self._wanted = keys[self.data.cell[held, 0]]
        loaded = memory("VmRSS")
        began = time.perf_counter()
        if self.name == "hierarchy":
            self.index = HierarchicalIndex(seed=SEED)
        elif self.name != "full softmax":
            self.index = make_index(f"faiss:IVF{round(len(keys) ** 0.5)},Flat")
        figures: dict[str, Any] = {"cells": len(keys), "keys_mib": keys.nbytes / 2**20}
        if self.index is None:
            self.layer = Layer(keys, None, adam=False)
            return figures
        self.index.build(keys)
        figures |= {"build_seconds": time.perf_counter() - began}
        figures |= {"build_mib": memory("VmHWM"), "loaded_mib": loaded}
        if isinstance(self.index, HierarchicalIndex):
            learned = self.data.part("learned")
            self.index.learn(self.data.queries[learned], self.data.cell[learned, 0], vectors=False)
        assert isinstance(self.index, Tunable)
        part = self.data.part("tuned")
        best = self.data.best(part)
        tuned = tune(self.index, self.data.queries[part], K, target_recall=RECALL, best=best)
        result = self.index.search(self.data.queries[held], K)
        if isinstance(self.index, HierarchicalIndex):
            self.layer = Layer(keys, self.index, adam=False)
        return figures | {
            "setting": f"{tuned.setting}={tuned.value}",
            "recall": recall_at_k(result, self.data.best(held)),
            "reads": float(result.reads.mean()),
            "stats": self.index.stats(),
            "searching_mib": memory("VmRSS"),
        }

    def query_ms(self, batch: int) -> dict[str, float]:
        """Milliseconds per query in batches of ``batch`` queries."""
        if self.index is None:
            batch = max(1, min(batch, SOFTMAX_BYTES // (4 * self.num_cells())))
        spent: list[float] = []
        began = time.perf_counter()
        while time.perf_counter() - began < SECONDS or len(spent) < 3:
            query = self._batch(batch)[0]
            start = time.perf_counter()
            if self.index is not None:
                self.index.search(query, K)
            else:
                assert self.layer is not None
                with torch.no_grad():
                    self.layer.attention(query)
            spent.append(time.perf_counter() - start)
        return {"ms": 1000 * statistics.median(spent) / batch, "batch": batch}

    def step_ms(self) -> float | None:
        """Milliseconds per training step; None where the system has no layer or its scores do not fit."""
        if self.layer is None or (self.index is None and 4 * BATCH * self.num_cells() > SOFTMAX_BYTES):
            return None
        if self.index is None:
            steps = 2
        else:
            steps = STEPS
            while self._settled < STEPS:
                self.layer.step(*self._batch(BATCH))
                self._settled += 1
        return 1000 * statistics.fmean(self.layer.step(*self._batch(BATCH))[0] for _ in range(steps))

    def num_cells(self) -> int:
        """Number of cells."""
        assert self.layer is not None
        return len(self.layer.memory)

    def save(self, bundle: Path) -> None:
        """Write keys and structure to disk as a bundle."""
        assert self.index is not None
        with writing_bundle(bundle) as folder:
            write_tensors(folder, "keys.safetensors", {"keys": self.data.keys()})
            write_tensors(folder, "index.safetensors", self.index.state_dict(with_keys=False))

    def _batch(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        chosen = torch.randint(HELD, (count,), generator=self._generator)
        held = self.data.part("held")
        return self.data.queries[held][chosen], self.data.cell[held, 0][chosen], self._wanted[chosen]


class Mapped:
    """The hierarchy over keys that stay on disk; lives in a process of its own."""

    def __init__(self, folder: Path, bundle: Path, reach: int, threads: int) -> None:
        torch.set_num_threads(threads)
        reader, self.data = BundleReader(bundle), Data(folder)
        self.index = HierarchicalIndex(reach=reach, seed=SEED)
        self.index.load_state_dict(
            reader.tensors("index.safetensors"), reader.tensors("keys.safetensors")["keys"]
        )

    def search(self) -> dict[str, float]:
        """Recall, and the peak of resident MiB between searches: anonymous, and of mapped files."""
        held = self.data.part("held")
        anonymous, files = 0.0, 0.0
        for part in torch.split(self.data.queries[held], BATCH):
            self.index.search(part, K)
            anonymous, files = max(anonymous, memory("RssAnon")), max(files, memory("RssFile"))
        result = self.index.search(self.data.queries[held], K)
        anonymous = max(anonymous, memory("RssAnon"))
        return {
            "recall": recall_at_k(result, self.data.best(held)),
            "anonymous_mib": anonymous,
            "files_mib": files,
        }


def measure(
    work: Path, log: Callable[[str], None], cells: tuple[int, ...] = CELLS, threads: int | None = None
) -> dict[str, Any]:
    """Measure all systems over all memories; finished systems are kept in ``work``."""
    threads = threads or torch.get_num_threads()
    maker = Child("bench.hierarchy.growth:Made")
    for count in cells:
        log(f"{count:,} cells: generating them")
        maker.call("make", count, work / str(count))
    maker.close()
    systems: dict[str, Any] = {}
    for name in SYSTEMS:
        kept = work / f"{name.replace(' ', '-')}.json"
        if not kept.exists():
            kept.write_text(json.dumps(_of_system(name, work, log, cells, threads)), encoding="utf-8")
        systems[name] = json.loads(kept.read_text(encoding="utf-8"))
    return {
        "systems": systems,
        "batch": BATCH,
        "k": K,
        "features": FEATURES,
        "recall": RECALL,
        "cluster": CLUSTER,
        "rounds": ROUNDS,
        "seed": SEED,
    }


def _of_system(
    name: str, work: Path, log: Callable[[str], None], cells: tuple[int, ...], threads: int
) -> list[dict[str, Any]]:
    children, rows = [], []
    try:
        for count in cells:
            log(f"{name}: building over {count:,} cells")
            children.append(Child("bench.hierarchy.growth:Grown", name, work / str(count), threads))
            rows.append(children[-1].call("build"))
        for row in rows:
            row |= {"query": {1: [], BATCH: []}, "step_ms": []}
        for number in range(ROUNDS):
            log(f"{name}: round {number + 1} of {ROUNDS}")
            for child, row in zip(children, rows, strict=True):
                for batch, spent in row["query"].items():
                    spent.append(child.call("query_ms", batch))
        if name == "hierarchy":
            bundle = work / "bundle"
            children[-1].call("save", bundle)
        for number in range(ROUNDS):
            log(f"{name}: training, round {number + 1} of {ROUNDS}")
            for child, row in zip(children, rows, strict=True):
                row["step_ms"].append(child.call("step_ms"))
    finally:
        for child in children:
            child.close()
    if name == "hierarchy":
        log("keys on disk")
        reach = int(rows[-1]["setting"].removeprefix("reach="))
        mapped = Child("bench.hierarchy.growth:Mapped", work / str(cells[-1]), bundle, reach, threads)
        rows[-1]["mapped"] = mapped.call("search")
        mapped.close()
        shutil.rmtree(bundle)
    return rows
