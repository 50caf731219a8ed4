"""Approximate search over independent shards: recall at equal reads per query."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from bench.distributed.plan.data import K, Made, make
from hmn.distributed.sharded_index import _best
from hmn.index.protocol import Index
from hmn.index.structures.cluster import ClusterIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.tuning import recall_at_k
from hmn.results import SearchResult

CELLS, QUERIES = 200_000, 2_048
"""Cells, and queries: half to choose settings, half to measure."""
RANKS = (1, 2, 4)
"""Numbers of shards."""
BUDGETS = (300, 400, 600, 800, 1_200)
"""Limits of reads per query, of all shards together."""
CLUSTERS, PROBES = 64, (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Cells per cluster, and clusters entered in each shard."""
REACHES = (25, 30, 35, 40, 45, 50, 60, 70, 85, 100)
"""Values of ``reach`` of the hierarchy."""
RESCORED = (10, 14, 18, 24, 36)
"""Cells scored in full per shard, for clusters, whose cells have codes of 4 bits."""
RESCORED_BITS = (24, 36, 48, 72, 144)
"""The same for the hierarchy, whose cells have codes of one bit."""
USUAL = 16
"""Clusters entered by default; they are divided among the shards where settings are left as they are."""


def measure(*, small: bool = False) -> dict[str, Any]:
    """Recall of each number of shards at several limits of reads; settings are chosen on other queries."""
    made = make(CELLS // 10 if small else CELLS, QUERIES)
    rows, usual = [], []
    for ranks in RANKS:
        plain: list[Any] = [ClusterIndex(num_probes=USUAL // ranks) for _ in range(ranks)]
        _build(plain, made.keys)
        usual.append({"ranks": ranks, **_searched(plain, made, 1)})
        for structure in ("cluster", "hierarchy"):
            shards = _made(structure, len(made.keys) // ranks, ranks)
            _build(shards, made.keys)
            rows += _chosen(structure, shards, made)
    return {"cells": len(made.keys), "queries": QUERIES, "rows": rows, "usual": usual}


def _made(structure: str, cells: int, ranks: int) -> list[Any]:
    """An index for each shard: clusters in two levels, or the hierarchy."""
    if structure == "hierarchy":
        return [HierarchicalIndex() for _ in range(ranks)]
    narrow = max(1, cells // CLUSTERS)
    return [ClusterIndex((max(1, round(narrow**0.5)), narrow), (1, 1)) for _ in range(ranks)]


def _build(shards: list[Any], keys: Tensor) -> None:
    for index, part in zip(shards, torch.tensor_split(keys, len(shards)), strict=True):
        index.build(part)


def _chosen(structure: str, shards: list[Any], made: Made) -> list[dict[str, Any]]:
    """For each limit of reads, the setting of highest recall on the first half, measured on the second."""
    clusters = structure == "cluster"
    tried = []
    for effort, rescore in product(PROBES if clusters else REACHES, RESCORED if clusters else RESCORED_BITS):
        _set(shards, effort, rescore)
        tried.append((_searched(shards, made, 0), effort, rescore))
    rows = []
    for budget in BUDGETS:
        within = [one for one in tried if one[0]["reads"] <= budget]
        if not within:
            continue
        _, effort, rescore = max(within, key=lambda one: one[0]["recall"])
        _set(shards, effort, rescore)
        setting = {"structure": structure, "ranks": len(shards), "budget": budget}
        rows.append({**setting, "effort": effort, "rescore": rescore, **_searched(shards, made, 1)})
    return rows


def _set(shards: list[Any], effort: int, rescore: int) -> None:
    for index in shards:
        index.effort, index.rescore = min(effort, index.max_effort), rescore


def _searched(shards: Sequence[Index], made: Made, half: int) -> dict[str, float]:
    """Recall and reads of a search over all shards, on one half of the queries."""
    queries, best = made.half(half)
    found = merged(shards, queries, len(made.keys))
    return {"recall": recall_at_k(found, best), "reads": float(found.reads.mean())}


def merged(shards: Sequence[Index], query: Tensor, cells: int) -> SearchResult:
    """The best cells of all shards, which hold equal parts of the cells, as ``ShardedIndex`` merges them."""
    found = [index.search(query, K) for index in shards]
    first = [int(part[0]) for part in torch.tensor_split(torch.arange(cells), len(shards))]
    cell = [torch.where(one.cell < 0, -1, one.cell + start) for one, start in zip(found, first, strict=True)]
    best = _best(torch.cat([one.score for one in found], dim=1), torch.cat(cell, dim=1), K)
    reads, scored = (torch.stack(part).sum(dim=0) for part in list(zip(*found, strict=True))[2:])
    return SearchResult(*best, reads, scored)
