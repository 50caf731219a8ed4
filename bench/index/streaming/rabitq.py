"""RaBitQ's 7-bit codes with rows that come and go: in inverted lists, and in a graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.index.streaming.clusters import PROBES, cluster_count
from bench.index.streaming.graphs import EF, LINKS
from bench.index.systems.base import Floats, Ids, package, padded
from bench.index.systems.rabitq import LEAST


class Rabitq:
    """What both have in common: rows are numbered as they come, and deleted ones keep their places."""

    efforts: tuple[int, ...] = ()

    def __init__(self, most: int, threads: int) -> None:
        self.library = package("rabitqlib", "rabitqlib")
        self.most, self.threads = most, threads
        self.index: Any = None
        self.row = np.zeros(0, dtype=np.int64)  # of each of the library's numbers

    def build(self, index: Any, ids: Ids, keys: Floats, clusters: int) -> None:
        """Build an index of the library on the first rows ``(n,)`` with padded keys ``(n, D)``."""
        means = self.library.RaBitQKMeans(keys.shape[1], clusters, num_threads=self.threads)
        means.train(keys)
        index.build(keys, means.centroids, means.assignments, num_threads=self.threads)
        self.index, self.row = index, ids

    def insert(self, ids: Ids, keys: Floats) -> None:
        numbers = self.index.add(padded(keys, LEAST), num_threads=self.threads)
        assert numbers[0] == len(self.row), "the library numbers rows as they come"
        self.row = np.concatenate([self.row, ids])

    def delete(self, ids: Ids) -> None:
        self.index.remove(np.flatnonzero(np.isin(self.row, ids)).astype(np.uint32))

    def rows(self, found: Any) -> Ids:
        """Rows of the library's numbers, -1 where there is none."""
        numbers = np.asarray(found).astype(np.int64)
        there = numbers < len(self.row)
        return np.where(there, self.row[np.where(there, numbers, 0)], -1)


class Lists(Rabitq):
    """Inverted lists of RaBitQ's codes."""

    efforts: tuple[int, ...] = PROBES

    def begin(self, ids: Ids, keys: Floats) -> None:
        keys = padded(keys, LEAST)
        self.clusters = cluster_count(self.most, len(ids))
        sizes = {"dim": keys.shape[1], "max_elements": len(ids), "num_clusters": self.clusters}
        self.build(self.library.IvfIndex(**sizes, nbits=7, metric="ip"), ids, keys, self.clusters)

    def search(self, queries: Floats, k: int, effort: int) -> Ids:
        probes = min(effort, self.clusters)
        return self.rows(self.index.search(padded(queries, LEAST), k, probes, True, self.threads)[0])


class Graph(Rabitq):
    """RaBitQ's HNSW over its codes; its room is for all rows that ever come."""

    efforts: tuple[int, ...] = EF

    def begin(self, ids: Ids, keys: Floats) -> None:
        keys = padded(keys, LEAST)
        made = {"dim": keys.shape[1], "max_elements": self.most, "nbits": 7, "metric": "ip"}
        self.build(self.library.HnswIndex(**made, **LINKS), ids, keys, 16)

    def search(self, queries: Floats, k: int, effort: int) -> Ids:
        wanted = max(k, effort)
        return self.rows(self.index.search(padded(queries, LEAST), k, wanted, num_threads=self.threads)[0])
