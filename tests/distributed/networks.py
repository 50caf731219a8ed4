"""Networks and readers over ranks: what each rank runs, and the one process that it is compared with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from tests.distributed.layers import encoded, gradients, shard_of
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
from tests.qa.small import SIZES
from torch import Tensor, nn

from hmn.distributed import Ranks, ShardedMemory, sum_gradients
from hmn.facts.table import FactTable
from hmn.nn import (
    CellReader,
    CellWriter,
    EncodedMemory,
    HardAttention,
    HopReader,
    IndexedMemory,
    KMIPSAttention,
    KMIPSReader,
    Memory,
    MemoryNetwork,
    RingMemory,
    SoftmaxAttention,
    SoftmaxReader,
    WrittenMemory,
    sampled_nll,
)
from hmn.qa.cells import Cells
from hmn.qa.config import ModelConfig
from hmn.qa.encoders.fact import FactEncoder
from hmn.qa.encoders.tables import NameTable, WordTable
from hmn.qa.words.splitting import splitting
from hmn.results import Read

STRATEGIES = {"best": "k-mips", "block": "k-mips:3+rand-block:16"}
"""Strategies whose draws do not depend on the number of ranks."""
CLUSTERS = "cluster:num_clusters=12,num_probes=12"
"""Index of each shard; the clusters are those of all."""
OF_CLUSTERS = ("top-k:2", "k-mips:2+top-k:2+sample-k:3", "sample-k:40", "top-k:1+sample-k:2+rand-block:40")
"""Strategies that draw clusters."""
HIDDEN, LENGTH = 5, 4
"""Features of inputs of a writer, and steps of a sequence."""


class Same(nn.Module):
    """What was read, as it is."""

    def forward(self, read: Read[Tensor | None]) -> Read[Tensor | None]:
        return read


def stored(rank: int, ranks: Ranks | None, sizes: list[int], index: str = "exact") -> Any:
    """A trained memory of stored cells: over ranks, or the same in one process."""
    data = tensors(sum(sizes))
    if ranks is None:
        return IndexedMemory(Memory(data.keys.clone(), data.values.clone(), trainable=True), index)
    rows = [share(part, sizes, rank) for part in (data.keys, data.values)]
    return ShardedMemory(Memory(*rows, trainable=True), index, ranks=ranks)


def of_encoder(rank: int, ranks: Ranks | None, sizes: list[int]) -> Any:
    if ranks is None:
        return IndexedMemory(encoded([sum(sizes)], 0))
    return ShardedMemory(encoded(sizes, rank), ranks=ranks)


def of_facts(rank: int, ranks: Ranks | None, sizes: list[int]) -> Any:
    """The cells of a table of facts, encoded as for question answering; here a rank has few of the cells."""
    number = range(sum(sizes))
    facts = FactTable.from_triples([(f"town {n // 5}", f"place/r{n % 5}", f"name {n % 7}") for n in number])
    config, cells = ModelConfig(**SIZES, word_dropout=0.0), Cells.of(facts, objects=True)
    assert cells.object is not None
    columns = {"subject": cells.subject, "relation": cells.relation, "object": cells.object}
    first = sum(sizes[:rank])
    last = sum(sizes) if ranks is None else first + sizes[rank]
    own = replace(cells, **{name: column[first:last] for name, column in columns.items()})  # type: ignore[arg-type]
    torch.manual_seed(0)
    kinds = splitting(config.splitting).kinds
    table = NameTable(config.table_bits, config.name_features, kinds, count_bits=config.feature_bits)
    encoder = FactEncoder(config, own, facts.relations, table, WordTable(config))
    encoder.count_names()  # of the whole table, which every rank knows here
    memory = EncodedMemory(encoder)
    memory.renew()
    return IndexedMemory(memory) if ranks is None else ShardedMemory(memory, ranks=ranks)


def network_trained(rank: int, size: int, ranks: Ranks | None, indexed: Any, strategy: str) -> dict[str, Any]:
    """Losses, gradients and reads of a network that is trained by candidates."""
    data = tensors()
    torch.manual_seed(0)
    width = indexed.memory.snapshot().shape[1]
    network = MemoryNetwork(nn.Linear(D, width), indexed, KMIPSReader(indexed, K, strategy), Same())
    sgd = torch.optim.SGD(network.parameters(), lr=RATE)
    inputs = queries(data.query, size, rank)
    target = queries(data.target, size, rank).clamp(min=0, max=len(indexed) - 1)
    got: dict[str, Any] = {"loss": [], "cell": [], "probability": []}
    memory = shard_of(network.memory)
    for step in range(STEPS):
        sgd.zero_grad()
        query = network.input_module(inputs)
        drawn, score = network.attend(query, target, torch.Generator().manual_seed(step))
        right = drawn.cell == target.unsqueeze(1)
        loss = sampled_nll(score, right, drawn.probability).sum() / len(data.query)
        loss.backward()
        if ranks is not None:
            sum_gradients(network, ranks)
        got["loss"].append(float(loss.detach()))
        got["cell"].append(drawn.cell)
        got["probability"].append(drawn.probability)
        got["gradients"] = gradients(network.input_module)
        if isinstance(memory, Memory):
            got["keys.grad"] = memory.keys.grad.to_dense().clone()
        else:
            got["gradients"] |= gradients(memory.encoder)
        sgd.step()
        if not isinstance(memory, Memory):
            network.memory.renew()  # type: ignore[attr-defined]
    with torch.no_grad():
        got["read"] = network(inputs, 5)._asdict()
        got["softmax"] = SoftmaxReader(indexed).read(network.input_module(inputs), 5)._asdict()
    return got


def attention_trained(rank: int, size: int, indexed: Any) -> dict[str, Any]:
    """A step of a layer that reads the candidates of all ranks, corrected by their probabilities."""
    data = tensors()
    attention = KMIPSAttention(indexed, K, strategy=STRATEGIES["block"], corrected=True)
    torch.manual_seed(3)
    query = queries(data.query, size, rank).requires_grad_()
    read = attention(query, queries(data.target, size, rank))
    (read.value**2).sum().backward()
    memory = shard_of(attention.memory)
    found = {"value": read.value.detach(), "cell": read.cell, "query.grad": query.grad}
    return found | {"keys.grad": memory.keys.grad.to_dense(), "values.grad": memory.values.grad.to_dense()}


def hops_trained(rank: int, size: int, ranks: Ranks | None, indexed: Any) -> dict[str, Any]:
    """A step of a reader of two hops."""
    data = tensors()
    torch.manual_seed(2)
    reader = HopReader(KMIPSAttention(indexed, K), hops=2)
    read = reader(queries(data.query, size, rank), queries(data.target, size, rank))
    ((read.value**2).sum() / len(data.query)).backward()
    if ranks is not None:
        sum_gradients(reader, ranks)
    keys = shard_of(reader.layers[0].memory).keys.grad.to_dense()
    found = {"value": read.value.detach(), "reads": read.reads, "keys.grad": keys}
    return found | {"gradients": gradients(reader.update)}


def written(rank: int, size: int, ranks: Ranks | None, sequences: list[int]) -> dict[str, Tensor]:
    """Gradients of a network that writes a memory per sequence: each rank has sequences of its own."""
    inputs = torch.randn(LENGTH, sum(sequences), HIDDEN, generator=torch.Generator().manual_seed(4))
    own = torch.split(inputs, sequences, dim=1)[rank] if size > 1 else inputs
    torch.manual_seed(5)
    memory = WrittenMemory(6, 4, sequences=own.shape[1])
    reader, writer = CellReader(HIDDEN, memory), CellWriter(HIDDEN, memory)
    network = MemoryNetwork(nn.Linear(HIDDEN, HIDDEN), memory, reader, Same(), writer)
    memory.begin()
    loss = sum((network(step, 3).value ** 2).sum() for step in own) / 80
    loss.backward()
    if ranks is not None:
        sum_gradients(network, ranks)
    return gradients(network)


def of_clusters(rank: int, size: int, ranks: Ranks, sizes: list[int]) -> dict[str, Any]:
    """What strategies draw from the clusters of all shards."""
    data, indexed = tensors(), stored(rank, ranks, sizes, CLUSTERS)
    reader, found = {text: KMIPSReader(indexed, K, text) for text in OF_CLUSTERS}, {}
    for seed, text in enumerate(OF_CLUSTERS):
        generator = torch.Generator().manual_seed(seed + 100 * rank)  # that of rank 0 counts
        query, target = (queries(part, size, rank)[:1] for part in (data.query, data.target))
        found[text] = reader[text].candidates(query, target[target >= 0], generator)._asdict()
    clusters = indexed.index.levels.clusters  # type: ignore[attr-defined]
    found["made"] = {"centroid": clusters.centroid, "directions": clusters.directions[-1]}
    return found


def bytes_of_candidates(rank: int, size: int, ranks: Ranks, num_cells: int) -> dict[str, Any]:
    """Bytes that a rank sends to score its queries against the candidates of all ranks."""
    data = tensors(num_cells)
    indexed = stored(rank, ranks, [count * num_cells // 203 for count in counts(size)])
    network = MemoryNetwork(nn.Identity(), indexed, KMIPSReader(indexed, K), Same())
    query, target = queries(data.query, size, rank), queries(data.target, size, rank).clamp(min=0)
    own = torch.unique(torch.cat([indexed.search(query, K).cell.flatten(), target]))
    before = ranks.bytes_sent
    drawn, _ = network.attend(query, target, torch.Generator())
    shards = indexed.memory.shards
    held = int((shards.owner(drawn.cell) == rank).sum())
    sent = ranks.bytes_sent - before
    return {"sent": sent, "own": len(own), "cells": len(drawn.cell), "held": held, "queries": len(query)}


def networks(rank: int, size: int, ranks: Ranks) -> dict[str, Any]:
    """Everything that is compared with one process."""
    sizes, few = counts(size), [int(number in {0, size - 1}) for number in range(size)]
    found: dict[str, Any] = {}
    for name, strategy in STRATEGIES.items():
        found[f"stored {name}"] = network_trained(rank, size, ranks, stored(rank, ranks, sizes), strategy)
        found[f"encoded {name}"] = network_trained(
            rank, size, ranks, of_encoder(rank, ranks, sizes), strategy
        )
    found["few best"] = network_trained(rank, size, ranks, of_encoder(rank, ranks, few), "k-mips")
    found["facts block"] = network_trained(
        rank, size, ranks, of_facts(rank, ranks, sizes), STRATEGIES["block"]
    )
    found["attention"] = attention_trained(rank, size, stored(rank, ranks, sizes))
    found["hops"] = hops_trained(rank, size, ranks, stored(rank, ranks, sizes))
    found["written"] = written(rank, size, ranks, {1: [8], 2: [1, 7], 4: [1, 3, 2, 2]}[size])
    found["clusters"] = of_clusters(rank, size, ranks, sizes)
    found["bytes"] = {cells: bytes_of_candidates(rank, size, ranks, cells) for cells in (203, 2030)}
    found["errors"] = _errors(rank, ranks, sizes)
    return found


def _errors(rank: int, ranks: Ranks, sizes: list[int]) -> dict[str, str]:
    """What a memory of several ranks does not do."""
    indexed, generator = stored(rank, ranks, sizes), torch.Generator()
    query, nothing = torch.ones(1, D), torch.empty(0, dtype=torch.int64)
    return {
        "softmax reader": raised(lambda: SoftmaxReader(indexed).candidates(query, nothing, generator)),
        "softmax": raised(lambda: SoftmaxAttention(indexed)),
        "hard": raised(lambda: HardAttention(indexed)),
        "cells": raised(lambda: SoftmaxAttention(indexed.memory)),
        "written": raised(lambda: ShardedMemory(WrittenMemory(6, 4), ranks=ranks)),  # type: ignore[arg-type]
        "ring": raised(lambda: ShardedMemory(RingMemory(6, 4), ranks=ranks)),
        "no clusters": raised(lambda: KMIPSReader(indexed, K, "top-k:1")),
    }
