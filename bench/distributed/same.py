"""One memory over 1, 2 and 4 processes: the same results, the bytes that travel, and the memory of each."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bench.clusters import index_of
from bench.distributed.plan.model import gradient_bytes, header_bytes, read_bytes, search_bytes
from bench.distributed.processes import TIMEOUT, Resident, run
from hmn.distributed import Ranks, ShardedMemory
from hmn.nn import KMIPSAttention, Memory

RANKS = (1, 2, 4)
"""Numbers of processes."""
CELLS, FEATURES, K, QUERIES, STEPS = 100_000, 64, 32, 64, 3
"""Size of the memory that is trained, cells per query, queries of all ranks per step, and steps."""
LARGE, LARGE_FEATURES = 400_000, 128
"""Size of the memory whose resident bytes are measured."""
INDEXES = ("hierarchy", "cluster")
"""Search structures of that memory."""


def measure(*, small: bool = False) -> dict[str, Any]:
    """All figures; a tenth of the cells if it is small."""
    share = 10 if small else 1
    cells, large = CELLS // share, LARGE // share
    trained = {size: run(_trained, size, cells) for size in RANKS}
    wanted = _joined(trained[1])
    return {
        "cells": cells,
        "features": FEATURES,
        "k": K,
        "queries": QUERIES,
        "steps": STEPS,
        "compared": [
            {"ranks": size, **compared(wanted, _joined(got), cells)} for size, got in trained.items()
        ],
        "ties": [{"ranks": size, **_ties(got, cells)} for size, got in trained.items()],
        "bytes": [
            {"ranks": size, "cells": number, **_bytes([part["bytes"][number] for part in got])}
            for size, got in trained.items()
            for number in (cells // 10, cells)
        ],
        "memory": {
            "cells": large,
            "features": LARGE_FEATURES,
            "rows": [row for index in INDEXES for row in _memory(large, index)],
        },
    }


def tensors(cells: int, *, whole: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values ``(N, D)`` of all ranks, and queries ``(Q, D)``; whole numbers have many ties."""
    generator = torch.Generator().manual_seed(cells)
    drawn = [torch.randn(rows, FEATURES, generator=generator) for rows in (cells, cells, QUERIES)]
    if whole:
        drawn = [part.round() for part in drawn]
    else:
        drawn[2] /= FEATURES**0.5  # as in attention: the weights of a read differ by less than rounding shows
    keys, values, query = drawn
    return keys, values, query


