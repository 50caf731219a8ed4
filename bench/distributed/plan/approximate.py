"""Approximate search over independent shards: recall at equal reads per query."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
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
SHARED = "the same clusters"
"""Clusters of all cells, which every shard has; which of them to enter is decided once per query."""


def measure(*, small: bool = False) -> dict[str, Any]:
    """Recall of each number of shards at several limits of reads; settings are chosen on other queries."""
    made = make(CELLS // 10 if small else CELLS, QUERIES)
    cells = len(made.keys)
    rows, usual = [], []
    for ranks in RANKS:
        plain = [ClusterIndex(num_probes=USUAL // ranks) for _ in range(ranks)]
        _build(plain, made.keys)
        usual.append({"ranks": ranks, **_figures(merged(plain, made.half(1)[0], cells), made, 1)})
        for structure in ("cluster", "hierarchy"):
            shards = [_index(structure, cells // ranks) for _ in range(ranks)]
            _build(shards, made.keys)
            rows += _chosen(structure, shards, made, partial(merged, shards, cells=cells))
    whole = _index("cluster", cells)
    whole.build(made.keys)
    for ranks in RANKS:
        shards = _filed_alike(whole, cells, ranks)
        rows += _chosen(SHARED, [whole, *shards], made, partial(_routed, whole, shards))
    return {"cells": cells, "queries": QUERIES, "rows": rows, "usual": usual}


def _index(structure: str, cells: int) -> Any:
    """An index for a shard: clusters in two levels, or the hierarchy."""
    if structure == "hierarchy":
        return HierarchicalIndex()
    narrow = max(1, cells // CLUSTERS)
    return ClusterIndex((max(1, round(narrow**0.5)), narrow), (1, 1))


def _build(shards: Sequence[Any], keys: Tensor) -> None:
    for index, part in zip(shards, torch.tensor_split(keys, len(shards)), strict=True):
        index.build(part)


def _filed_alike(whole: Any, cells: int, ranks: int) -> list[Any]:
    """Shards with the clusters of the whole, each without the cells of the others."""
    shards = []
    for own in torch.tensor_split(torch.arange(cells), ranks):
        shards.append(copy.deepcopy(whole))
        others = torch.ones(cells, dtype=torch.bool)
        others[own] = False
        shards[-1].remove(others.nonzero().flatten())
    return shards


def _routed(whole: Any, shards: Sequence[Any], query: Tensor) -> SearchResult:
    """The best cells of shards with the same clusters; reads as if clusters were chosen once for all.

    Together the shards enter the same cells as the whole, and score others in full.
    """
    found, once = merged(shards, query, None), whole.search(query, K)
    reads = once.reads - once.cells_scored + found.cells_scored
    return found._replace(reads=reads.float())


def _chosen(
    structure: str, indexes: Sequence[Any], made: Made, search: Callable[[Tensor], SearchResult]
) -> list[dict[str, Any]]:
    """For each limit of reads, the setting of highest recall on the first half, measured on the second."""
    ranks = len(indexes) - (structure == SHARED)
    hierarchy = structure == "hierarchy"

    def tried(effort: int, rescore: int, half: int) -> dict[str, float]:
        for index in indexes:
            index.effort, index.rescore = min(effort, index.max_effort), rescore
        return _figures(search(made.half(half)[0]), made, half)

    settings = product(*((REACHES, RESCORED_BITS) if hierarchy else (PROBES, RESCORED)))
    found = [(tried(effort, rescore, 0), effort, rescore) for effort, rescore in settings]
    rows = []
    for budget in BUDGETS:
        within = [one for one in found if one[0]["reads"] <= budget]
        if within:
            _, effort, rescore = max(within, key=lambda one: one[0]["recall"])
            row = {"structure": structure, "ranks": ranks, "budget": budget}
            rows.append({**row, "effort": effort, "rescore": rescore, **tried(effort, rescore, 1)})
    return rows


def _figures(found: SearchResult, made: Made, half: int) -> dict[str, float]:
    """Recall and reads of what was found for one half of the queries."""
    return {"recall": recall_at_k(found, made.half(half)[1]), "reads": float(found.reads.mean())}


def merged(shards: Sequence[Index], query: Tensor, cells: int | None) -> SearchResult:
    """The best cells of all shards, as ``ShardedIndex`` merges them.

    Args:
        shards: an index each.
        query: ``(B, D)``.
        cells: number of cells, of which each shard numbers an equal part from 0; None if they have their own
            numbers.
    """
    found = [index.search(query, K) for index in shards]
    first = [0] * len(shards)
    if cells is not None:
        first = [int(part[0]) for part in torch.tensor_split(torch.arange(cells), len(shards))]
    cell = [torch.where(one.cell < 0, -1, one.cell + start) for one, start in zip(found, first, strict=True)]
    best = _best(torch.cat([one.score for one in found], dim=1), torch.cat(cell, dim=1), K)
    reads, scored = (torch.stack(part).sum(dim=0) for part in list(zip(*found, strict=True))[2:])
    return SearchResult(*best, reads, scored)
