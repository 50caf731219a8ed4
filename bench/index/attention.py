"""Forward and backward of an attention layer over a million trained cells.

Compares K-MIPS attention on our clusters, the same layer on faiss, full softmax, and lucidrains' product-key
memory with the same number of slots. Each runs in a process of its own, in turns.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.index.cache import Kept, slug, sources_checksum
from bench.index.data import DataSet
from bench.index.harness import Options, least_effort
from bench.index.load.quiet import LoadedError, Quiet
from bench.index.rounds import Log
from bench.index.score import best_scores, recalls
from bench.index.systems.base import (
    Ids,
    PackageMissingError,
    Setting,
    cluster_counts,
    over,
    package,
    times,
    version_of_package,
)
from bench.index.worker import Child, ChildError, memory

K = 32
"""Cells read per query."""
BATCH = 256
"""Queries per step."""
SOFTMAX = "full softmax"
"""Name of the layer that reads every cell."""
OURS = "hmn K-MIPS attention on ClusterIndex"
"""Name of our layer on our own index."""
THEIRS = "hmn K-MIPS attention on FaissIndex"
"""Name of our layer on faiss's index."""
PRODUCT_KEYS = "product-key-memory"
"""Name of the product-key memory."""
CODES: list[Setting] = [
    {"codes": "int8", "rescore": 2 * K},
    {"codes": "int4", "rescore": 3 * K},
    {"codes": "int4", "rescore": 8 * K},
]
"""Codes of the cells that are tried, with the cells scored in full per query."""


class Layer:
    """One layer; lives in a process of its own.

    Args:
        kind: one of the names above.
        setting: setting of its index.
        data: folder of the data set, whose keys are the memory's.
        threads: number of threads that it may use.
    """

    def __init__(self, kind: str, setting: Setting, data: Path, threads: int) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(threads)
        self.torch.manual_seed(0)
        self.kind, self.data = kind, data
        self.query: Any = None
        if kind == PRODUCT_KEYS:
            library = package("product_key_memory", "product-key-memory")
            cells, features = np.load(data / "keys.npy", mmap_mode="r").shape
            slots = round(cells**0.5)
            sizes = {"dim": features, "num_keys": slots, "topk": K, "dim_head": features, **setting}
            self.layer: Any = library.PKM(**sizes)
            self.parameters = list(self.layer.parameters())
            return
        hmn: Any = importlib.import_module("hmn")
        keys = self.torch.from_numpy(np.load(data / "keys.npy"))
        values = self.torch.randn(keys.shape)
        # every cell has a gradient in the full softmax, which a sparse one cannot hold
        stored = hmn.Memory(keys, values, trainable=True, sparse=kind != SOFTMAX)
        self.parameters = list(stored.parameters())
        if kind == SOFTMAX:
            self.layer = hmn.SoftmaxAttention(stored)
        else:
            name = "cluster" if kind == OURS else "faiss"
            index = hmn.make_index(name, **setting)
            self.layer = hmn.KMIPSAttention(stored, K, index=index)

    def build(self) -> float:
        """Build the index; returns seconds."""
        began = time.perf_counter()
        if self.kind in (OURS, THEIRS):
            self.layer.rebuild()
        return time.perf_counter() - began

    def set(self, probes: int) -> None:
        """Visit ``probes`` clusters per query from now on."""
        self.layer.index.num_probes = probes

    def cells(self, part: str, count: int) -> Ids:
        """Cells ``(count, K)`` that are read for the first queries of a part."""
        queries = self.torch.from_numpy(np.load(self.data / f"{part}.npy")[:count])
        with self.torch.no_grad():
            found = [self.layer(batch).cell.numpy() for batch in queries.split(BATCH)]
        return np.concatenate(found)

    def run(self, seconds: float, least: int) -> list[float]:
        """Seconds of each forward and backward, for at least ``seconds`` and ``least`` steps."""
        queries = self.torch.from_numpy(np.load(self.data / "measure.npy"))
        batches = [batch for batch in queries.split(BATCH) if len(batch) == BATCH] or [queries]
        direction = self.torch.randn(len(batches[0]), queries.shape[1])
        spent: list[float] = []
        while sum(spent) < seconds or len(spent) < least:
            query = batches[len(spent) % len(batches)].clone().requires_grad_()
            for parameter in self.parameters:
                parameter.grad = None
            began = time.perf_counter()
            if self.kind == PRODUCT_KEYS:
                value = self.layer(query.unsqueeze(1)).squeeze(1)
            else:
                value = self.layer(query).value
            (value * direction).sum().backward()
            spent.append(time.perf_counter() - began)
        return spent

    def peak(self) -> float:
        """Peak memory of this process in MiB."""
        return memory("VmHWM")


