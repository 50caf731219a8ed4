"""Parameters that are the same on every rank: which they are, and their gradients over all ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hmn.distributed.collectives import Ranks
from hmn.distributed.rows import likeness, packed, unpacked
from hmn.distributed.sharded_memory import ShardedCells
from hmn.errors import check_flag
from hmn.nn.memory.stored import Memory

NONE = 0
"""Kind of a parameter without a gradient; of the kinds on several ranks, the largest is kept."""
SPARSE = 1
"""Kind of a parameter whose gradient has few rows."""
DENSE = 2
"""Kind of a parameter whose gradient has all of its numbers."""


def keep_shards(model: nn.Module) -> None:
    """Make ``DistributedDataParallel`` leave the shards of a model's memories alone. Call it before wrapping.

    Otherwise it would give every rank the cells of rank 0, and sum gradients of different cells. Give stored
    memories ``average=True``: their gradients are then scaled as it scales all others. The parameters of
    encoders are replicated as all others are; their buffers, which may belong to cells, are left alone.
    """
    names = []
    for prefix, part in model.named_modules():
        if isinstance(part, ShardedCells):
            stored = part.named_parameters() if isinstance(part.shard, Memory) else ()
            names += [f"{prefix}.{name}" if prefix else name for name, _ in [*stored, *part.named_buffers()]]
    ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    ignore(model, names)  # type: ignore[no-untyped-call]


@torch.no_grad()
def sum_gradients(model: nn.Module, ranks: Ranks, *, average: bool = False) -> None:
    """Sum the gradients of a model's replicated parameters over all ranks, in place.

    For a training without ``DistributedDataParallel``: call it after ``backward`` and before the optimiser's
    step, on every rank. With equal weights at first and equal optimisers, weights stay equal bit for bit.
    Stored cells of a ``ShardedMemory`` concern one rank alone and are left out. A parameter without a
    gradient on some ranks counts as zero there. Sparse gradients stay sparse: only their rows travel.

    Args:
        model: the same model on every rank, apart from its cells.
        ranks: the processes.
        average: whether to divide the sums by the number of ranks.

    Raises:
        RankError: another rank has failed, or its model has other parameters.
    """
    check_flag("average", average)
    with ranks.together():
        parameters = _replicated(model)
        kinds = torch.tensor([[_kind(each) for each in parameters]], dtype=torch.int8, device="cpu")
        every, _ = ranks.gather(kinds, f"which of {len(parameters)} parameters have gradients")
        kept = every.amax(dim=0).tolist()
        for each, kind in zip(parameters, kept, strict=True):
            if kind == SPARSE:
                each.grad = _sparse_sum(each, ranks)
        dense = [each for each, kind in zip(parameters, kept, strict=True) if kind == DENSE]
        for dtype in dict.fromkeys(each.dtype for each in dense):
            _sum_dense([each for each in dense if each.dtype == dtype], ranks)
        if average:
            for each in parameters:
                if each.grad is not None:
                    each.grad.div_(ranks.size)


def _replicated(model: nn.Module) -> list[Tensor]:
    """The parameters of a model that are trained, without those of stored cells."""
    shards = [part.shard for part in model.modules() if isinstance(part, ShardedCells)]
    own = {id(each) for shard in shards if isinstance(shard, Memory) for each in shard.parameters()}
    return [each for each in model.parameters() if each.requires_grad and id(each) not in own]


def _kind(parameter: Tensor) -> int:
    gradient = parameter.grad
    if gradient is None:
        return NONE
    return SPARSE if gradient.is_sparse and gradient.sparse_dim() == 1 else DENSE


def _sparse_sum(parameter: Tensor, ranks: Ranks) -> Tensor:
    """The sum of all ranks' sparse gradients; every rank gets all of their rows."""
    if parameter.grad is None:
        row, rows = (
            torch.empty(0, dtype=torch.int64, device=parameter.device),
            parameter.new_empty(0, *parameter.shape[1:]),
        )
    else:
        gradient = parameter.grad.coalesce()
        row, rows = gradient.indices()[0], gradient.values()
    parts = [row.unsqueeze(1), rows.reshape(len(row), math.prod(parameter.shape[1:]))]
    came, _ = ranks.gather(packed(parts), "rows of gradients")
    row, rows = unpacked(came, [likeness(part) for part in parts])
    rows = rows.reshape(len(row), *parameter.shape[1:])
    return torch.sparse_coo_tensor(row.T, rows, parameter.shape, check_invariants=False).coalesce()


def _sum_dense(parameters: Sequence[Tensor], ranks: Ranks) -> None:
    """Sum dense gradients: each rank adds up its share of the numbers, and sends the sums to all others."""
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad.to_dense() for each in parameters]
    flat = torch.cat([each.flatten() for each in gradients])
    shares = [len(part) for part in torch.tensor_split(flat, ranks.size)]
    came, _ = ranks.exchange(flat, shares, "gradients")
    summed, _ = ranks.gather(came.view(ranks.size, -1).sum(dim=0), "sums of gradients")
    parts = torch.split(summed, [each.numel() for each in gradients])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view(parameter.shape).clone()
