"""LoRANN: clusters, each with a reduced-rank regression of its cells' scores, reordering."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.index.systems.base import (
    Floats,
    Ids,
    Setting,
    cluster_counts,
    over,
    package,
    padded,
    per_result,
    times,
)

LEAST = 64
"""Features that the library needs at least; keys of fewer get columns of zeros."""
WIDE = 200
"""Features from which on its authors reduce queries first, to ``REDUCED`` features."""
REDUCED = 128
"""See ``WIDE``."""


def builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001 - the same for every system
    """Numbers of clusters and ranks of the regressions."""
    return times(over("clusters", cluster_counts(cells)), over("rank", [16, 32]))


class Regressions:
    """A LoRANN index with 8-bit parameters."""

    effort: str | None = "clusters_to_search"

    def __init__(self, build: Setting, threads: int) -> None:
        self.library = package("lorann", "lorann")
        self.setting, self.threads = build, threads
        self.index: Any = None
        self.keys: Floats | None = None  # the index refers to them
        self.features = 0
        self.clusters_to_search, self.reordered = 1, 100

    def build(self, keys: Floats) -> None:
        keys = np.ascontiguousarray(padded(keys, LEAST))
        self.features = keys.shape[1]
        reduced = None if self.features < WIDE else REDUCED
        made = {"quantization_bits": 8, "rank": self.setting["rank"], "distance": self.library.IP}
        self.index = self.library.LorannIndex(keys, self.setting["clusters"], reduced, **made)
        self.index.build(n_threads=self.threads)
        self.keys = keys

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / "index.lorann"))
        (folder / "features").write_text(str(self.features))

    def load(self, folder: Path) -> None:
        self.index = self.library.LorannIndex.load(str(folder / "index.lorann"))
        self.features = int((folder / "features").read_text())

    def efforts(self, k: int) -> tuple[int, int]:  # noqa: ARG002
        return 1, int(self.setting["clusters"])

    def others(self, k: int) -> list[Setting]:
        return over("reordered", per_result(k, 2, 4, 7, 10, 15, 25, 40))

    def set(self, setting: Setting) -> None:
        self.clusters_to_search, self.reordered = setting["clusters_to_search"], setting["reordered"]

    def search(self, queries: Floats, k: int) -> Ids:
        queries = padded(queries, self.features)
        asked = queries[0] if len(queries) == 1 else queries
        found = self.index.search(asked, k, self.clusters_to_search, self.reordered, n_threads=self.threads)
        return np.asarray(found).astype(np.int64).reshape(len(queries), k)

    def reads(self, queries: Floats, k: int) -> float | None:  # noqa: ARG002
        """Unknown: the library does not report it."""
        return None
