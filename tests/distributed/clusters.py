"""What the tests of clusters that all ranks share run in several processes."""

from __future__ import annotations

from typing import Any

import torch
from tests.distributed.processes import D, K, Tensors, counts, queries, raised, sharded, tensors
from torch import Tensor

from hmn.distributed import Ranks, ShardedMemory
from hmn.index import make_index
from hmn.index.watch import watching
from hmn.nn import KMIPSReader, Memory

SHARED = {
    "in full": "cluster:num_clusters=24,num_probes=3,codes=none",
    "coded": "cluster:num_clusters=24,num_probes=5,codes=int8,rescore=203",
    "levels": "cluster:num_clusters=6x24,num_probes=3x5,codes=int4,rescore=203",
    "reduced": "cluster:num_clusters=12,num_probes=4,codes=int8,rescore=203,reduction=one-column",
    "as many as cells": "cluster:num_clusters=300,num_probes=20,codes=int8,rescore=203",
}
"""Indexes whose results do not depend on how cells are shared out: all cells that are entered are scored."""
USUAL = "cluster:num_clusters=24,num_probes=12"
"""An index that scores as many cells in full as it usually does."""
FEW = "cluster:num_clusters=24,num_probes=24,rescore=20"
"""An index that scores no more cells in full than it finds."""
REPLACED = "cluster:num_clusters=9,num_probes=3,codes=int8,rescore=203"
"""An index that takes the place of another."""
MANY = 100
"""More results than the clusters entered hold."""


def clusters(rank: int, size: int, ranks: Ranks) -> dict[str, Any]:
    """Searches, and those of one index of all cells with the same clusters."""
    data, sizes = tensors(), counts(size)
    got: dict[str, Any] = {}
    for name, text in SHARED.items():
        got[name] = beside_one(sharded(data, sizes, ranks, text), data, size, rank, text)
    text = SHARED["in full"]
    got["usual"] = beside_one(sharded(data, sizes, ranks, USUAL), data, size, rank, USUAL)
    longer = torch.ones(len(data.keys), 1)
    longer[: sizes[0]] = 3
    long = data._replace(keys=data.keys * longer)
    got["long"] = beside_one(sharded(long, sizes, ranks, FEW), long, size, rank, FEW, 20)
    memory = sharded(data, sizes, ranks, text)
    got["filled"] = beside_one(memory, data, size, rank, text, MANY)
    memory.index.fills = False  # type: ignore[attr-defined]
    got["not filled"] = beside_one(memory, data, size, rank, text, MANY, fills=False)
    memory = sharded(data, sizes, ranks, text)
    memory.search(queries(data.query, size, rank), K)
    with torch.no_grad():
        memory.memory.shard.keys[:2] *= -3
    got["moved"] = beside_one(memory, _moved(data, sizes), size, rank, text)
    got["moved"]["counted"] = {"own": memory.index.levels.leaves.level.length, "all": memory.shared._held[-1]}  # type: ignore
    got["states"] = _states(memory, ranks, text)
    got["made again"] = _made_again(rank, size, ranks)
    got["bytes"] = _bytes(rank, size, ranks)
    held = [int(number < 3) for number in range(size)]
    few = tensors(sum(held))
    memory = sharded(few, held, ranks, text)
    got["few"] = memory.search(queries(few.query, size, rank), K)._asdict()
    got["none"] = ShardedMemory(Memory(few.keys[:0]), text, ranks=ranks).search(few.query, K)._asdict()
    got |= _changed(rank, size, ranks)
    got["errors"] = {
        "seed": raised(
            lambda: sharded(data, sizes, ranks, f"cluster:seed={rank}").search(torch.ones(1, D), K)
        ),
        "kind": raised(lambda: sharded(data, sizes, ranks, "cluster" if rank else "exact")),
        "nan": raised(lambda: _not_numbers(data, sizes, ranks)),
        "places": raised(lambda: sharded(data, sizes, ranks, text).search(torch.ones(1 << 20, D), 1 << 10)),
        "afterwards": raised(lambda: sharded(data, sizes, ranks, text).search(torch.ones(1, D), K)),
    }
    return got


def beside_one(
    memory: ShardedMemory, data: Tensors, size: int, rank: int, text: str, k: int = K, *, fills: bool = True
) -> dict[str, Any]:
    """A search, that of one index of all cells with the same clusters, and the clusters."""
    query = queries(data.query, size, rank)
    found = memory.search(query, k)._asdict()
    whole: Any = make_index(text)
    whole.given, whole.fills = memory.index.given, fills  # type: ignore[attr-defined]
    whole.build(data.keys)
    return {"found": found, "wanted": whole.search(query, k)._asdict(), "centroid": centroid(memory)}


def centroid(memory: ShardedMemory) -> Tensor:
    found: Tensor = memory.index.levels.clusters.centroid  # type: ignore[attr-defined]
    return found


