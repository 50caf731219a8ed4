"""Systems with clusters that insert and delete: hmn's, faiss's and ScaNN's.

All of them, but hmn's hierarchy, keep the clusters that they found among the first rows.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from bench.index.systems.base import Floats, Ids, Setting, package

PROBES = (4, 8, 16, 32, 64, 128, 256)
"""Clusters entered."""


def cluster_count(most: int, first: int) -> int:
    """The square root of the rows that are in at most, but no more than a quarter of the first rows."""
    return max(1, min(math.isqrt(most), first // 4))


class Hmn:
    """A structure of ``hmn.index`` with some settings; a ``cluster`` has as many clusters as others here."""

    def __init__(
        self, name: str, efforts: tuple[int, ...], settings: Setting, most: int, threads: int
    ) -> None:
        # imported here, so that no other system runs alongside PyTorch's threads
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(threads)
        self.name, self.efforts, self.settings, self.most = name, efforts, settings, most
        self.index: Any = None

    def begin(self, ids: Ids, keys: Floats) -> None:
        count = {"num_clusters": cluster_count(self.most, len(ids))} if self.name == "cluster" else {}
        self.index = importlib.import_module("hmn.index.registry").make_index(
            self.name, **self.settings, **count
        )
        self.index.build(self.torch.from_numpy(keys), self.torch.from_numpy(ids))

    def insert(self, ids: Ids, keys: Floats) -> None:
        self.index.add(self.torch.from_numpy(ids), self.torch.from_numpy(keys))

    def delete(self, ids: Ids) -> None:
        self.index.remove(self.torch.from_numpy(ids))

    def search(self, queries: Floats, k: int, effort: int) -> Ids:
        if self.name != "exact":
            self.index.effort = effort
        found: Ids = self.index.search(self.torch.from_numpy(queries), k).cell.numpy()
        return found


class Faiss:
    """faiss's inverted lists."""

    efforts: tuple[int, ...] = PROBES

    def __init__(self, most: int, threads: int) -> None:
        self.faiss = package("faiss", "faiss-cpu")
        self.faiss.omp_set_num_threads(threads)
        self.most = most
        self.index: Any = None

    def begin(self, ids: Ids, keys: Floats) -> None:
        lists = f"IVF{cluster_count(self.most, len(ids))},Flat"
        self.index = self.faiss.index_factory(keys.shape[1], lists, self.faiss.METRIC_INNER_PRODUCT)
        self.index.train(keys)
        self.insert(ids, keys)

    def insert(self, ids: Ids, keys: Floats) -> None:
        self.index.add_with_ids(keys, ids)

    def delete(self, ids: Ids) -> None:
        self.index.remove_ids(ids)

    def search(self, queries: Floats, k: int, effort: int) -> Ids:
        self.index.nprobe = effort
        found: Ids = self.index.search(queries, k)[1]
        return found


class Scann:
    """ScaNN's tree of clusters with asymmetric hashing."""

    efforts: tuple[int, ...] = PROBES

    def __init__(self, most: int, threads: int) -> None:
        self.ops = package("scann.scann_ops.py.scann_ops_pybind", "scann")
        self.most, self.threads = most, threads
        self.searcher: Any = None

    def begin(self, ids: Ids, keys: Floats) -> None:
        tree = {"num_leaves": cluster_count(self.most, len(ids)), "num_leaves_to_search": 1}
        builder = self.ops.builder(keys, 10, "dot_product").set_n_training_threads(self.threads)
        builder = builder.tree(**tree, training_sample_size=len(ids))
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100)
        self.searcher = builder.build(docids=_names(ids))
        self.searcher.set_num_threads(self.threads)

    def insert(self, ids: Ids, keys: Floats) -> None:
        self.searcher.upsert(_names(ids), keys)

    def delete(self, ids: Ids) -> None:
        self.searcher.delete(_names(ids))

    def search(self, queries: Floats, k: int, effort: int) -> Ids:
        part = -(-len(queries) // self.threads)  # a part for each thread
        found, _ = self.searcher.search_batched_parallel(queries, k, 10 * k, effort, batch_size=part)
        return np.asarray(found).astype(np.int64)


def _names(ids: Ids) -> list[str]:
    return [str(number) for number in ids.tolist()]
