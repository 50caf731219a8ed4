"""Runs a function in several processes of torch.distributed, and what the tests run there."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from hmn.distributed import Ranks, ShardedMemory, keep_shards
from hmn.errors import HMNError
from hmn.nn import KMIPSAttention, Memory

D, V, K = 6, 5, 7
"""Features of keys and values, and cells per query."""
QUERIES = (5, 0, 9, 4)
"""Queries of each rank."""
STEPS, RATE = 3, 0.05
"""Training steps of the layer, and their learning rate."""
INDEXES = {"exact": "exact", "cluster": "cluster:num_clusters=8,num_probes=8"}
"""Indexes that find every cell."""
HUNG, LIMIT = 3.0, 1.0
"""Seconds that a rank hangs, and the time limit of the others."""

gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this build of PyTorch has no torch.distributed with gloo",
)

Worker = Callable[[int, int], dict[str, Any]]


def run(worker: Worker, size: int, folder: Path, backend: str = "gloo") -> list[dict[str, Any]]:
    """What ``worker(rank, size)`` returns on each rank; an empty dictionary of a rank that ended early."""
    processes = torch.multiprocessing.spawn(
        _process, (worker, size, str(folder), backend), nprocs=size, join=False, daemon=True
    )
    deadline = time.monotonic() + 240
    while not processes.join(timeout=max(0, deadline - time.monotonic())):
        assert time.monotonic() < deadline, "the ranks have not finished"
    files = [folder / f"{rank}.pt" for rank in range(size)]
    return [torch.load(file) if file.exists() else {} for file in files]


def _process(rank: int, worker: Worker, size: int, folder: str, backend: str) -> None:
    torch.set_num_threads(1)
    limit = datetime.timedelta(minutes=3)
    meet = f"file://{folder}/meet"
    dist.init_process_group(backend, init_method=meet, rank=rank, world_size=size, timeout=limit)
    torch.save(worker(rank, size), f"{folder}/{rank}.pt")


def joined(got: list[dict[str, Any]], *names: str) -> Tensor:
    """A tensor that each rank returns under these names, of all ranks."""
    parts: list[Any] = got
    for name in names:
        parts = [part[name] for part in parts]
    return torch.cat(parts)


def near(one: Tensor, other: Tensor, rtol: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, rtol=rtol, atol=rtol / 10)


def counts(size: int) -> list[int]:
    """Cells of each rank: uneven, and none on a rank of four."""
    return {1: [203], 2: [120, 83], 4: [90, 0, 3, 110]}[size]


class Tensors(NamedTuple):
    keys: Tensor
    values: Tensor
    query: Tensor  # of all ranks
    target: Tensor


def tensors(num_cells: int = 203, *, whole: bool = False) -> Tensors:
    """The cells and queries of all ranks; whole numbers have many ties."""
    generator = torch.Generator().manual_seed(num_cells)

    def drawn(rows: int, columns: int) -> Tensor:
        numbers = torch.randn(rows, columns, generator=generator)
        return numbers.round() if whole else numbers

    total = sum(QUERIES)
    target = torch.randint(-1, num_cells, (total,), generator=generator)
    return Tensors(drawn(num_cells, D), drawn(num_cells, V), drawn(total, D), target)


def share(rows: Tensor, sizes: list[int], rank: int) -> Tensor:
    return torch.split(rows, sizes)[rank].clone()


def queries(rows: Tensor, size: int, rank: int) -> Tensor:
    """Those of a rank: of all four batches if it is the only one."""
    sizes = [sum(QUERIES)] if size == 1 else [*QUERIES[: size - 1], sum(QUERIES[size - 1 :])]
    return share(rows, sizes, rank)


def sharded(
    data: Tensors, sizes: list[int], ranks: Ranks, index: str = "exact", **settings: Any
) -> ShardedMemory:
    rows = [share(part, sizes, ranks.rank) for part in (data.keys, data.values)]
    return ShardedMemory(Memory(*rows, trainable=True), index, ranks=ranks, **settings)


def trained(memory: Any, data: Tensors, size: int, rank: int, index: str | None = None) -> dict[str, Any]:
    """Losses and gradients of a layer in a few steps; the loss is this rank's part of a sum."""
    attention = KMIPSAttention(memory, K, index)
    sgd = torch.optim.SGD(attention.parameters(), lr=RATE)
    attention.follow(sgd)
    query = queries(data.query, size, rank).requires_grad_()
    got: dict[str, Any] = {"loss": [], "cell": []}
    for _ in range(STEPS):
        sgd.zero_grad()
        query.grad = None
        read = attention(query, queries(data.target, size, rank))
        loss = (read.value**2).sum() + (read.weight * read.score.exp().log1p()).sum() / 10
        loss.backward()
        got["loss"].append(float(loss.detach()))
        got["cell"].append(read.cell)
        rows = getattr(attention.memory, "shard", attention.memory)
        got["keys.grad"], got["values.grad"] = (part.grad.to_dense() for part in (rows.keys, rows.values))
        sgd.step()
    attention.eval()
    read = attention(query)
    got |= {"keys": rows.keys.detach(), "values": rows.values.detach(), "query.grad": query.grad}
    return got | {"read": read.value.detach(), "state": sorted(attention.state_dict())}


