"""What it costs in recall to ask only some shards: those that a router of centroids names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.distributed.plan.data import Made, make
from hmn.index.clustering.kmeans import assign, kmeans, unit_rows

CELLS, QUERIES = 200_000, 2_048
"""Cells and queries; a tenth of the cells in a trial."""
SHARDS = (4, 16, 64)
"""Numbers of shards that are simulated."""
PARTS = 16
"""Clusters per shard, where a shard gets several."""
RECALLS = (0.9, 0.95, 0.99)
"""Recalls for which the number of shards is given."""


def measure(*, small: bool = False) -> dict[str, Any]:
    """Recall@10 by the number of shards asked, for each number of shards and each way to fill them."""
    made = make(CELLS // 10 if small else CELLS, QUERIES)
    rows = [row for shards in SHARDS for row in _ways(made, shards)]
    single = make(len(made.keys), QUERIES, clustered=False)
    unclustered = [_ways(single, shards)[-1] for shards in SHARDS]
    sizes = {"cells": len(made.keys), "queries": len(made.queries), "parts": PARTS}
    return {**sizes, "rows": rows, "unclustered": unclustered}


def _ways(made: Made, shards: int) -> list[dict[str, Any]]:
    """Cells filled into shards at random, by one cluster per shard, and by several of about equal sums."""
    generator = torch.Generator().manual_seed(0)
    random = torch.randperm(len(made.keys), generator=generator) % shards
    one, _ = _clusters(made.keys, shards, generator)
    many, centroid = _clusters(made.keys, shards * PARTS, generator)
    group = balanced(centroid, torch.bincount(many, minlength=len(centroid)), shards, generator)
    return [
        _row("at random", made, shards, random, random),
        _row("one cluster per shard", made, shards, one, one),
        _row(f"{PARTS} clusters per shard", made, shards, group[many], many),
    ]


def _row(name: str, made: Made, shards: int, shard: Tensor, part: Tensor) -> dict[str, Any]:
    """One way: recall if the best 1, 2, … shards are asked.

    Args:
        name: its name.
        made: keys and queries.
        shards: S.
        shard: shard ``(N,)`` of each cell.
        part: cluster ``(N,)`` of each cell, by which the router knows the shards; within one shard each.
    """
    order = route(made.queries, *directions(made.keys, shard, part), shards)  # (Q, S)
    place = order.argsort(dim=1)  # (Q, S): when each shard is asked
    asked = place.gather(1, shard[made.best.cell])  # (Q, K): when each of the best cells is found
    recall = [float((asked < count).double().mean()) for count in range(1, shards + 1)]
    sizes = torch.bincount(shard, minlength=shards)
    # cells that are looked at, and not shards: a large shard is asked more often
    cells = sizes[order].double().cumsum(1).mean(0) / len(shard)
    return {
        "way": name,
        "shards": shards,
        "largest": float(sizes.max() / sizes.double().mean()),
        "recall": recall,
        "cells": cells.tolist(),
    }


def needed(row: dict[str, Any], recall: float) -> int:
    """Number of shards to ask for a recall."""
    return next(count for count, got in enumerate(row["recall"], 1) if got >= recall)


def directions(keys: Tensor, shard: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    """What the router knows: vectors ``(C, D)`` of the parts, and the shard ``(C,)`` of each.

    As in ``ClusterIndex``, long keys count more: the length of a vector is the mean length of its keys,
    weighted by these lengths.
    """
    count = int(part.max()) + 1
    length = torch.linalg.vector_norm(keys, dim=1)  # (N,)
    mean = torch.zeros(count, keys.shape[1]).index_add_(0, part, unit_rows(keys))
    total, squares = (torch.zeros(count).index_add_(0, part, each) for each in (length, length**2))
    owner = torch.zeros(count, dtype=torch.int64)
    owner[part] = shard
    return unit_rows(mean) * (squares / total.clamp(min=1e-9)).unsqueeze(1), owner


def route(query: Tensor, direction: Tensor, owner: Tensor, shards: int) -> Tensor:
    """The shards ``(Q, S)`` in the order in which each query asks them: by their best part."""
    score = query @ direction.T  # (Q, C)
    best = torch.full((len(query), shards), -torch.inf)
    best = best.scatter_reduce(1, owner.expand(len(query), -1), score, "amax")
    return best.argsort(dim=1, descending=True)


def balanced(centroid: Tensor, size: Tensor, shards: int, generator: torch.Generator) -> Tensor:
    """Shards ``(C,)`` of clusters: those that are near each other together, of about equal sums of sizes.

    Large clusters choose first, each the nearest shard that still has room for it.
    """
    centre = kmeans(centroid, shards, generator=generator)
    preferred = (centroid @ centre.T).argsort(dim=1, descending=True).tolist()
    room = [1.1 * float(size.sum()) / shards] * shards
    group = torch.empty(len(centroid), dtype=torch.int64)
    for number in size.argsort(descending=True).tolist():
        fits = [shard for shard in preferred[number] if room[shard] >= float(size[number])]
        chosen = fits[0] if fits else max(range(shards), key=room.__getitem__)
        room[chosen] -= float(size[number])
        group[number] = chosen
    return group


def _clusters(keys: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The cluster ``(N,)`` of each key, numbered without gaps, and the centroids ``(C, D)``."""
    centroid = kmeans(keys, count, generator=generator)
    used, cluster = torch.unique(assign(unit_rows(keys), centroid)[0], return_inverse=True)
    return cluster, centroid[used]
