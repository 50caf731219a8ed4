"""What the attention layers share: checks, weights and scores of every cell."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hmn._native.finite import check_vectors
from hmn.errors import ConfigError, ShapeError
from hmn.index.checks import as_ids, as_tensor
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.over_ranks import is_remote
from hmn.nn.memory.ring.memory import RingMemory
from hmn.nn.memory.stored import Memory
from hmn.nn.products import inner_products
from hmn.nn.settings import uncompiled_because
from hmn.results import Read

WHY_NOT_COMPILED = (
    "it reads a number of cells that only the search knows, so leave out fullgraph=True; what is one graph "
    "is listed in docs/attention.md of hmn, under torch.compile"
)
"""Message of the compiler where it has to stop."""
uncompiled = uncompiled_because(WHY_NOT_COMPILED)
"""Compiled code stops at functions that this decorates, and goes on afterwards."""


def checked_memory(memory: Memory) -> Memory:
    """Refuse anything but a ``Memory``, such as its keys alone."""
    if is_remote(getattr(memory, "memory", memory)):
        raise ConfigError(
            f"memory is {type(memory).__name__}, whose cells lie on several ranks, expected hmn.Memory, "
            "whose cells are all here: read it with hmn.KMIPSAttention or a reader"
        )
    if not isinstance(memory, Memory):
        raise ConfigError(
            f"memory is {type(memory).__name__}, expected hmn.Memory: make one with Memory(keys)"
        )
    return memory


def checked_either(memory: Memory | EncodedMemory) -> Memory | EncodedMemory:
    """Refuse anything but a ``Memory`` or an ``EncodedMemory``."""
    return memory if isinstance(memory, EncodedMemory) else checked_memory(memory)


def checked(
    query: Tensor, target: Tensor | None, memory: Memory | EncodedMemory
) -> tuple[Tensor, Tensor | None]:
    """Queries as ``(B, D)`` and targets as ``(B,)``, refused if they do not fit the memory."""
    features = (memory.storage() if isinstance(memory, Memory) else memory.snapshot()).shape[1]
    query = as_tensor(query, "query", floats=True)
    if query.dim() < 1 or not query.is_floating_point():
        got = f"{tuple(query.shape)} of {query.dtype}"
        raise ShapeError(f"query is {got}, expected floats (..., {features}): one row per query")
    if query.shape[-1] != features:
        raise ShapeError(
            f"query has {query.shape[-1]} features but the memory has {features}: "
            f"map it with a layer such as nn.Linear({query.shape[-1]}, {features})"
        )
    flat = query.reshape(math.prod(query.shape[:-1]), features)
    if target is None:
        return flat, None
    target = as_tensor(target, "target")
    if target.shape != query.shape[:-1]:
        expected = tuple(query.shape[:-1])
        raise ShapeError(f"target has shape {tuple(target.shape)}, expected {expected}: one cell per query")
    return flat, as_ids(target.reshape(-1), "target")


def softmax(logit: Tensor, unused: Tensor) -> Tensor:
    """Softmax of each row over the places in use; zeros where there are none, with zero gradients."""
    lowest = torch.finfo(logit.dtype).min  # -inf gives NaN on the way, which anomaly detection reports
    return torch.softmax(logit.masked_fill(unused, lowest), dim=-1).masked_fill(unused, 0.0)


def kept(memory: Memory, rows: Tensor) -> Tensor:
    """Rows of a memory as a backward pass needs them: copies if others may be appended before it."""
    return rows.clone() if isinstance(memory, RingMemory) and torch.is_grad_enabled() else rows


def all_scores(query: Tensor, memory: Memory) -> Tensor:
    """Scores ``(B, N)`` of every cell, with gradients.

    Raises:
        NonFiniteError: query holds NaN or infinity, or is too long for inner products in float32; compiled
            code does not look.
    """
    if not torch.compiler.is_compiling():
        check_vectors(query, "query")
    return inner_products(query, kept(memory, memory.keys))  # (B, N)


def all_reads(query: Tensor, memory: Memory) -> Tensor:
    """Reads ``(B,)`` of scoring every cell."""
    reads = len(memory) * memory.keys.element_size() / 4
    return torch.full((len(query),), reads, dtype=torch.float32, device=query.device)


def shaped(read: Read, query: Tensor) -> Read:
    """The read with the leading dimensions of the query as it was given."""
    query = as_tensor(query, "query", floats=True)

    def led(part: Tensor) -> Tensor:
        return part.reshape((*query.shape[:-1], *part.shape[1:]))

    value = None if read.value is None else led(read.value)
    return Read(value, led(read.weight), led(read.cell), led(read.score), led(read.reads))
