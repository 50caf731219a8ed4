"""Follows a runbook with one system after the other, and judges every search by exact search."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.index.data import DataSet, K
from bench.index.score import Scores, best_scores, recalls
from bench.index.streaming.rows import ROWS
from bench.index.streaming.runbook import Runbook, clustered, sliding_window
from bench.index.systems.base import Floats, Ids
from bench.index.worker import Child
from hmn.index.clustering.kmeans import assign, kmeans

QUERIES = 512
"""Queries of each search."""
PARTS = 100
"""Inserts of the sliding window."""
CLUSTERS = 16
"""Clusters that are inserted and deleted one by one."""
ROUNDS = 3
"""Rounds in which every cluster gets rows and loses rows."""
SEED = 0
"""Seed of the clusters and of the draws."""
PATIENCE = 5.0
"""Seconds for one search after which an effort, and those above it, are given up."""
KINDS = ("sliding", "clustered")
"""Runbooks that can be made for any data set."""


@dataclass(frozen=True)
class Course:
    """A runbook with its data, on disk.

    Attributes:
        folder: holds ``keys.npy`` (N, D) in the order of the runbook, ``queries.npy`` (Q, D), the runbook as
            YAML, and ``best.npy`` (S, Q, 10), the best scores at each of its S searches.
        runbook: the runbook.
    """

    folder: Path
    runbook: Runbook

    @property
    def keys(self) -> Floats:
        """Keys ``(N, D)``, memory-mapped."""
        keys: Floats = np.load(self.folder / "keys.npy", mmap_mode="r")
        return keys

    @property
    def queries(self) -> Floats:
        """Queries ``(Q, D)``."""
        queries: Floats = np.load(self.folder / "queries.npy")
        return queries


def prepare(data: DataSet, kind: str, work: Path, parts: int = PARTS) -> Course:
    """Make a runbook of a kind for a data set, with the results of exact search; kept in ``work``."""
    folder = work / f"{data.about['name']}-{kind}"
    keys = np.array(data.keys)
    if kind == "sliding":
        runbook = sliding_window(data.about["name"], len(keys), parts)
    else:
        order, sizes = by_cluster(keys)
        keys, runbook = keys[order], clustered(data.about["name"], sizes, ROUNDS, SEED)
    course = Course(folder, runbook)
    folder.mkdir(parents=True, exist_ok=True)
    runbook.write(folder / "runbook.yaml")
    key = {"data": data.about["checksum"], "queries": QUERIES}
    key |= {"runbook": zlib.crc32((folder / "runbook.yaml").read_bytes())}
    made = folder / "made.json"
    if not made.exists() or json.loads(made.read_text()) != key:
        queries = data.queries("measure")[:QUERIES]
        np.save(folder / "keys.npy", keys)
        np.save(folder / "queries.npy", queries)
        best = [best_scores(keys[present], queries, K) for _, present in searches(runbook)]
        np.save(folder / "best.npy", np.stack([_filled(scores) for scores in best]))
        made.write_text(json.dumps(key))
    return course


def by_cluster(keys: Floats) -> tuple[Ids, list[int]]:
    """An order of the rows in which clusters are next to each other, and the size of each that has rows."""
    points = torch.from_numpy(keys)
    centroids = kmeans(points, CLUSTERS, generator=torch.Generator().manual_seed(SEED))
    cluster = assign(points, centroids)[0].numpy()
    order: Ids = np.argsort(cluster, kind="stable")
    sizes = np.bincount(cluster, minlength=CLUSTERS)
    return order, [int(size) for size in sizes if size]


def searches(runbook: Runbook) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """The number of each search step, with the rows that are in ``(N,)``; the array changes afterwards."""
    present = np.zeros(runbook.rows, dtype=bool)
    for number, step in enumerate(runbook.steps):
        if step.operation == "search":
            yield number, present
        else:
            present[step.start : step.end] = step.operation == "insert"


def _filled(scores: Scores) -> Scores:
    """Scores ``(Q, 10)``: with fewer than 10 rows, the last of them again, which any of them reaches."""
    return np.pad(scores, ((0, 0), (0, K - scores.shape[1])), mode="edge")


def follow(row: str, course: Course, threads: int) -> dict[str, Any]:
    """Figures of one system over a whole runbook.

    Raises:
        ChildError: the system failed.
        PackageMissingError: its package is not installed.
    """
    runbook, keys, queries = course.runbook, course.keys, course.queries
    best: Scores = np.load(course.folder / "best.npy")
    rows = runbook.rows if ROWS[row].keeps_deleted else runbook.most
    child = Child("bench.index.streaming.stream:Stream", row, course.folder, rows, threads)
    changed = {"insert": 0, "delete": 0}
    seconds = {"insert": 0.0, "delete": 0.0}
    present = np.zeros(runbook.rows, dtype=bool)
    search = 0
    try:
        efforts: tuple[int, ...] = child.call("efforts")
        recall: dict[int, list[float]] = {effort: [] for effort in efforts}
        spent = dict.fromkeys(efforts, 0.0)
        for step in runbook.steps:
            if step.operation != "search":
                seconds[step.operation] += child.call(step.operation, step.start, step.end)
                changed[step.operation] += step.end - step.start
                present[step.start : step.end] = step.operation == "insert"
                continue
            for number, effort in enumerate(efforts):
                taken, found = child.call("search", effort)
                spent[effort] += taken
                recall[effort].append(judged(keys, queries, found, present, best[search]))
                if taken > PATIENCE:
                    efforts = efforts[: max(1, number)]
                    break
            search += 1
    finally:
        child.close()
    points = [
        {
            "effort": effort,
            "recall": float(np.mean(recall[effort])),
            "least_recall": min(recall[effort]),
            "speed": search * len(queries) / spent[effort],
        }
        for effort in efforts
    ]
    speed = {step: changed[step] / taken if taken else None for step, taken in seconds.items()}
    return {"points": points, "inserts": speed["insert"], "deletes": speed["delete"], "searches": search}


def judged(keys: Floats, queries: Floats, found: Ids, present: NDArray[np.bool_], best: Scores) -> float:
    """Mean recall@10 of one search; rows that are not in count nothing."""
    there = (found >= 0) & (found < len(present))
    there &= present[np.where(there, found, 0)]
    return float(recalls(keys, queries, np.where(there, found, -1), best).mean())