def _trained(rank: int, size: int, cells: int) -> dict[str, Any]:
    """What this rank finds among equal scores, its losses and gradients in training, and its bytes."""
    ranks = Ranks(timeout=TIMEOUT)

    def own(rows: Tensor) -> Tensor:
        return torch.tensor_split(rows, size)[rank].clone()

    keys, _, query = tensors(cells, whole=True)
    found = ShardedMemory(Memory(own(keys)), ranks=ranks).search(own(query), K)
    got: dict[str, Any] = {"ties": (found.score, found.cell), "steps": []}
    keys, values, query = tensors(cells)
    memory = ShardedMemory(Memory(own(keys), own(values), trainable=True), ranks=ranks)
    attention = KMIPSAttention(memory, K)
    sgd = torch.optim.SGD(attention.parameters(), lr=0.05)
    attention.follow(sgd)
    for _ in range(STEPS):
        with ranks.together():
            sgd.zero_grad()
            read = attention(own(query))
            loss = read.value.square().sum()
            loss.backward()
            step: dict[str, Any] = {"loss": loss.detach(), "score": read.score.detach(), "cell": read.cell}
            for name in ("keys", "values"):
                gradient = getattr(memory.memory, name).grad.coalesce()
                rows = gradient.indices()[0] + memory.memory.shards.first[rank]
                step[name] = (rows, gradient.values())
            got["steps"].append(step)
            sgd.step()
    got["bytes"] = {number: _sent(number, rank, size, ranks) for number in (cells // 10, cells)}
    return got


def _sent(cells: int, rank: int, size: int, ranks: Ranks) -> dict[str, Any]:
    """Bytes that this rank sends for a search, for reading what it found, and for the gradients."""
    keys, values, query = (torch.tensor_split(rows, size)[rank].clone() for rows in tensors(cells))
    memory = ShardedMemory(Memory(keys, values, trainable=True), ranks=ranks)
    sent = [ranks.bytes_sent]
    found = memory.search(query, K)
    sent.append(ranks.bytes_sent)
    parts = memory.memory.rows_of(found.cell)
    sent.append(ranks.bytes_sent)
    sum(part.sum() for part in parts).backward()  # type: ignore[union-attr]
    sent.append(ranks.bytes_sent)
    fetched = int((memory.memory.shards.owner(torch.unique(found.cell)) != rank).sum())
    return {"sent": [after - before for before, after in pairwise(sent)], "fetched": fetched}


def _joined(parts: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
    """Losses, cells and scores of all ranks in each step, and dense gradients of all cells."""
    joined = []
    for steps in zip(*(part["steps"] for part in parts), strict=True):
        step = {name: torch.cat([part[name] for part in steps]) for name in ("score", "cell")}
        step["loss"] = torch.stack([part["loss"] for part in steps]).double().sum()
        for name in ("keys", "values"):
            step[f"{name} rows"] = torch.cat([part[name][0] for part in steps])
            step[name] = torch.cat([part[name][1] for part in steps])
        joined.append(step)
    return joined


def compared(wanted: list[dict[str, Tensor]], got: list[dict[str, Tensor]], cells: int) -> dict[str, Any]:
    """Whether all steps read the same cells, and the largest relative difference of each kind of number.

    Gradients differ by the length of the difference of a cell's gradient; see ``relative``.
    """
    pairs = list(zip(wanted, got, strict=True))

    def dense(step: dict[str, Tensor], name: str) -> Tensor:
        rows = step[name]
        return torch.zeros(cells, rows.shape[1]).index_add_(0, step[f"{name} rows"], rows)

    def largest(name: str) -> float:
        if name in ("keys", "values"):
            parts = [(dense(one, name), dense(other, name)) for one, other in pairs]
        else:
            parts = [(one[name].unsqueeze(-1), other[name].unsqueeze(-1)) for one, other in pairs]
        return max(relative(one, other) for one, other in parts)

    return {
        "cells_equal": all(torch.equal(one["cell"], other["cell"]) for one, other in pairs),
        **{name: largest(name) for name in ("score", "loss", "keys", "values")},
    }


def relative(one: Tensor, other: Tensor) -> float:
    """The largest length of the difference of two rows ``(..., F)``, as a share of the first one's length.

    Rows shorter than the mean count as long as that: what is left where large numbers cancel is rounding.
    """
    apart = torch.linalg.vector_norm(one.double() - other.double(), dim=-1)
    length = torch.linalg.vector_norm(one.double(), dim=-1)
    used = length[length > 0]
    return float((apart / length.clamp(min=float(used.mean()) if len(used) else 1.0)).max())


def _ties(parts: list[dict[str, Any]], cells: int) -> dict[str, Any]:
    """Whether scores and cells are those of sorting all scores, equal ones by id; and how many are equal."""
    keys, _, query = tensors(cells, whole=True)
    score, cell = (query @ keys.T).sort(dim=1, descending=True, stable=True)
    got_score, got_cell = (torch.cat([part["ties"][place] for part in parts]) for place in (0, 1))
    return {
        "equal": torch.equal(got_score, score[:, :K]) and torch.equal(got_cell, cell[:, :K]),
        "tied": int((score[:, :K].diff(dim=1) == 0).sum()),
        "tied_at_end": int((score[:, K - 1] == score[:, K]).sum()),
    }


def _bytes(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Bytes that all ranks have sent, and by the formula."""
    size, fetched = len(parts), sum(part["fetched"] for part in parts)
    wanted = [
        QUERIES * search_bytes(size, FEATURES, K) + 2 * header_bytes(size),
        fetched * read_bytes(FEATURES, FEATURES) + 2 * header_bytes(size),
        fetched * gradient_bytes(FEATURES, FEATURES) + header_bytes(size),
    ]
    sent = [sum(part["sent"][place] for part in parts) for place in range(3)]
    return {"sent": sent, "formula": wanted, "fetched": fetched, "per_query": sent[0] / QUERIES}


def _memory(cells: int, index: str) -> list[dict[str, Any]]:
    """Bytes of the rank that has most, for each number of ranks, and as a share of those of one rank."""
    rows: list[dict[str, Any]] = []
    for size in RANKS:
        got = run(_resident, size, cells, index)
        row = {name: max(part[name] for part in got) for name in ("now", "peak")}
        shares = {f"{name}_share": row[name] / (rows[0][name] if rows else row[name]) for name in row}
        rows.append({"index": index, "ranks": size, **row, **shares})
    return rows


def _resident(rank: int, size: int, cells: int, index: str) -> dict[str, int]:
    """Bytes of this rank's keys, values and index, beyond those of the process without cells."""
    ranks = Ranks(timeout=TIMEOUT)
    _filled(1_000, index, ranks)  # what the libraries take belongs to no cell
    resident = Resident()
    memory = _filled(len(torch.tensor_split(torch.arange(cells), size)[rank]), index, ranks)
    found = {"now": resident.now(), "peak": resident.peak()}
    return found if len(memory) == cells else {}


def _filled(cells: int, index: str, ranks: Ranks) -> ShardedMemory:
    """A memory with this number of cells per rank, which was searched once."""
    generator = torch.Generator().manual_seed(ranks.rank)
    keys, values = (torch.empty(cells, LARGE_FEATURES).normal_(generator=generator) for _ in range(2))
    text = index_of(ranks.size * cells) if index == "cluster" else index
    memory = ShardedMemory(Memory(keys, values), text, ranks=ranks)
    memory.search(torch.randn(QUERIES // ranks.size, LARGE_FEATURES, generator=generator), K)
    return memory
