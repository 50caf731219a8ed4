"""glass: a graph whose search runs over short codes, with the best cells scored in full."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from bench.index.systems.base import Floats, Ids, Setting, lengthened, over, package, scratch, times

FILE = "graph.glass"
"""Name of the file that a graph is saved to."""


def builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001 - the same for every system
    """Links per node, and codes of the keys."""
    return times([{"links": 32, "ef_construction": 200}], over("codes", ["SQ8U", "FP32"]))


class Graph:
    """HNSW over inner products, or over distances between keys made equally long."""

    effort: str | None = "ef"

    def __init__(self, build: Setting, threads: int) -> None:
        self.library = package("glass", "pyglass-portable")
        self.setting, self.threads = build, threads
        self.metric = "L2" if build.get("lengthened") else "IP"
        self.file: Path | None = None
        self.keys: Floats | None = None
        self.searcher: Any = None
        self.ef = 0

    def build(self, keys: Floats) -> None:
        self.keys = lengthened(keys) if self.metric == "L2" else keys
        made = {"R": self.setting["links"], "L": self.setting["ef_construction"]}
        graph = self.library.Index("HNSW", self.metric, "FP32", **made).build(self.keys)
        self.file = scratch(self) / FILE
        graph.save(str(self.file))
        self._prepare(graph)

    def save(self, folder: Path) -> None:
        assert self.file is not None and self.keys is not None, "build comes first"
        shutil.copy2(self.file, folder / FILE)
        np.save(folder / "keys.npy", self.keys)

    def load(self, folder: Path) -> None:
        self.keys = np.load(folder / "keys.npy")
        self._prepare(self.library.Graph(str(folder / FILE)))

    def efforts(self, k: int) -> tuple[int, int]:
        assert self.keys is not None, "build or load comes first"
        return k, max(k, min(4096, len(self.keys)))

    def others(self, k: int) -> list[Setting]:  # noqa: ARG002
        return [{}]

    def set(self, setting: Setting) -> None:
        self.searcher.set_ef(setting["ef"])

    def search(self, queries: Floats, k: int) -> Ids:
        if self.metric == "L2":
            queries = np.pad(queries, ((0, 0), (0, 1)))
        if len(queries) == 1:
            found, _ = self.searcher.search(queries[0], k)
        else:
            found, _ = self.searcher.batch_search(queries, k, self.threads)
        return np.asarray(found).astype(np.int64).reshape(len(queries), k)

    def reads(self, queries: Floats, k: int) -> float | None:  # noqa: ARG002
        """Unknown: the library counts comparisons, but not the links that it reads."""
        return None

    def _prepare(self, graph: Any) -> None:
        # the searcher takes the graph away, so that it can be saved no more
        data = (graph, self.keys, self.metric, self.setting["codes"], "FP32")
        self.searcher = self.library.Searcher(*data)
        self.searcher.optimize(self.threads)
