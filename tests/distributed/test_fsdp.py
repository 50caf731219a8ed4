"""Under FSDP2 the dense part of a model is sharded, and every rank reads the memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.distributed.processes import gloo, run
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

from hmn.errors import ConfigError
from hmn.nn import KMIPSAttention, Memory

pytestmark = gloo
SIZE, CELLS, D, V, K, STEPS = 2, 60, 6, 3, 4, 3


def model(trainable: bool) -> nn.Sequential:
    """A dense layer and a memory, the same on every rank."""
    torch.manual_seed(0)
    memory = Memory(torch.randn(CELLS, D), torch.randn(CELLS, V), trainable)
    return nn.Sequential(nn.Linear(D, D), KMIPSAttention(memory, K, "cluster:num_clusters=6,num_probes=6"))


def queries(step: int) -> Tensor:
    """Queries of all ranks, two per rank."""
    return torch.randn(SIZE, 2, D, generator=torch.Generator().manual_seed(step))


def whole(weight: Tensor) -> Tensor:
    return (weight.full_tensor() if hasattr(weight, "full_tensor") else weight).detach()


def trained(rank: int, size: int) -> dict[str, Any]:
    """Weights and cells after a few steps, with the dense part sharded and the memory left out."""
    mesh, got = init_device_mesh("cpu", (size,)), {}
    for trainable in (False, True):
        net = model(trainable)
        memory = net[1].memory
        fully_shard(net, mesh=mesh, ignored_params=set(memory.parameters()))
        assert hasattr(net[0].weight, "full_tensor") and not hasattr(memory.keys, "full_tensor")
        sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        if trainable:
            net[1].follow(sgd)
        for step in range(STEPS):
            net(queries(step)[rank]).value.pow(2).sum().backward()
            for rows in memory.parameters():  # FSDP2 sums the gradients of what it shards, and of no other
                rows.grad = rows.grad.to_dense()
                dist.all_reduce(rows.grad)
                rows.grad /= size
            sgd.step()
            sgd.zero_grad()
        with torch.no_grad():
            cell = net.eval()(queries(9)[rank]).cell
        weights = [whole(weight) for weight in (net[0].weight, memory.keys, memory.values)]
        got[str(trainable)] = {"cell": cell, "weights": weights}
    return got


def refused(rank: int, size: int) -> dict[str, Any]:  # noqa: ARG001 - as run calls it
    """What a layer says of keys that are sharded."""
    net = model(True)
    mesh = init_device_mesh("cpu", (size,))
    table = net[1].memory.key_table
    table.weight = nn.Parameter(distribute_tensor(table.weight.detach(), mesh, [Shard(0)]))
    try:
        net(queries(0)[0])
    except ConfigError as error:
        return {"error": str(error)}
    return {}


@pytest.mark.slow
def test_the_dense_part_is_sharded_and_the_memory_left_out(tmp_path: Path) -> None:
    got = run(trained, SIZE, tmp_path)
    for trainable in (False, True):
        net = model(trainable)
        sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(STEPS):
            sgd.zero_grad()
            net(queries(step).flatten(0, 1)).value.pow(2).sum().div(SIZE).backward()
            sgd.step()
        weights = (net[0].weight, net[1].memory.keys, net[1].memory.values)
        cell = net.eval()(queries(9).flatten(0, 1)).cell
        assert torch.equal(torch.cat([part[str(trainable)]["cell"] for part in got]), cell)
        for part in got:
            torch.testing.assert_close(part[str(trainable)]["weights"], [w.detach() for w in weights])


@pytest.mark.slow
def test_sharded_keys_are_refused(tmp_path: Path) -> None:
    for part in run(refused, SIZE, tmp_path):
        assert "ignored_params" in part["error"] and "ShardedMemory" in part["error"]
