"""Our own structures."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.index.systems.base import (
    Floats,
    Ids,
    PackageMissingError,
    Setting,
    cluster_counts,
    over,
    per_result,
    times,
)

FILE = "index.safetensors"
"""Name of the file that a structure is saved to."""


@dataclass(frozen=True)
class Kind:
    """A structure of ``hmn.index``.

    Attributes:
        name: name in the registry.
        effort: search setting with which recall grows; None if there is none.
        most: upper limit of the effort, from build setting and number of cells.
        others: combinations of the other search settings, from build setting and results per query.
    """

    name: str
    effort: str | None = None
    most: Callable[[Setting, int], int] = lambda _build, _cells: 0
    others: Callable[[Setting, int], list[Setting]] = lambda _build, _k: [{}]


def _rescored(build: Setting, k: int) -> list[Setting]:
    return [{}] if build["codes"] is None else over("rescore", per_result(k, 1.6, 2.4, 3.6, 6, 10, 20))


def _screened(_build: Setting, k: int) -> list[Setting]:
    """Both codes; cells scored in full as measured when the index was built, and more or fewer."""
    return times(over("codes", ["int1", "int4"]), over("rescore", [None, *per_result(k, 2.4, 6)]))


EXACT = Kind("exact")
"""Exact search."""
CLUSTER = Kind("cluster", "num_probes", lambda build, _: int(build["num_clusters"]), _rescored)
"""Clusters."""
HIERARCHY = Kind("hierarchy", "reach", lambda _build, _cells: 1000, _screened)
"""A hierarchy of groups, which was taught no queries; from a reach of 1000 on it is exact."""
WTA_HASH = Kind("wta-hash", "num_probes", lambda build, _: 1 + int(build["num_permutations"]))
"""Winner-take-all hashing."""
PCA_TREE = Kind("pca-tree", "num_leaves", lambda build, cells: max(1, 2 * cells // int(build["leaf_size"])))
"""A tree along principal components."""


def exact_builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001 - the same for every system
    """Nothing to set."""
    return [{}]


def cluster_builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001
    """Numbers of clusters and codes of the cells; small memories also try no codes, as in the paper."""
    codes = ["int8", "int4"] if cells >= 500_000 else [None, "int8", "int4"]
    return times(over("num_clusters", cluster_counts(cells)), over("codes", codes))


def hierarchy_builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001
    """Numbers of groups: the default, about half of it, and twice as many."""
    return over("num_groups", [None, round(cells**0.5), round(4 * cells**0.5)])


def wta_hash_builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001
    """Numbers of tables; small memories also try few tables, which find less."""
    tables = [64] if cells >= 500_000 else [16, 64]
    return times(over("num_tables", tables), [{"num_permutations": 4, "prefix": 4}])


def pca_tree_builds(cells: int, features: int) -> list[Setting]:  # noqa: ARG001
    """Cells per leaf; small memories also try large leaves, which are slower."""
    return over("leaf_size", [64] if cells >= 500_000 else [64, 256])


class Structure:
    """A structure of ``hmn.index``; its search settings are plain attributes."""

    def __init__(self, kind: Kind, build: Setting, threads: int) -> None:
        # imported here, so that no other system runs alongside PyTorch's threads
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(threads)
        self.kind, self.setting = kind, build
        self.effort = kind.effort
        try:
            self.index: Any = importlib.import_module("hmn.index.registry").make_index(kind.name, **build)
        except ModuleNotFoundError as error:
            raise PackageMissingError(f"hmn's {kind.name} is not there ({error})") from None

    def build(self, keys: Floats) -> None:
        self.index.build(self.torch.from_numpy(keys))

    def save(self, folder: Path) -> None:
        # a tensor that shares memory with another cannot be written
        state = {name: value.clone().contiguous() for name, value in self.index.state_dict().items()}
        importlib.import_module("safetensors.torch").save_file(state, folder / FILE)

    def load(self, folder: Path) -> None:
        self.index.load_state_dict(importlib.import_module("safetensors.torch").load_file(folder / FILE))

    def efforts(self, k: int) -> tuple[int, int]:  # noqa: ARG002
        return 1, self.kind.most(self.setting, len(self.index))

    def others(self, k: int) -> list[Setting]:
        return self.kind.others(self.setting, k)

    def set(self, setting: Setting) -> None:
        for name, value in setting.items():
            if not hasattr(self.index, name):
                raise AttributeError(f"hmn's {self.kind.name} has no setting {name}")
            setattr(self.index, name, value)

    def search(self, queries: Floats, k: int) -> Ids:
        found: Ids = self.index.search(self.torch.from_numpy(queries), k).cell.numpy()
        return found

    def reads(self, queries: Floats, k: int) -> float | None:
        return float(self.index.search(self.torch.from_numpy(queries), k).reads.mean())
