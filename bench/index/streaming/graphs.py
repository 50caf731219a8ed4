"""Graphs that insert and delete: hnswlib's, usearch's, NGT's and SVS's."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.index.systems.base import Floats, Ids, package, scratch

EF = (10, 20, 40, 80, 160, 320, 640)
"""Candidates that a search keeps."""
LINKS = {"M": 16, "ef_construction": 200}
"""Links per node, and candidates while they are chosen."""


class Hnswlib:
    """hnswlib's graph over inner products; new rows take the places of deleted ones."""

    efforts: tuple[int, ...] = EF

    def __init__(self, most: int, threads: int) -> None:
        self.library = package("hnswlib", "hnswlib")
        self.most, self.threads = most, threads
        self.index: Any = None

    def begin(self, ids: Ids, keys: Floats) -> None:
        self.index = self.library.Index(space="ip", dim=keys.shape[1])
        self.index.init_index(max_elements=self.most, random_seed=0, allow_replace_deleted=True, **LINKS)
        self.index.add_items(keys, ids, num_threads=self.threads)

    def insert(self, ids: Ids, keys: Floats) -> None:
        self.index.add_items(keys, ids, num_threads=self.threads, replace_deleted=True)

    def delete(self, ids: Ids) -> None:
        for number in ids.tolist():
            self.index.mark_deleted(number)

    def search(self, queries: Floats, k: int, effort: int) -> Ids:
        self.index.set_ef(max(k, effort))
        found, _ = self.index.knn_query(queries, k, num_threads=self.threads)
        return np.asarray(found).astype(np.int64)


class Usearch:
    """usearch's graph over inner products."""

    efforts: tuple[int, ...] = EF

    def __init__(self, most: int, threads: int) -> None:  # noqa: ARG002
        self.library = package("usearch.index", "usearch")
        self.threads = threads
        self.index: Any = None

    def begin(self, ids: Ids, keys: Floats) -> None:
        made = {"connectivity": LINKS["M"], "expansion_add": LINKS["ef_construction"]}
        self.index = self.library.Index(ndim=keys.shape[1], metric="ip", dtype="f32", **made)
        self.insert(ids, keys)

    def insert(self, ids: Ids, keys: Floats) -> None:
        self.index.add(ids.astype(np.uint64), keys, threads=self.threads)

    def delete(self, ids: Ids) -> None:
        self.index.remove(ids.astype(np.uint64), threads=self.threads)

    def search(self, queries: Floats, k: int, effort: int) -> Ids:
        self.index.expansion_search = effort
        found = self.index.search(queries, k, threads=self.threads)
        ids = np.asarray(found.keys).astype(np.int64).reshape(len(queries), k)
        counts = np.asarray(getattr(found, "counts", np.full(len(queries), k)))
        return np.where(np.arange(k) >= counts[:, None], -1, ids)


class Ngt:
    """NGT's graph; rows that come after deletes are linked badly to those before."""

    efforts: tuple[int, ...] = (50, 100, 200, 400, 800, 1600, 3200)
    """Epsilon, in parts of 10,000."""

    def __init__(self, most: int, threads: int) -> None:  # noqa: ARG002
        self.library = package("ngtpy", "ngt")
        self.threads = threads
        self.index: Any = None
        self.row = np.zeros(0, dtype=np.int64)  # of each of the library's numbers

    def begin(self, ids: Ids, keys: Floats) -> None:
        path = str(scratch(self) / "index")
        made = {"edge_size_for_creation": 20, "distance_type": "Inner Product"}
        self.library.create(path, keys.shape[1], **made)
        self.index = self.library.Index(path, log_disabled=True)
        self.insert(ids, keys)

    def insert(self, ids: Ids, keys: Floats) -> None:
        self.index.batch_insert(keys, num_threads=self.threads)
        self.row = np.concatenate([self.row, ids])

    def delete(self, ids: Ids) -> None:
        for number in np.flatnonzero(np.isin(self.row, ids)).tolist():
            self.index.remove(number)

    def search(self, queries: Floats, k: int, effort: int) -> Ids:
        results = self.library.BatchResults()
        self.index.set(epsilon=effort / 10_000)
        self.index.batch_search(queries, results, k, with_distance=False)
        ids = np.full((len(queries), k), -1, dtype=np.int64)
        found, ends = results.get_indexed_ids(), results.get_index()
        for number in range(len(queries)):
            part = found[ends[number] : ends[number + 1]]
            ids[number, : len(part)] = self.row[part]
        return ids


class Svs:
    """SVS's dynamic Vamana; the graph is mended after every delete."""

    efforts: tuple[int, ...] = EF

    def __init__(self, most: int, threads: int) -> None:  # noqa: ARG002
        self.library = package("svs", "scalable-vs")
        self.threads = threads
        self.index: Any = None

    def begin(self, ids: Ids, keys: Floats) -> None:
        made = {"alpha": 0.95, "graph_max_degree": 32, "window_size": LINKS["ef_construction"]}
        parameters = self.library.VamanaBuildParameters(**made)
        metric = self.library.DistanceType.MIP
        self.index = self.library.DynamicVamana.build(
            parameters, keys, ids.astype(np.uint64), metric, self.threads
        )

    def insert(self, ids: Ids, keys: Floats) -> None:
        self.index.add(keys, ids.astype(np.uint64))

    def delete(self, ids: Ids) -> None:
        self.index.delete(ids.astype(np.uint64))
        self.index.consolidate()
        self.index.compact(1000)

    def search(self, queries: Floats, k: int, effort: int) -> Ids:
        self.index.search_window_size = max(k, effort)
        found, _ = self.index.search(queries, k)
        return np.asarray(found).astype(np.int64)