def _moved(data: Tensors, sizes: list[int]) -> Tensors:
    """The cells of all ranks after each has moved its first two."""
    keys, first = data.keys.clone(), 0
    for count in sizes:
        keys[first : first + min(2, count)] *= -3
        first += count
    return data._replace(keys=keys)


def _states(memory: ShardedMemory, ranks: Ranks, text: str) -> dict[str, Any]:
    """Clusters after each rank has loaded its index, and after rank 0 alone has."""
    before, state = centroid(memory), memory.index.state_dict()
    got: dict[str, Any] = {"before": before}
    for name, loads in {"every": True, "first": ranks.rank == 0}.items():
        keys = memory.memory.shard.keys.detach().clone()
        other = ShardedMemory(Memory(keys), f"{text},seed=9", ranks=ranks)
        if loads:
            other.load_index(state)
        other.search(torch.ones(1, D), K)
        got[name] = centroid(other)
    return got


def _made_again(rank: int, size: int, ranks: Ranks) -> dict[str, Any]:
    """Clusters before and after rank 0 has moved all of its cells."""
    data, sizes, text = tensors(), counts(size), SHARED["in full"]
    memory = sharded(data, sizes, ranks, text)
    memory.search(queries(data.query, size, rank), K)
    before = centroid(memory)
    if not rank:
        with torch.no_grad():
            memory.memory.shard.keys.copy_(memory.memory.shard.keys.flip(1) - 5)
    moved = data.keys.clone()
    moved[: sizes[0]] = moved[: sizes[0]].flip(1) - 5
    return {"before": before, **beside_one(memory, data._replace(keys=moved), size, rank, text)}


def _bytes(rank: int, size: int, ranks: Ranks) -> list[int]:
    """Bytes that a rank sends for its second search, for two numbers of cells."""
    sent = []
    for num_cells in (203, 2030):
        sizes = [count * num_cells // 203 for count in counts(size)]
        data = tensors(num_cells)
        memory = sharded(data, sizes, ranks, SHARED["coded"])
        query = queries(data.query, size, rank)
        memory.search(query, K)
        before = ranks.bytes_sent
        memory.search(query, K)
        sent.append(ranks.bytes_sent - before)
    return sent


def _not_numbers(data: Tensors, sizes: list[int], ranks: Ranks) -> None:
    """The first search of a memory in which a key of rank 0 has become NaN."""
    memory = sharded(data, sizes, ranks, SHARED["coded"])
    if not ranks.rank:
        with torch.no_grad():
            memory.memory.shard.keys[0] = torch.nan
    memory.search(torch.ones(1, D), K)


def _changed(rank: int, size: int, ranks: Ranks) -> dict[str, Any]:
    """Searches and draws after settings, indexes and cells have changed."""
    data, sizes, text = tensors(), counts(size), SHARED["coded"]
    query, got = queries(data.query, size, rank), {}
    memory = sharded(data, sizes, ranks, text)
    memory.search(query, K)
    memory.index.effort = 5 + rank  # type: ignore[attr-defined]
    got["further"] = beside_one(memory, data, size, rank, text.replace("=5", f"={5 + rank}"))
    memory.indexed.index = make_index(REPLACED)
    got["replaced"] = beside_one(memory, data, size, rank, REPLACED)
    before = centroid(memory)
    with torch.no_grad():
        memory.memory.shard.keys.copy_(memory.memory.shard.keys.flip(1) - 5)
    memory.rebuild()
    reader, nothing = KMIPSReader(memory, K, "top-k:2"), torch.empty(0, dtype=torch.int64)
    reader.candidates(query[:1], nothing, torch.Generator())
    got["drawn"] = {"before": before, "after": centroid(memory)}
    with watching() as seen:
        memory.search(query, K)
    got["seen"] = [len(seen), len(seen[0].tiers)]
    got["bytes of moves"] = _bytes_of_moves(rank, size, ranks)
    return got


def _bytes_of_moves(rank: int, size: int, ranks: Ranks) -> list[int]:
    """Bytes of a search after a cell of rank 0 has moved, those of the next, and clusters that changed."""
    data, sizes, text = tensors(), counts(size), SHARED["coded"]
    memory, query = sharded(data, sizes, ranks, text), queries(data.query, size, rank)
    memory.search(query, K)
    lengths: Any = memory.index.levels.leaves.level.length.clone()  # type: ignore[attr-defined]
    if not rank:
        with torch.no_grad():
            memory.memory.shard.keys[0] *= -1
    sent = [ranks.bytes_sent]
    for _ in range(2):
        memory.search(query, K)
        sent.append(ranks.bytes_sent)
    changed = int((memory.index.levels.leaves.level.length != lengths).sum())  # type: ignore[attr-defined]
    return [sent[1] - sent[0], sent[2] - sent[1], changed]