def measure(data: DataSet, work: Path, options: Options, log: Log, quiet: Quiet) -> dict[str, Any]:
    """Seconds per step of every layer, in turns; those with an index at the same recall@32."""
    kept = Kept(work)
    clusters = cluster_counts(data.about["cells"])
    trials: dict[str, list[Setting]] = {
        OURS: times(over("num_clusters", clusters), CODES),
        THEIRS: over("factory", [f"IVF{count},Flat" for count in clusters]),
        SOFTMAX: [{}],
        PRODUCT_KEYS: over("heads", [1]),
    }
    versions = {name: version_of_package(name) for name in ("torch", "faiss-cpu", "product-key-memory")}
    key = {
        "data": data.about["checksum"],
        "versions": versions,
        "sources": sources_checksum("index", "nn", "_native"),
        "trials": trials,
        "options": [options.threads, options.target, options.rounds, options.round_seconds],
    }
    figures: dict[str, Any] | None = kept.read("attention", key)
    if figures is None:
        figures = _measure(data, work, options, trials, key, log, quiet)
        kept.write("attention", key, figures)
    return figures


def _measure(
    data: DataSet,
    work: Path,
    options: Options,
    trials: dict[str, list[Setting]],
    key: dict[str, Any],
    log: Log,
    quiet: Quiet,
) -> dict[str, Any]:
    notes: list[str] = []
    best: dict[str, dict[str, Any]] = {}
    count = min(1024, len(data.queries("tune")))
    scores = {part: best_scores(data.keys, data.queries(part)[:count], K) for part in ("tune", "measure")}

    def recall(child: Child, part: str) -> float:
        cells = child.call("cells", part, count)
        return float(recalls(data.keys, data.queries(part)[:count], cells, scores[part]).mean())

    kept = Kept(work / "attention")
    for kind, settings in trials.items():
        for setting in settings:
            log(f"attention: {kind}, {setting}")
            name = slug(kind, *setting.values())
            tried = kept.read(name, key)
            if tried is None:
                try:
                    tried = _try(kind, setting, data, options, quiet, lambda child: recall(child, "tune"))
                except (ChildError, PackageMissingError, LoadedError) as error:
                    notes.append(f"{kind}, {setting}: {str(error).strip().splitlines()[-1]}")
                    continue
                kept.write(name, key, tried)
            if tried["seconds"] is None:
                notes.append(f"{kind}, {setting}: recall {options.target} is not reached")
            elif kind not in best or tried["seconds"] < best[kind]["seconds"]:
                best[kind] = tried
    layers: dict[str, Child] = {}
    try:
        for kind, tried in best.items():
            log(f"attention: {kind} again, {tried['setting']}, {tried['probes'] or 'no'} probes")
            layers[kind] = Child(
                "bench.index.attention:Layer", kind, tried["setting"], data.folder, options.threads
            )
            tried["build_seconds"] = layers[kind].call("build")
            if tried["probes"] is not None:
                layers[kind].call("set", tried["probes"])
                # tuned on other queries: more probes where these miss the target
                while (reached := recall(layers[kind], "measure")) < options.target:
                    if tried["probes"] == _clusters(tried["setting"]):
                        break
                    tried["probes"] += 1
                    layers[kind].call("set", tried["probes"])
                tried["recall"] = reached
        steps: dict[str, list[float]] = {kind: [] for kind in layers}
        for number in range(options.rounds):
            log(f"attention: round {number + 1} of {options.rounds}")
            for kind, child in layers.items():
                time.sleep(options.pause)
                child.call("run", 0, 1)  # warms up
                spent, _ = quiet.timed(kind, partial(child.call, "run", options.round_seconds, 1))
                steps[kind].append(statistics.median(spent))
        for kind, child in layers.items():
            best[kind] |= {"steps": steps[kind], "peak_mib": child.call("peak")}
    finally:
        for child in layers.values():
            child.close()
    return {"layers": best, "notes": notes, "k": K, "batch": BATCH, "cells": data.about["cells"]}


def _try(
    kind: str,
    setting: Setting,
    data: DataSet,
    options: Options,
    quiet: Quiet,
    recall: Callable[[Child], float],
) -> dict[str, Any]:
    """Seconds per step at the fewest probes that reach the target; None if none do."""
    child = Child("bench.index.attention:Layer", kind, setting, data.folder, options.threads)
    try:
        child.call("build")
        probes: int | None = None
        if kind in (OURS, THEIRS):

            def reached(count: int) -> float:
                child.call("set", count)
                return recall(child)

            probes = least_effort(reached, 1, _clusters(setting), options.target, 1)
            if probes is None:
                return {"setting": setting, "probes": None, "seconds": None}
            child.call("set", probes)
        child.call("run", 0, 1)
        spent, _ = quiet.timed(kind, partial(child.call, "run", options.seconds, 1))
        seconds = statistics.median(spent)
        return {"setting": setting, "probes": probes, "seconds": seconds}
    finally:
        child.close()


def _clusters(setting: Setting) -> int:
    """Number of clusters of an index with this setting: the upper limit of probes."""
    return setting.get("num_clusters") or int(setting["factory"].split(",")[0].removeprefix("IVF"))
