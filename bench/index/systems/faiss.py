"""faiss: inverted lists, quantised inverted lists with refinement, and a graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.index.systems.base import Floats, Ids, Setting, cluster_counts, lengthened, over, package, times

FILE = "index.faiss"
"""Name of the file that a structure is saved to."""


@dataclass(frozen=True)
class Kind:
    """A kind of index.

    Attributes:
        factory: text for faiss's factory, with placeholders for the build setting.
        effort: search setting with which recall grows.
        others: combinations of the other search settings.
    """

    factory: str
    effort: str
    others: tuple[Setting, ...] = ({},)


LISTS = Kind("IVF{clusters},Flat", "nprobe", tuple(over("parallel_mode", [0, 1])))
"""Inverted lists; with ``parallel_mode`` 1 the threads share the lists of a single query."""
QUANTISED = Kind("IVF{clusters},PQ{parts}x4fs,RFlat", "nprobe", tuple(over("k_factor", [2, 4, 8, 16, 32])))
"""Inverted lists of 4-bit codes, with the best cells scored in full."""
BINARY = Kind(
    "RR{features},IVF{clusters},{codes},RFlat", "nprobe", tuple(over("k_factor", [1, 2, 4, 8, 16, 32]))
)
"""Inverted lists of RaBitQ's codes, turned at random, with the best cells scored in full."""
GRAPH = Kind("HNSW{links},Flat", "ef")
"""A graph."""


def list_builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001 - the same for every system
    """Numbers of inverted lists."""
    return over("clusters", cluster_counts(cells))


def quantised_builds(cells: int, features: int) -> list[Setting]:
    """Numbers of inverted lists and of 4-bit codes per cell; small memories also try half the codes."""
    parts = [features // 2, features // 4] if features >= 64 and cells < 500_000 else [features // 2]
    return times(over("clusters", cluster_counts(cells)), over("parts", parts))


def binary_builds(cells: int, features: int) -> list[Setting]:
    """Numbers of inverted lists, and codes: of 1 bit per feature for fast scans, or of 4."""
    sizes = [{"features": features, "clusters": clusters} for clusters in cluster_counts(cells)]
    return times(sizes, over("codes", ["RaBitQfs1", "RaBitQ4"]))


def graph_builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001
    """Links per node; the bottom layer has twice that number."""
    return [{"links": 32, "ef_construction": 200}]


class Searcher:
    """An index of faiss's factory."""

    def __init__(self, kind: Kind, build: Setting, threads: int) -> None:
        self.faiss = package("faiss", "faiss-cpu")
        self.faiss.omp_set_num_threads(threads)
        self.kind, self.setting = kind, build
        self.effort: str | None = kind.effort
        self.lengthened = bool(build.get("lengthened"))
        self.index: Any = None
        self.lists: Any = None  # the inverted lists within the index, if it has any

    def build(self, keys: Floats) -> None:
        keys = lengthened(keys) if self.lengthened else keys
        metric = self.faiss.METRIC_L2 if self.lengthened else self.faiss.METRIC_INNER_PRODUCT
        self.index = self.faiss.index_factory(keys.shape[1], self.kind.factory.format(**self.setting), metric)
        if "ef_construction" in self.setting:
            self.index.hnsw.efConstruction = self.setting["ef_construction"]
        self.index.train(keys)
        self.index.add(keys)
        self._find_lists()

    def save(self, folder: Path) -> None:
        self.faiss.write_index(self.index, str(folder / FILE))

    def load(self, folder: Path) -> None:
        self.index = self.faiss.read_index(str(folder / FILE))
        self._find_lists()

    def efforts(self, k: int) -> tuple[int, int]:
        if self.lists is not None:
            return 1, int(self.lists.nlist)
        return k, max(k, min(4096, self.index.ntotal))

    def others(self, k: int) -> list[Setting]:  # noqa: ARG002
        return list(self.kind.others)

    def set(self, setting: Setting) -> None:
        for name, value in setting.items():
            if name == "ef":
                self.index.hnsw.efSearch = value
            elif name == "k_factor":
                self.index.k_factor = value
            else:
                setattr(self.lists, name, value)

    def search(self, queries: Floats, k: int) -> Ids:
        if self.lengthened:
            queries = np.pad(queries, ((0, 0), (0, 1)))
        found: Ids = self.index.search(queries, k)[1]
        return found

    def reads(self, queries: Floats, k: int) -> float | None:
        """Centroids, codes and ids of the lists probed, keys scored again; keys and links of a graph."""
        key = 4 * (self.index.d - self.lengthened)
        stats = self.faiss.cvar.hnsw_stats if self.lists is None else self.faiss.cvar.indexIVF_stats
        stats.reset()
        self.search(queries, k)
        if self.lists is None:
            links = 2 * self.setting["links"] * 4
            return float((stats.ndis + stats.nhops * links / key) / len(queries))
        again = self.index.k_factor * k if self.kind.factory.endswith("RFlat") else 0
        return float(self.lists.nlist + stats.ndis / len(queries) * (self.lists.code_size + 8) / key + again)

    def _find_lists(self) -> None:
        if "IVF" in self.kind.factory:
            self.lists = self.faiss.extract_index_ivf(self.index)
