"""usearch: a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.index.systems.base import Floats, Ids, Setting, lengthened, over, package, times


def builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001 - the same for every system
    """Links per node (twice that number at the bottom) and types of stored keys."""
    return times([{"links": 16, "ef_construction": 200}], over("storage", ["f32", "f16"]))


class Graph:
    """HNSW over inner products, or over distances between keys made equally long.

    A query with fewer than k results has -1 in its other places.
    """

    effort: str | None = "ef"

    def __init__(self, build: Setting, threads: int) -> None:
        self.library = package("usearch.index", "usearch")
        self.setting, self.threads = build, threads
        self.lengthened = bool(build.get("lengthened"))
        self.index: Any = None

    def _empty(self, features: int) -> Any:
        return self.library.Index(
            ndim=features,
            metric="l2sq" if self.lengthened else "ip",
            dtype=self.setting["storage"],
            connectivity=self.setting["links"],
            expansion_add=self.setting["ef_construction"],
        )

    def build(self, keys: Floats) -> None:
        keys = lengthened(keys) if self.lengthened else keys
        self.index = self._empty(keys.shape[1])
        self.index.add(np.arange(len(keys), dtype=np.uint64), keys, threads=self.threads)

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / "index.usearch"))
        (folder / "features").write_text(str(self.index.ndim))

    def load(self, folder: Path) -> None:
        self.index = self._empty(int((folder / "features").read_text()))
        self.index.load(str(folder / "index.usearch"))

    def efforts(self, k: int) -> tuple[int, int]:
        return k, max(k, min(4096, len(self.index)))

    def others(self, k: int) -> list[Setting]:  # noqa: ARG002
        return [{}]

    def set(self, setting: Setting) -> None:
        self.index.expansion_search = setting["ef"]

    def search(self, queries: Floats, k: int) -> Ids:
        queries = self._asked(queries)
        if len(queries) == 1:
            ids = np.asarray(self.index.search(queries[0], k).keys).astype(np.int64)
            return np.pad(ids, (0, k - len(ids)), constant_values=-1)[None]
        found = self.index.search(queries, k, threads=self.threads)
        ids = np.asarray(found.keys).astype(np.int64)
        short = np.arange(k) >= np.asarray(found.counts)[:, None]
        return np.where(short, -1, ids) if bool(short.any()) else ids

    def reads(self, queries: Floats, k: int) -> float | None:
        """Keys compared, without the lists of neighbours, which the library does not report."""
        found = self.index.search(self._asked(queries), k, threads=self.threads)
        bytes_of = {"f32": 4, "f16": 2}[self.setting["storage"]]
        return float(found.computed_distances / len(queries) * bytes_of / 4)

    def _asked(self, queries: Floats) -> Floats:
        return np.pad(queries, ((0, 0), (0, 1))) if self.lengthened else queries
