"""Keys and queries of a trained model, or generated ones; made once and kept on disk."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.index.score import best_scores
from bench.index.systems.base import Floats

K = 10
"""Results per query."""
QUERIES = 4096
"""Number of queries: half for tuning, half for measuring."""
BLOCK = 1 << 16
"""Keys generated at a time."""


@dataclass(frozen=True)
class DataSet:
    """Keys and queries in a folder, and the results of exact search.

    Attributes:
        folder: holds ``keys.npy`` (N, D), and for each part of the queries ``tune``, ``measure`` its vectors
            ``PART.npy`` (Q, D) and the scores of its K best cells ``PART.best.npy`` (Q, K).
        about: name, sizes, origin and checksum.
    """

    folder: Path
    about: dict[str, Any]

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
        """Scores ``(Q, K)`` of the best cells, best first."""
        best: np.ndarray[Any, np.dtype[np.float64]] = np.load(self.folder / f"{part}.best.npy")
        return best


def prepare(name: str, work: Path, model: Path, questions: Path) -> DataSet:
    """The data set of this name; it is made first if it is not on disk."""
    folder = work / name / "data"
    described = folder / "about.json"
    if not described.exists():
        folder.mkdir(parents=True, exist_ok=True)
        keys, queries, about = MAKERS[name](model, questions)
        np.save(folder / "keys.npy", keys)
        half = len(queries) // 2
        checksum = zlib.crc32(queries.tobytes(), zlib.crc32(keys.tobytes()))
        for part, chosen in (("tune", queries[:half]), ("measure", queries[half:])):
            np.save(folder / f"{part}.npy", chosen)
            np.save(folder / f"{part}.best.npy", best_scores(keys, chosen, K))
        sizes = {"cells": len(keys), "features": keys.shape[1], "queries": [half, len(queries) - half]}
        described.write_text(json.dumps({"name": name, **sizes, **about, "checksum": f"{checksum:08x}"}))
    return DataSet(folder, json.loads(described.read_text()))


def of_model(model: Path, questions: Path) -> tuple[Floats, Floats, dict[str, Any]]:
    """(a) The memory of a model trained on SimpleQuestions, asked held-out questions."""
    import torch

    from hmn.facts.questions import QuestionSet
    from hmn.qa.factoid_qa import FactoidQA
    from hmn.qa.text import Texts

    qa = FactoidQA.from_pretrained(model)
    asked = QuestionSet.read(questions, qa.facts)
    chosen = np.random.default_rng(0).permutation(len(asked.text))[:QUERIES]
    network, parts = qa.network.eval(), []
    with torch.no_grad():
        for part in np.array_split(chosen, max(1, len(chosen) // 64)):
            texts = Texts([asked.text[number] for number in part], qa.config.feature_bits, qa.cells.splitting)
            parts.append(network.input_module(texts.word_bags(np.arange(len(texts)))).numpy())
    keys = qa.memory.snapshot().float().contiguous().numpy()
    about = {
        "title": "main job's model",
        "about": "Keys of the main job's model trained on SimpleQuestions (make bench-qa), "
        "queries from valid.tsv, chosen at random",
        "seed": 0,
    }
    return keys, np.ascontiguousarray(np.concatenate(parts)), about


def generated(
    cells: int, features: int, clusters: int, queries: int, seed: int
) -> tuple[Floats, Floats, dict[str, Any]]:
    """(b) Clustered keys whose norms vary by a factor of 10, and queries from another distribution."""
    random = np.random.default_rng(seed)
    centre = _unit(random.standard_normal((clusters, features), dtype=np.float32))
    share = random.lognormal(0, 1, clusters)
    width = random.uniform(0.4, 1.2, clusters).astype(np.float32)
    member = random.choice(clusters, cells, p=share / share.sum())
    keys = np.empty((cells, features), dtype=np.float32)
    for start in range(0, cells, BLOCK):
        cluster = member[start : start + BLOCK]
        noise = random.standard_normal((len(cluster), features), dtype=np.float32)
        norm = np.exp(random.uniform(0, np.log(10), (len(cluster), 1))).astype(np.float32)
        direction = _unit(centre[cluster] + width[cluster, None] * noise / np.float32(features**0.5))
        keys[start : start + BLOCK] = direction * norm
    # a query lies between two cells, off both, with a norm of its own
    first, second = random.integers(0, cells, (2, queries))
    weight = random.uniform(0.5, 1, (queries, 1)).astype(np.float32)
    noise = random.standard_normal((queries, features), dtype=np.float32) / np.float32(2 * features**0.5)
    asked = _unit(weight * _unit(keys[first]) + (1 - weight) * _unit(keys[second]) + noise)
    asked *= random.lognormal(0, 0.5, (queries, 1)).astype(np.float32)
    about = {
        "title": "generated",
        "about": f"{clusters:,} Gaussian clusters of log-normal size on the sphere, widths 0.4 to "
        "1.2 of a centre's length, norms log-uniform in 1 to 10; queries: between two cells' directions "
        "(weights 0.5 to 1), noise of half their length, log-normal norms",
        "seed": seed,
    }
    return keys, asked, about


def _unit(rows: Floats) -> Floats:
    length: Floats = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / length


MAKERS: dict[str, Callable[[Path, Path], tuple[Floats, Floats, dict[str, Any]]]] = {
    "a": of_model,
    "b": lambda _model, _questions: generated(1_000_000, 128, 2_000, QUERIES, seed=0),
    "middle": lambda _model, _questions: generated(20_000, 64, 200, 2048, seed=0),
    "small": lambda _model, _questions: generated(2_000, 16, 40, 512, seed=0),
}
"""Makers of the data sets, by name."""