def everything(rank: int, size: int) -> dict[str, Any]:
    """Search, training, bytes and errors that all ranks outlive."""
    ranks, sizes = Ranks(timeout=120), counts(size)
    got: dict[str, Any] = {}
    ties = tensors(whole=True)
    found = sharded(ties, sizes, ranks).search(queries(ties.query, size, rank), K)
    got["ties"] = found._asdict()
    few = [int(number < 3) for number in range(size)]
    small = tensors(sum(few), whole=True)
    got["few"] = sharded(small, few, ranks).search(queries(small.query, size, rank), K)._asdict()
    nothing = tensors(1)
    memory = ShardedMemory(Memory(nothing.keys[:0]), ranks=ranks)
    got["nothing"] = KMIPSAttention(memory, K)(queries(nothing.query, size, rank)).value
    data = tensors()
    for name, index in INDEXES.items():
        got[name] = trained(sharded(data, sizes, ranks, index), data, size, rank)
    averaged = sharded(data, sizes, ranks, average=True)
    averaged.memory.rows_of(torch.arange(0, 203, 3))[0].sum().backward()
    got["averaged"] = averaged.memory.shard.keys.grad.to_dense()
    memory = sharded(data, sizes, ranks, average=True)
    got["ddp"] = mapped(memory, data, size, rank)
    got["bytes"] = {cells: _bytes(cells, rank, size, ranks) for cells in (203, 2030)}
    got["errors"] = _errors(rank, size, ranks)
    return got


def mapped(memory: Any, data: Tensors, size: int, rank: int) -> dict[str, Tensor]:
    """Gradients of a model that maps its queries: of a mean over all queries, replicated if sharded."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(D, D), KMIPSAttention(memory, K))
    replica: torch.nn.Module = model
    if isinstance(memory, ShardedMemory):
        keep_shards(model)
        replica = torch.nn.parallel.DistributedDataParallel(model)
    read = replica(queries(data.query, size, rank))
    (size * (read.value**2).sum() / sum(QUERIES)).backward()
    rows = getattr(model[1].memory, "shard", model[1].memory)
    return {"linear": model[0].weight.grad, "keys": rows.keys.grad.to_dense()}


def _bytes(num_cells: int, rank: int, size: int, ranks: Ranks) -> dict[str, Any]:
    """Bytes that a rank sends for a search, for reading rows, and for their gradients."""
    sizes = [count * num_cells // 203 for count in counts(size)]
    data = tensors(num_cells)
    memory = sharded(data, sizes, ranks)
    query, cells = queries(data.query, size, rank), torch.tensor([0, num_cells - 1, 0])
    sent = [ranks.bytes_sent]
    memory.search(query, K)
    sent.append(ranks.bytes_sent)
    keys, values = memory.memory.rows_of(cells)
    sent.append(ranks.bytes_sent)
    (keys.sum() + values.sum()).backward()
    sent.append(ranks.bytes_sent)
    return {"sent": [after - before for before, after in pairwise(sent)]}


def _errors(rank: int, size: int, ranks: Ranks) -> dict[str, str]:
    """What each rank raises where the last one is wrong, and that all go on afterwards."""
    data, sizes, last = tensors(), counts(size), rank == size - 1
    memory = sharded(data, sizes, ranks)
    query = torch.full((1, D), torch.nan if last else 1.0)
    got = {"query": raised(lambda: memory.search(query, K))}
    got["cell"] = raised(lambda: memory.memory.rows_of(torch.tensor([203 if last else 1])))
    got["own code"] = raised(lambda: _step(memory, int(not last)))
    own = Memory(torch.ones(3, D + last))
    got["features"] = raised(lambda: ShardedMemory(own, ranks=ranks))
    got["another"] = raised(lambda: setattr(KMIPSAttention(memory, K), "memory", own))
    got["given twice"] = raised(lambda: KMIPSAttention(memory, K, "exact"))
    got["afterwards"] = str(len(memory.search(torch.ones(1, D), K).cell))
    others = dist.new_group([0])
    got["not in the group"] = raised(lambda: Ranks(others))
    got["ranks"] = raised(lambda: ShardedMemory(own, ranks=size))  # type: ignore[arg-type]
    again = sharded(data, sizes, Ranks(timeout=60))
    got["step"] = raised(lambda: again.search(torch.ones(1, D), K + last))
    got["after that"] = raised(lambda: again.search(torch.ones(1, D), K))
    return got


def _step(memory: ShardedMemory, number: int) -> None:
    """A training step whose own code fails where the number is 0."""
    with memory.ranks.together():
        memory.search(torch.ones(1 // number, D), K)


def raised(call: Callable[[], object]) -> str:
    try:
        call()
    except (HMNError, ZeroDivisionError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def failing(rank: int, _: int) -> dict[str, Any]:
    """A rank hangs for a while; later it ends without a word, and another rank comes late.

    By then the first to notice may have ended, too. Each part has connections of its own.
    """
    sizes, query, group = [100, 3, 100], torch.ones(2, D), dist.new_group(backend="gloo")
    memory = sharded(tensors(), sizes, Ranks(group, timeout=60))
    memory.search(query, K)
    memory.ranks.timeout, start = LIMIT, time.monotonic()
    if rank == 1:
        time.sleep(HUNG)
        got = {}
    else:
        got = {"hung": raised(lambda: memory.search(query, K)), "seconds": time.monotonic() - start}
    memory = sharded(tensors(), sizes, Ranks(timeout=60))
    memory.search(query, K)
    if rank == 1:
        os._exit(0)
    if rank == 2:
        time.sleep(2)
    return got | {"ended": raised(lambda: memory.search(query, K))}
