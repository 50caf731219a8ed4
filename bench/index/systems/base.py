"""What a system under test is: one small adapter, believed in nothing but the time that it takes."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Setting = dict[str, Any]
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class System(Protocol):
    """A searcher for the largest inner products, made with a build setting and a number of threads.

    Attributes:
        effort: the search setting that recall and time grow with, None if there is none.
    """

    effort: str | None

    def build(self, keys: Floats) -> None:
        """Make the structure of keys ``(N, D)``; training and adding, everything before the first search."""
        ...

    def save(self, folder: Path) -> None:
        """Write the structure into a folder that is there."""
        ...

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote, in place of ``build``."""
        ...

    def efforts(self) -> tuple[int, int]:
        """The least and the most effort."""
        ...

    def others(self) -> list[Setting]:
        """What else can be set between searches; every combination worth trying."""
        ...

    def set(self, setting: Setting) -> None:
        """Search with these settings, one of ``others`` and the effort, from now on."""
        ...

    def search(self, queries: Floats, k: int) -> Ids:
        """Ids ``(B, k)`` of the cells found for queries ``(B, D)``, many or one."""
        ...

    def reads(self, queries: Floats, k: int) -> float | None:
        """Mean bytes touched for a query, divided by the bytes of a float32 key; None where it is unknown."""
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


def version_of_package(name: str) -> str | None:
    """Version of a package, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cluster_counts(cells: int) -> list[int]:
    """Numbers of clusters worth trying, the same for every structure of clusters."""
    if cells >= 500_000:
        return [1024, 4096]
    if cells >= 50_000:
        return [500, 1000, 2000]
    return [max(1, round(cells**0.5))]


def times(*choices: list[Setting]) -> list[Setting]:
    """Every combination of one setting of each list."""
    combined: list[Setting] = [{}]
    for choice in choices:
        combined = [{**one, **other} for one in combined for other in choice]
    return combined


def over(name: str, values: list[Any]) -> list[Setting]:
    """A setting for each value."""
    return [{name: value} for value in values]


def lengthened(keys: Floats) -> Floats:
    """Keys with one more column that makes them equally long, so that nearest is largest inner product.

    The exact reduction of Bachrach et al., "Speeding up the Xbox recommender system", 2014; a query gets a
    zero there. For graphs that find their way badly among keys of very different length.
    """
    square = np.einsum("nd,nd->n", keys, keys)
    return np.concatenate([keys, np.sqrt(square.max() - square)[:, None]], axis=1, dtype=np.float32)
