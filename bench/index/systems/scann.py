"""ScaNN: a tree of clusters, asymmetric hashing, reordering; with and without SOAR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.index.systems.base import Floats, Ids, Setting, cluster_counts, over, package, per_result, times

SOAR_LAMBDA = 1.5
"""Weight of SOAR's spilling."""
THRESHOLD = 0.2
"""Threshold of anisotropic quantisation."""
# Tried by hand on both data sets: anisotropic centroids (avq) and other thresholds gained nothing beyond
# these settings, and reordering in float32 is just as fast for spherical leaves.
WAYS: list[Setting] = [{}, {"spherical": True, "reordered_in": "bfloat16"}]
"""Ways of making leaves and of storing the vectors for reordering."""


def builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001 - the same for every system
    """Numbers of leaves, with each of ``WAYS``."""
    return times(over("leaves", cluster_counts(cells)), WAYS)


def builds_with_soar(cells: int, features: int) -> list[Setting]:  # noqa: ARG001
    """The same, with every cell in two leaves."""
    return times(over("leaves", cluster_counts(cells)), over("soar_lambda", [SOAR_LAMBDA]), WAYS)


class TreeHashing:
    """Tree-AH as ScaNN's authors recommend it: blocks of two features, anisotropic, reordered."""

    effort: str | None = "leaves_to_search"

    def __init__(self, build: Setting, threads: int) -> None:
        self.ops = package("scann.scann_ops.py.scann_ops_pybind", "scann")
        self.setting, self.threads = build, threads
        self.searcher: Any = None
        self.leaves_to_search, self.reordered = 1, 100

    def build(self, keys: Floats) -> None:
        tree: Setting = {"num_leaves": self.setting["leaves"], "num_leaves_to_search": 1}
        tree["training_sample_size"] = min(len(keys), 250_000)
        tree |= {name: self.setting[name] for name in ("soar_lambda", "spherical") if name in self.setting}
        builder = self.ops.builder(keys, 10, "dot_product").set_n_training_threads(self.threads)
        builder = builder.tree(**tree)
        builder = builder.score_ah(2, anisotropic_quantization_threshold=THRESHOLD)
        kinds = self.ops.scann_builder.ReorderType
        short = self.setting.get("reordered_in") == "bfloat16"
        builder = builder.reorder(100, quantize=kinds.BFLOAT16 if short else kinds.FLOAT32)
        self.searcher = builder.build()
        self.searcher.set_num_threads(self.threads)

    def save(self, folder: Path) -> None:
        self.searcher.serialize(str(folder), relative_path=True)

    def load(self, folder: Path) -> None:
        self.searcher = self.ops.load_searcher(str(folder))
        self.searcher.set_num_threads(self.threads)

    def efforts(self, k: int) -> tuple[int, int]:  # noqa: ARG002
        return 1, int(self.setting["leaves"])

    def others(self, k: int) -> list[Setting]:
        return over("reordered", per_result(k, 2, 4, 7, 10, 15, 25, 40))

    def set(self, setting: Setting) -> None:
        self.leaves_to_search, self.reordered = setting["leaves_to_search"], setting["reordered"]

    def search(self, queries: Floats, k: int) -> Ids:
        if len(queries) == 1:
            found, _ = self.searcher.search(queries[0], k, self.reordered, self.leaves_to_search)
            return np.asarray(found, dtype=np.int64)[None]
        part = -(-len(queries) // self.threads)  # a part for each thread
        found, _ = self.searcher.search_batched_parallel(
            queries, k, self.reordered, self.leaves_to_search, batch_size=part
        )
        return np.asarray(found).astype(np.int64)

    def reads(self, queries: Floats, k: int) -> float | None:  # noqa: ARG002
        """Unknown: the library does not report the number of codes it scans."""
        return None
