"""The rows of the streaming benchmark, and the systems that cannot take part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from bench.index.streaming import clusters, graphs, rabitq
from bench.index.systems.base import Floats, Ids, Setting

REACH = (25, 50, 100, 150, 200, 300, 500)
"""Efforts of the hierarchy: how far to look, in hundredths of what its build measured."""

HASHES: Setting = {"num_tables": 64, "num_permutations": 4, "prefix": 4, "num_probes": 4}
"""Settings of the hash tables, as in the main benchmark."""
CANDIDATES = (100, 300, 1000, 3000, 10_000)
"""Efforts of the hash tables: cells scored in full."""


class Live(Protocol):
    """A system that changes.

    Attributes:
        efforts: efforts to search with, from little to much.
    """

    efforts: tuple[int, ...]

    def begin(self, ids: Ids, keys: Floats) -> None:
        """Insert the first rows ``(n,)`` with keys ``(n, D)``."""
        ...

    def insert(self, ids: Ids, keys: Floats) -> None:
        """Insert more rows."""
        ...

    def delete(self, ids: Ids) -> None:
        """Delete rows."""
        ...

    def search(self, queries: Floats, k: int, effort: int) -> Ids:
        """Rows ``(B, k)`` found for queries ``(B, D)``; -1 in places without a result."""
        ...


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        make: maker of the system, from a number of rows and a number of threads.
        package: package to install.
        keeps_deleted: whether deleted rows keep their places, so that it must be made for all rows.
    """

    make: Callable[[int, int], Live]
    package: str
    keeps_deleted: bool = False


ROWS: dict[str, Row] = {
    "hmn exact": Row(partial(clusters.Hmn, "exact", (1,), {}), "hmn"),
    "hmn cluster": Row(partial(clusters.Hmn, "cluster", clusters.PROBES, {}), "hmn"),
    "hmn hierarchy": Row(partial(clusters.Hmn, "hierarchy", REACH, {}), "hmn"),
    "hmn wta-hash": Row(partial(clusters.Hmn, "wta-hash", CANDIDATES, HASHES), "hmn"),
    "hmn pca-tree": Row(partial(clusters.Hmn, "pca-tree", (1, 2, 4, 8, 16, 32), {}), "hmn"),
    "faiss IVF-Flat": Row(clusters.Faiss, "faiss-cpu"),
    "IVF-RaBitQ": Row(rabitq.Lists, "rabitqlib"),
    "ScaNN": Row(clusters.Scann, "scann"),
    "hnswlib": Row(graphs.Hnswlib, "hnswlib"),
    "usearch": Row(graphs.Usearch, "usearch"),
    "HNSW-RaBitQ": Row(rabitq.Graph, "rabitqlib", keeps_deleted=True),
    "NGT": Row(graphs.Ngt, "ngt"),
    "SVS": Row(graphs.Svs, "scalable-vs"),
}
"""Rows of the table, by name."""
STILL = {
    "LoRANN": "it takes all keys at its build, and no others later",
    "SymphonyQG": "it takes all keys at its build, and no others later",
    "glass": "it takes all keys at its build, and no others later",
    "faiss HNSW": "it deletes nothing",
}
"""Systems that are left out, with the reason."""
