"""NGT: a graph of neighbours with a tree that gives a search its start."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from bench.index.systems.base import Floats, Ids, Setting, over, package, scratch

PARTS = 10_000
"""The effort is in parts of this: 200 is an epsilon of 0.02."""


def builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001 - the same for every system
    """Links per node while the graph is made."""
    return [{"links": 20}]


class Graph:
    """NGT's graph over inner products, which it turns into distances itself."""

    effort: str | None = "epsilon_of_10000"

    def __init__(self, build: Setting, threads: int) -> None:
        self.library = package("ngtpy", "ngt")
        self.setting, self.threads = build, threads
        self.folder: Path | None = None
        self.index: Any = None
        self.epsilon, self.links = 0.0, -2

    def build(self, keys: Floats) -> None:
        self.folder = scratch(self) / "index"
        made = {"edge_size_for_creation": self.setting["links"], "distance_type": "Inner Product"}
        self.library.create(str(self.folder), keys.shape[1], **made)
        self.index = self.library.Index(str(self.folder), log_disabled=True)
        self.index.batch_insert(keys, num_threads=self.threads)

    def save(self, folder: Path) -> None:
        assert self.folder is not None, "build comes first"
        self.index.save()
        for file in self.folder.iterdir():
            shutil.copy2(file, folder / file.name)

    def load(self, folder: Path) -> None:
        self.index = self.library.Index(str(folder), read_only=True, log_disabled=True)

    def efforts(self, k: int) -> tuple[int, int]:  # noqa: ARG002
        return 1, PARTS

    def others(self, k: int) -> list[Setting]:  # noqa: ARG002
        return over("edge_size", [0, -2])

    def set(self, setting: Setting) -> None:
        self.epsilon, self.links = setting["epsilon_of_10000"] / PARTS, setting["edge_size"]
        self.index.set(epsilon=self.epsilon, edge_size=self.links)

    def search(self, queries: Floats, k: int) -> Ids:
        if len(queries) == 1:
            asked = {"epsilon": self.epsilon, "edge_size": self.links, "with_distance": False}
            found = np.asarray(self.index.search(queries[0], k, **asked), dtype=np.int64)
            return np.pad(found, (0, k - len(found)), constant_values=-1)[None]
        results = self.library.BatchResults()
        self.index.batch_search(queries, results, k, with_distance=False)
        ids = np.full((len(queries), k), -1, dtype=np.int64)
        found, ends = results.get_indexed_ids(), results.get_index()
        for row in range(len(queries)):
            part = found[ends[row] : ends[row + 1]]
            ids[row, : len(part)] = part
        return ids

    def reads(self, queries: Floats, k: int) -> float | None:  # noqa: ARG002
        """Unknown: the library counts comparisons, but not the links that it reads."""
        return None
