"""Intel's Scalable Vector Search: a Vamana graph; its short codes (LVQ) are for Intel's processors."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.index.systems.base import Floats, Ids, Setting, over, package, times

ALPHA = 0.95
"""Pruning of links, as its authors set it for inner products."""


def builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001 - the same for every system
    """Links per node, and codes of the keys."""
    return times([{"links": 64, "ef_construction": 200}], over("codes", ["LVQ8", "float32"]))


class Graph:
    """Vamana over inner products."""

    effort: str | None = "window"

    def __init__(self, build: Setting, threads: int) -> None:
        self.library = package("svs", "scalable-vs")
        self.setting, self.threads = build, threads
        self.index: Any = None

    def build(self, keys: Floats) -> None:
        made = {"graph_max_degree": self.setting["links"], "window_size": self.setting["ef_construction"]}
        parameters = self.library.VamanaBuildParameters(alpha=ALPHA, **made)
        metric = self.library.DistanceType.MIP
        if self.setting["codes"] == "LVQ8":
            with TemporaryDirectory() as folder:
                file = str(Path(folder) / "keys.fvecs")
                self.library.write_vecs(keys, file)
                loader = self.library.VectorDataLoader(file, self.library.DataType.float32, keys.shape[1])
                self.index = self.library.Vamana.build(
                    parameters, self.library.LVQLoader(loader, primary=8), metric, self.threads
                )
            return
        self.index = self.library.Vamana.build(parameters, keys, metric, self.threads)

    def save(self, folder: Path) -> None:
        self.index.save(*(str(folder / part) for part in ("config", "graph", "data")))

    def load(self, folder: Path) -> None:
        config, graph, data = (str(folder / part) for part in ("config", "graph", "data"))
        if self.setting["codes"] == "LVQ8":
            loader = self.library.LVQLoader(data)
        else:
            loader = self.library.VectorDataLoader(data, self.library.DataType.float32)
        self.index = self.library.Vamana(
            config,
            self.library.GraphLoader(graph),
            loader,
            self.library.DistanceType.MIP,
            num_threads=self.threads,
        )

    def efforts(self, k: int) -> tuple[int, int]:
        return k, max(k, min(4096, self.index.size))

    def others(self, k: int) -> list[Setting]:  # noqa: ARG002
        return [{}]

    def set(self, setting: Setting) -> None:
        self.index.search_window_size = setting["window"]

    def search(self, queries: Floats, k: int) -> Ids:
        found, _ = self.index.search(queries, k)
        return np.asarray(found).astype(np.int64)

    def reads(self, queries: Floats, k: int) -> float | None:  # noqa: ARG002
        """Unknown: the library does not report it."""
        return None
