"""Every row of the benchmark: one small adapter per system."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.index.systems import faiss, hmn, lorann, rabitq, scann
from bench.index.systems.base import Setting, System
from bench.index.systems.graphs import glass, hnswlib, ngt, svs, usearch

Builds = Callable[[int, int], list[Setting]]
LENGTHENED: Setting = {"lengthened": True}
"""Build setting that makes all keys equally long."""


@dataclass(frozen=True)
class Row:
    """A row of the tables: a system, and how it may be built.

    Attributes:
        make: maker of the system from a build setting and a number of threads.
        package: package to install.
        builds: build settings worth trying for N cells of D features.
        graph: whether keys are made equally long if the target is not reached otherwise.
    """

    make: Callable[[Setting, int], System]
    package: str
    builds: Builds
    graph: bool = False

    def fallbacks(self, cells: int, features: int) -> list[Setting]:
        """Build settings to try if none of ``builds`` reaches the target."""
        return [{**build, **LENGTHENED} for build in self.builds(cells, features)] if self.graph else []


ROWS: dict[str, Row] = {
    "hmn exact": Row(partial(hmn.Structure, hmn.EXACT), "hmn", hmn.exact_builds),
    "hmn cluster": Row(partial(hmn.Structure, hmn.CLUSTER), "hmn", hmn.cluster_builds),
    "hmn hierarchy": Row(partial(hmn.Structure, hmn.HIERARCHY), "hmn", hmn.hierarchy_builds),
    "hmn wta-hash": Row(partial(hmn.Structure, hmn.WTA_HASH), "hmn", hmn.wta_hash_builds),
    "hmn pca-tree": Row(partial(hmn.Structure, hmn.PCA_TREE), "hmn", hmn.pca_tree_builds),
    "faiss IVF-Flat": Row(partial(faiss.Searcher, faiss.LISTS), "faiss-cpu", faiss.list_builds),
    "faiss IVF-PQ fast-scan": Row(
        partial(faiss.Searcher, faiss.QUANTISED), "faiss-cpu", faiss.quantised_builds
    ),
    "faiss IVF-RaBitQ": Row(partial(faiss.Searcher, faiss.BINARY), "faiss-cpu", faiss.binary_builds),
    "faiss HNSW": Row(partial(faiss.Searcher, faiss.GRAPH), "faiss-cpu", faiss.graph_builds, graph=True),
    "ScaNN": Row(scann.TreeHashing, "scann", scann.builds),
    "ScaNN SOAR": Row(scann.TreeHashing, "scann", scann.builds_with_soar),
    "hnswlib": Row(hnswlib.Graph, "hnswlib", hnswlib.builds, graph=True),
    "usearch": Row(usearch.Graph, "usearch", usearch.builds, graph=True),
    "LoRANN": Row(lorann.Regressions, "lorann", lorann.builds),
    "IVF-RaBitQ": Row(rabitq.Lists, "rabitqlib", rabitq.list_builds),
    "SymphonyQG": Row(rabitq.Graph, "rabitqlib", rabitq.graph_builds, graph=True),
    "glass": Row(glass.Graph, "pyglass-portable", glass.builds, graph=True),
    "NGT": Row(ngt.Graph, "ngt", ngt.builds),
    "SVS": Row(svs.Graph, "scalable-vs", svs.builds),
}
"""Rows of the tables, by name."""
