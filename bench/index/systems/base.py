"""The interface of a system under test: a small adapter of which only ids and times are used."""

from __future__ import annotations

import importlib
import shutil
import weakref
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Setting = dict[str, Any]
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class System(Protocol):
    """A searcher for the largest inner products, made with a build setting and a number of threads.

    Attributes:
        effort: search setting with which recall and time grow; None if there is none.
    """

    effort: str | None

    def build(self, keys: Floats) -> None:
        """Build the structure over keys ``(N, D)``: everything that comes before the first search."""
        ...

    def save(self, folder: Path) -> None:
        """Write the structure into an existing folder."""
        ...

    def load(self, folder: Path) -> None:
        """Load what ``save`` wrote, instead of ``build``."""
        ...

    def efforts(self, k: int) -> tuple[int, int]:
        """Lower and upper limit of the effort, for k results."""
        ...

    def others(self, k: int) -> list[Setting]:
        """Combinations of the other search settings that are worth trying for k results."""
        ...

    def set(self, setting: Setting) -> None:
        """Use these settings from now on: one of ``others`` and the effort."""
        ...

    def search(self, queries: Floats, k: int) -> Ids:
        """Ids ``(B, k)`` of the cells found for queries ``(B, D)``."""
        ...

    def reads(self, queries: Floats, k: int) -> float | None:
        """Mean bytes touched per query, divided by the bytes of a float32 key; None if unknown."""
        ...


class PackageMissingError(Exception):
    """A system's package is not installed."""


def package(module: str, name: str) -> Any:
    """Import a system's package.

    Raises:
        PackageMissingError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise PackageMissingError(f"{name} is not installed: pip install {name} ({error})") from None


def scratch(owner: object) -> Path:
    """A new folder that is removed with its owner; for libraries that write files while they build."""
    folder = Path(mkdtemp(prefix="bench-index-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder


def version_of_package(name: str) -> str | None:
    """Version of a package; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cluster_counts(cells: int) -> list[int]:
    """Numbers of clusters worth trying, the same for every structure with clusters."""
    if cells >= 500_000:
        return [1024, 4096]
    if cells >= 50_000:
        return [500, 1000, 2000]
    return [max(1, round(cells**0.5))]


def times(*choices: list[Setting]) -> list[Setting]:
    """Every combination of one setting from each list."""
    combined: list[Setting] = [{}]
    for choice in choices:
        combined = [{**chosen, **setting} for chosen in combined for setting in choice]
    return combined


def per_result(k: int, *times: float) -> list[int]:
    """Numbers of cells worth scoring in full: multiples of the k results."""
    return [round(k * each) for each in times]


def over(name: str, values: list[Any]) -> list[Setting]:
    """A setting for each value."""
    return [{name: value} for value in values]


def lengthened(keys: Floats) -> Floats:
    """Keys with one more column that makes them equally long, so that the nearest has the largest product.

    The exact reduction of Bachrach et al., "Speeding up the Xbox recommender system", 2014; queries get a
    zero in that column. For graphs that search badly among keys of very different length.
    """
    square = np.einsum("nd,nd->n", keys, keys)
    return np.concatenate([keys, np.sqrt(square.max() - square)[:, None]], axis=1, dtype=np.float32)


def unit(rows: Floats) -> Floats:
    """Rows ``(N, D)`` divided by their lengths, which must not be 0."""
    length: Floats = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / length


def padded(rows: Floats, features: int) -> Floats:
    """Rows with columns of zeros up to a number of features, which change no inner product."""
    return np.pad(rows, ((0, 0), (0, max(0, features - rows.shape[1]))))
