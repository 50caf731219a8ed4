"""Layers and networks over ranks: what each rank runs, and the one process that it is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from tests.distributed.processes import (
    RATE,
    STEPS,
    D,
    K,
    counts,
    queries,
    raised,
    share,
    tensors,
)
from torch import Tensor, nn

from hmn.distributed import Ranks, ShardedMemory, keep_shards, sum_gradients
from hmn.nn import EncodedMemory, IndexedMemory, KMIPSAttention, Memory

FEATURES, KINDS = 4, 9
"""Features of what an encoder encodes, and kinds of cells."""


class Encoder(nn.Module):
    """Keys from features and kinds of cells: with weights that have dense gradients, and a sparse table."""

    features: Tensor
    kinds: Tensor

    def __init__(self, features: Tensor, kinds: Tensor) -> None:
        super().__init__()
        self.register_buffer("features", features)
        self.register_buffer("kinds", kinds)
        self.map = nn.Linear(FEATURES, D)
        self.kind = nn.Embedding(KINDS, D, sparse=True)
        nn.init.normal_(self.kind.weight, std=0.3)  # so that scores are small, and so is rounding

    @property
    def num_cells(self) -> int:
        return len(self.features)

    def forward(self, cells: Tensor) -> Tensor:
        # times 2, since DistributedDataParallel divides sparse gradients in place, which others may share
        keys: Tensor = self.map(self.features[cells]) + 2 * self.kind(self.kinds[cells])
        return keys

    def all_keys(self) -> Iterator[Tensor]:
        yield from (self(cells) for cells in torch.arange(self.num_cells).split(50))


def encoded(sizes: list[int], rank: int) -> EncodedMemory:
    """The cells of a rank, encoded by weights that are the same on each."""
    generator = torch.Generator().manual_seed(sum(sizes))
    features = torch.randn(sum(sizes), FEATURES, generator=generator)
    kinds = torch.randint(KINDS - 1, (sum(sizes),), generator=generator)
    torch.manual_seed(1)
    memory = EncodedMemory(Encoder(share(features, sizes, rank), share(kinds, sizes, rank)))
    memory.renew()
    return memory


def one(rank: int, ranks: Ranks | None, sizes: list[int], index: str, *, average: bool = False) -> Any:
    """A memory of encoded cells: over ranks, or the same in one process."""
    if ranks is None:
        return encoded([sum(sizes)], 0)
    return ShardedMemory(encoded(sizes, rank), index, ranks=ranks, average=average)


def shard_of(memory: Any) -> Any:
    return getattr(memory, "shard", memory)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: each.grad.to_dense().clone()
        for name, each in module.named_parameters()
        if each.grad is not None
    }


def encoder_trained(
    rank: int, size: int, ranks: Ranks | None, sizes: list[int], index: str
) -> dict[str, Any]:
    """Losses and gradients of an encoder whose cells a layer reads, in a few steps."""
    data, indexed = tensors(), one(rank, ranks, sizes, index)
    attention = KMIPSAttention(indexed, K, index if ranks is None else None)
    memory = shard_of(attention.memory)
    sgd = torch.optim.SGD(attention.parameters(), lr=RATE)
    query, target = queries(data.query, size, rank).requires_grad_(), queries(data.target, size, rank)
    target = target.clamp(max=sum(sizes) - 1)
    got: dict[str, Any] = {"loss": [], "cell": []}
    for _ in range(STEPS):
        sgd.zero_grad()
        query.grad = None
        read = attention(query, target)
        loss = (read.value**2).sum() / 18 + (read.weight * read.score.exp().log1p()).sum() / 180
        loss.backward()
        if ranks is not None:
            sum_gradients(attention, ranks)
        got["loss"].append(float(loss.detach()))
        got["cell"].append(read.cell)
        got["gradients"], got["query.grad"] = gradients(memory.encoder), query.grad
        got["sparse"] = memory.encoder.kind.weight.grad.is_sparse
        sgd.step()
        attention.memory.renew()
    got["weights"] = {name: each.detach() for name, each in memory.encoder.named_parameters()}
    return got | {"snapshot": memory.snapshot()}


def encoder_mapped(rank: int, size: int, ranks: Ranks | None, sizes: list[int]) -> dict[str, Tensor]:
    """Gradients of a model over encoded cells: those of a mean over all queries, replicated if sharded."""
    data, indexed = tensors(), one(rank, ranks, sizes, "exact", average=True)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, D), KMIPSAttention(indexed, K))
    replica: nn.Module = model
    if ranks is not None:
        keep_shards(model)
        replica = nn.parallel.DistributedDataParallel(model)
    read = replica(queries(data.query, size, rank))
    (size * (read.value**2).sum() / len(data.query)).backward()
    layer = cast(KMIPSAttention, model[1])
    return gradients(shard_of(layer.memory).encoder) | gradients(model[0])


class Block(nn.Module):
    """A layer of a Transformer, and a memory that each of its tokens reads."""

    def __init__(self, memory: Any) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(D, 2, 8, dropout=0.0, batch_first=True)
        self.memory = KMIPSAttention(memory, K)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.layer(tokens)  # (B, L, D)
        read: Tensor = tokens + self.memory(tokens).value
        return read


def transformed(rank: int, size: int, ranks: Ranks | None, sizes: list[int]) -> dict[str, Tensor]:
    """Gradients of a Transformer of two blocks over one memory of stored cells."""
    data = tensors()
    keys, rows = share(data.keys, sizes, rank) if ranks else data.keys, data.query.unsqueeze(1)
    memory: Any = Memory(keys.clone(), trainable=True)
    indexed = ShardedMemory(memory, ranks=ranks, average=True) if ranks else IndexedMemory(memory)
    torch.manual_seed(0)
    model = nn.Sequential(Block(indexed), Block(indexed))
    replica: nn.Module = model
    if ranks is not None:
        keep_shards(model)
        replica = nn.parallel.DistributedDataParallel(model)
    tokens = queries(torch.cat([rows, -rows, rows.flip(2)], dim=1), size, rank)  # (B, 3, D)
    (size * (replica(tokens) ** 2).sum() / len(data.query)).backward()
    return gradients(nn.ModuleList(block.layer for block in model)) | {"keys": memory.keys.grad.to_dense()}


def grown(rank: int, size: int, ranks: Ranks | None, sizes: list[int]) -> dict[str, Any]:
    """Cells found after the last rank has got some more, and after some are removed."""
    data, indexed = tensors(), one(rank, ranks, sizes, "exact")
    attention = KMIPSAttention(indexed, K)
    encoder, new = shard_of(attention.memory).encoder, torch.empty(0, dtype=torch.int64)
    attention.indexed.in_step()
    if rank == size - 1:
        new = torch.arange(5) + encoder.num_cells
        encoder.features = torch.cat([encoder.features, 3 * torch.eye(5, FEATURES)])
        encoder.kinds = torch.cat([encoder.kinds, torch.arange(5)])
    attention.indexed.add(new)
    attention.indexed.remove(torch.arange(0, sum(sizes), 2))
    return {"cell": attention(queries(data.query, size, rank)).cell, "cells": len(attention.memory)}


class Gradients(nn.Module):
    """Parameters that get gradients of a given kind: of each kind on each rank."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self.dense = nn.Parameter(torch.zeros(3, 5))
        self.wide = nn.Parameter(torch.zeros(7, dtype=torch.float64))
        self.some = nn.Parameter(torch.zeros(1))
        self.sparse = nn.Parameter(torch.zeros(6, 2))
        self.single = nn.Parameter(torch.zeros(6))
        self.mixed = nn.Parameter(torch.zeros(4, 2))
        self.none = nn.Parameter(torch.zeros(2))
        self.fixed = nn.Parameter(torch.zeros(2), requires_grad=False)
        place = torch.tensor([[rank, rank, 5]])
        self.dense.grad = torch.full((3, 5), rank + 1.0)
        self.wide.grad = torch.arange(7.0, dtype=torch.float64) * (rank + 1)
        if rank:
            self.some.grad = torch.tensor([float(rank)])
            self.sparse.grad = torch.sparse_coo_tensor(place, torch.ones(3, 2), (6, 2), check_invariants=True)
            self.single.grad = torch.sparse_coo_tensor(place, torch.ones(3), (6,), check_invariants=True)
        mixed = torch.full((4, 2), rank + 1.0)
        self.mixed.grad = mixed if rank == size - 1 else mixed.to_sparse(1)


