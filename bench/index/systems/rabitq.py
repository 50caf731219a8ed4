"""RaBitQ by its authors: inverted lists of short codes, and SymphonyQG, a graph with such codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.index.systems.base import (
    Floats,
    Ids,
    Setting,
    cluster_counts,
    lengthened,
    over,
    package,
    padded,
    times,
)

LEAST = 64
"""Features that the library needs at least; keys of fewer get columns of zeros."""
FILE = "index.rabitq"
"""Name of the file that a structure is saved to."""


def list_builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001 - the same for every system
    """Numbers of lists, and bits per feature; with 32 the best cells are scored in full."""
    return times(over("clusters", cluster_counts(cells)), over("bits", [7, 32]))


def graph_builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001
    """Links per node."""
    return [{"links": 32, "ef_construction": 200}]


class Lists:
    """Inverted lists of RaBitQ's codes."""

    effort: str | None = "nprobe"

    def __init__(self, build: Setting, threads: int) -> None:
        self.library = package("rabitqlib", "rabitqlib")
        self.setting, self.threads = build, threads
        self.index: Any = None
        self.nprobe, self.high_accuracy = 1, True

    def build(self, keys: Floats) -> None:
        keys = padded(keys, LEAST)
        clusters, features = self.setting["clusters"], keys.shape[1]
        final = self.library.FinalAssignmentMode.Exact
        means = self.library.RaBitQKMeans(
            features, clusters, num_threads=self.threads, final_assignment=final
        )
        means.train(keys)
        sizes = {"dim": features, "max_elements": len(keys), "num_clusters": clusters}
        self.index = self.library.IvfIndex(**sizes, nbits=self.setting["bits"], metric="ip")
        self.index.build(keys, means.centroids, means.assignments, num_threads=self.threads)

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / FILE))

    def load(self, folder: Path) -> None:
        self.index = self.library.IvfIndex.load(str(folder / FILE))

    def efforts(self, k: int) -> tuple[int, int]:  # noqa: ARG002
        return 1, int(self.setting["clusters"])

    def others(self, k: int) -> list[Setting]:  # noqa: ARG002
        return over("high_accuracy", [False, True])

    def set(self, setting: Setting) -> None:
        self.nprobe, self.high_accuracy = setting["nprobe"], setting["high_accuracy"]

    def search(self, queries: Floats, k: int) -> Ids:
        queries = padded(queries, self.index.dim)
        found, _ = self.index.search(queries, k, self.nprobe, self.high_accuracy, self.threads)
        return ids(found, len(queries), k)

    def reads(self, queries: Floats, k: int) -> float | None:  # noqa: ARG002
        """Unknown: the library does not report it."""
        return None


class Graph:
    """SymphonyQG over inner products, or over distances between keys made equally long."""

    effort: str | None = "ef"

    def __init__(self, build: Setting, threads: int) -> None:
        self.library = package("rabitqlib", "rabitqlib")
        self.setting, self.threads = build, threads
        self.lengthened = bool(build.get("lengthened"))
        self.index: Any = None
        self.ef = 0

    def build(self, keys: Floats) -> None:
        keys = padded(lengthened(keys) if self.lengthened else keys, LEAST)
        metric = "l2" if self.lengthened else "ip"
        self.index = self.library.SymqgIndex(keys.shape[1], self.setting["links"], metric)
        self.index.build(keys, self.setting["ef_construction"], num_threads=self.threads)

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / FILE))

    def load(self, folder: Path) -> None:
        self.index = self.library.SymqgIndex.load(str(folder / FILE))

    def efforts(self, k: int) -> tuple[int, int]:
        return k, max(k, min(4096, self.index.num_points))

    def others(self, k: int) -> list[Setting]:  # noqa: ARG002
        return [{}]

    def set(self, setting: Setting) -> None:
        self.ef = setting["ef"]

    def search(self, queries: Floats, k: int) -> Ids:
        queries = padded(queries, self.index.dim)
        # the column that makes keys equally long is 0 in queries, as the padding is
        search = self.index.search if len(queries) == 1 else self.index.search_batch
        found, _ = search(queries, k, self.ef, num_threads=self.threads)
        return ids(found, len(queries), k)

    def reads(self, queries: Floats, k: int) -> float | None:  # noqa: ARG002
        """Unknown: the library does not report it."""
        return None


def ids(found: Any, queries: int, k: int) -> Ids:
    """The library's unsigned ids; what it writes in places without a result becomes -1."""
    rows = np.asarray(found).astype(np.int64).reshape(queries, k)
    return np.where(rows == np.iinfo(np.uint32).max, -1, rows)
