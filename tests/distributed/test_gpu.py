"""Cells on GPUs: what one process on the CPU gives. Rows travel through the memory of the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.distributed.processes import (
    INDEXES,
    STEPS,
    Tensors,
    counts,
    gloo,
    joined,
    mapped,
    near,
    run,
    sharded,
    tensors,
    trained,
)
from torch import Tensor

from hmn.distributed import Ranks
from hmn.nn import Memory

GPUS = torch.cuda.device_count()
"""Number of GPUs that PyTorch finds."""

pytestmark = [pytest.mark.slow, gloo]


def _device(rank: int) -> torch.device:
    device = torch.device("cuda", rank % GPUS)
    torch.cuda.set_device(device)
    return device


def _on_cpu(got: Any) -> Any:
    """Tensors in lists and dictionaries, on the CPU."""
    if isinstance(got, Tensor):
        return got.detach().cpu()
    if isinstance(got, dict):
        return {name: _on_cpu(part) for name, part in got.items()}
    return [_on_cpu(part) for part in got] if isinstance(got, list) else got


def layer(rank: int, size: int) -> dict[str, Any]:
    """A layer that is trained, with cells and queries on a GPU."""
    device = _device(rank)
    data = Tensors(*(part.to(device) for part in tensors()))
    ranks = Ranks(timeout=120)
    return {
        name: _on_cpu(trained(sharded(data, counts(size), ranks, index), data, size, rank))
        for name, index in INDEXES.items()
    }


def replicated(rank: int, size: int) -> dict[str, Any]:
    """A model in ``DistributedDataParallel``, whose gradients travel over NCCL."""
    device = _device(rank)
    data = Tensors(*(part.to(device) for part in tensors()))
    with device:
        memory = sharded(data, counts(size), Ranks(timeout=120), average=True)
        return {"ddp": _on_cpu(mapped(memory, data, size, rank))}


@pytest.mark.skipif(not GPUS, reason="there is no GPU that PyTorch could use")
def test_cells_on_gpus_are_trained_as_on_the_cpu(tmp_path: Path) -> None:
    got, data = run(layer, 2, tmp_path), tensors()
    for name, index in INDEXES.items():
        wanted = trained(Memory(data.keys.clone(), data.values.clone(), trainable=True), data, 1, 0, index)
        for step in range(STEPS):
            near(
                torch.tensor(sum(part[name]["loss"][step] for part in got)),
                torch.tensor(wanted["loss"][step]),
            )
        for kind in ("keys.grad", "values.grad", "query.grad", "keys", "values", "read"):
            near(joined(got, name, kind), wanted[kind].detach())


@pytest.mark.skipif(GPUS < 2, reason=f"NCCL needs a GPU for each of two ranks, there are {GPUS}")
def test_gradients_of_replicas_travel_over_nccl(tmp_path: Path) -> None:
    got, data = run(replicated, 2, tmp_path, "cpu:gloo,cuda:nccl"), tensors()
    wanted = mapped(Memory(data.keys, data.values, trainable=True), data, 1, 0)
    near(joined(got, "ddp", "keys"), wanted["keys"])
    for part in got:
        near(part["ddp"]["linear"], wanted["linear"])