def layers(rank: int, size: int, ranks: Ranks) -> dict[str, Any]:
    """Layers and networks that are compared with one process."""
    sizes, few = counts(size), [int(number in {0, size - 1}) for number in range(size)]
    return {
        "encoded": encoder_trained(rank, size, ranks, sizes, "exact"),
        "encoded few": encoder_trained(rank, size, ranks, few, "exact"),
        "encoded ddp": encoder_mapped(rank, size, ranks, sizes),
        "transformed": transformed(rank, size, ranks, sizes),
        "grown": grown(rank, size, ranks, sizes),
        "sums": _sums(rank, size, ranks),
        "errors": _errors(rank, size, ranks),
    }


def _sums(rank: int, size: int, ranks: Ranks) -> list[dict[str, Tensor | None]]:
    """Sums and means of gradients of each kind."""
    found = []
    for average in (False, True):
        model = Gradients(rank, size)
        sum_gradients(model, ranks, average=average)
        found.append({name: each.grad for name, each in model.named_parameters()})
    return found


def _errors(rank: int, size: int, ranks: Ranks) -> dict[str, str]:
    """What each rank raises where the last one is wrong."""
    other = encoded([5] * size, rank)
    if rank == size - 1:
        other.encoder.more = nn.Parameter(torch.zeros(3))
    return {"encoder": raised(lambda: ShardedMemory(other, ranks=ranks))}
