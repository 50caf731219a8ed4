"""hnswlib: a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.index.systems.base import Floats, Ids, Setting, lengthened, package


def builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001 - the same for every system
    """Links per node; the bottom layer has twice that number."""
    return [{"links": 16, "ef_construction": 200}]


class Graph:
    """HNSW over inner products, or over distances between keys made equally long."""

    effort: str | None = "ef"

    def __init__(self, build: Setting, threads: int) -> None:
        self.library = package("hnswlib", "hnswlib")
        self.setting, self.threads = build, threads
        self.lengthened = bool(build.get("lengthened"))
        self.index: Any = None

    def build(self, keys: Floats) -> None:
        keys = lengthened(keys) if self.lengthened else keys
        self.index = self.library.Index(space="l2" if self.lengthened else "ip", dim=keys.shape[1])
        made = {"M": self.setting["links"], "ef_construction": self.setting["ef_construction"]}
        self.index.init_index(max_elements=len(keys), random_seed=0, **made)
        self.index.add_items(keys, num_threads=self.threads)

    def save(self, folder: Path) -> None:
        self.index.save_index(str(folder / "index.hnswlib"))
        (folder / "features").write_text(str(self.index.dim))

    def load(self, folder: Path) -> None:
        features = int((folder / "features").read_text())
        self.index = self.library.Index(space="l2" if self.lengthened else "ip", dim=features)
        self.index.load_index(str(folder / "index.hnswlib"))

    def efforts(self, k: int) -> tuple[int, int]:
        return k, max(k, min(4096, self.index.element_count))

    def others(self, k: int) -> list[Setting]:  # noqa: ARG002
        return [{}]

    def set(self, setting: Setting) -> None:
        self.index.set_ef(setting["ef"])

    def search(self, queries: Floats, k: int) -> Ids:
        if self.lengthened:
            queries = np.pad(queries, ((0, 0), (0, 1)))
        found, _ = self.index.knn_query(queries, k, num_threads=self.threads)
        return np.asarray(found).astype(np.int64)

    def reads(self, queries: Floats, k: int) -> float | None:  # noqa: ARG002
        """Unknown: the library does not report it."""
        return None
