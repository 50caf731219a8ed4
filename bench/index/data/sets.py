"""Data sets by name: made once, with the results of exact search, and kept on disk."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.index.data.clustered import generated
from bench.index.data.model import of_model
from bench.index.data.names import places
from bench.index.data.words import glove, wink
from bench.index.score import best_scores
from bench.index.systems.base import Floats

K = 10
"""Results per query, unless a run asks for another number."""
DEEPEST = 100
"""Upper limit of results per query: the number of best scores that are kept."""
QUERIES = 4096
"""Number of queries: half for tuning, half for measuring."""


@dataclass(frozen=True)
class DataSet:
    """Keys and queries in a folder, and the results of exact search.

    Attributes:
        folder: holds ``keys.npy`` (N, D), and for each part of the queries ``tune``, ``measure`` its vectors
            ``PART.npy`` (Q, D) and the scores of its best cells ``PART.best.npy`` (Q, 100).
        about: name, sizes, origin and checksum.
        k: results per query.
    """

    folder: Path
    about: dict[str, Any]
    k: int = K

    @property
    def keys(self) -> Floats:
        """Keys ``(N, D)``, memory-mapped."""
        keys: Floats = np.load(self.folder / "keys.npy", mmap_mode="r")
        return keys

    def queries(self, part: str) -> Floats:
        """Queries ``(Q, D)``."""
        queries: Floats = np.load(self.folder / f"{part}.npy")
        return queries

    def best(self, part: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Scores ``(Q, k)`` of the best cells, best first."""
        best: np.ndarray[Any, np.dtype[np.float64]] = np.load(self.folder / f"{part}.best.npy")
        return best[:, : self.k]

    def at(self, k: int) -> DataSet:
        """The same data with another number of results per query, 100 at most."""
        if not 1 <= k <= DEEPEST:
            raise ValueError(f"k is {k}, expected 1 to {DEEPEST}: only {DEEPEST} best scores are kept")
        return replace(self, k=k)


@dataclass(frozen=True)
class Sources:
    """Where data sets come from.

    Attributes:
        model: folder of a trained model.
        questions: file of questions for it.
        downloads: folder in which downloaded packages are kept.
    """

    model: Path
    questions: Path
    downloads: Path


def prepare(name: str, work: Path, model: Path, questions: Path) -> DataSet:
    """The data set of this name; it is made first if it is not on disk."""
    folder = work / name / "data"
    described = folder / "about.json"
    if not described.exists() or "deepest" not in json.loads(described.read_text()):
        folder.mkdir(parents=True, exist_ok=True)
        keys, queries, about = MAKERS[name](Sources(model, questions, work / "downloads"))
        np.save(folder / "keys.npy", keys)
        half = len(queries) // 2
        checksum = zlib.crc32(queries.tobytes(), zlib.crc32(keys.tobytes()))
        for part, chosen in (("tune", queries[:half]), ("measure", queries[half:])):
            np.save(folder / f"{part}.npy", chosen)
            np.save(folder / f"{part}.best.npy", best_scores(keys, chosen, DEEPEST))
        sizes = {"cells": len(keys), "features": keys.shape[1], "queries": [half, len(queries) - half]}
        about |= {"deepest": DEEPEST, "checksum": f"{checksum:08x}"}
        described.write_text(json.dumps({"name": name, **sizes, **about}))
    return DataSet(folder, json.loads(described.read_text()))


def _fewer(made: tuple[Floats, Floats, dict[str, Any]]) -> tuple[Floats, Floats, dict[str, Any]]:
    """The first 10,000 keys and 512 queries, to try a data set out."""
    keys, queries, about = made
    return keys[:10_000], queries[:512], {**about, "title": f"{about['title']}, in miniature"}


MAKERS: dict[str, Callable[[Sources], tuple[Floats, Floats, dict[str, Any]]]] = {
    "a": lambda given: of_model(given.model, given.questions, QUERIES),
    "b": lambda _: generated(1_000_000, 128, 2_000, QUERIES, seed=0),
    "glove": lambda given: glove(given.downloads, QUERIES, normalised=False),
    "glove-unit": lambda given: glove(given.downloads, QUERIES, normalised=True),
    "wink": lambda given: wink(given.downloads, QUERIES),
    "minilm": lambda _: places(QUERIES),
    "glove-small": lambda given: _fewer(glove(given.downloads, QUERIES, normalised=False)),
    "glove-unit-small": lambda given: _fewer(glove(given.downloads, QUERIES, normalised=True)),
    "wink-small": lambda given: _fewer(wink(given.downloads, QUERIES)),
    "minilm-small": lambda _: _fewer(places(512, 10_000)),
    "middle": lambda _: generated(20_000, 64, 200, 2048, seed=0),
    "small": lambda _: generated(2_000, 16, 40, 512, seed=0),
}
"""Makers of the data sets, by name."""
