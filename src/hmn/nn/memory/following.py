"""Follows an optimiser: after each of its steps the index files the keys that moved."""

from __future__ import annotations

import warnings
from typing import Any, Protocol
from weakref import ref

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from hmn.errors import ConfigError
from hmn.nn.parts import CellMemory

DENSE_ONLY = (
    torch.optim.Adadelta,
    torch.optim.Adam,
    torch.optim.Adamax,
    torch.optim.ASGD,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Rprop,
)
"""Optimisers of PyTorch that refuse sparse gradients; AdamW is an Adam."""


class Followed(Protocol):
    """What is refreshed after each step."""

    @property
    def memory(self) -> CellMemory:
        """The memory whose keys an optimiser moves."""
        ...

    def refresh(self) -> None:
        """File the keys that moved."""
        ...


def follow_steps(indexed: Followed, optimizer: Optimizer) -> RemovableHandle:
    """Refresh ``indexed`` after each step of an optimiser; see ``IndexedMemory.follow``."""
    _check(indexed.memory, optimizer)
    followed = ref(indexed)  # an optimiser does not keep a memory alive

    def after_step(*_: Any) -> None:
        target = followed()
        if target is not None:
            target.refresh()

    return optimizer.register_step_post_hook(after_step)


def warn_unfollowed(cells: int) -> None:
    """Warn that all keys are compared since nothing was refreshed after a step."""
    warnings.warn(
        f"keys moved after training read them, and no refresh followed: all {cells} keys are compared before "
        "the next search; call attention.follow(optimizer) once, or refresh() after each step",
        stacklevel=3,
    )


def _check(memory: CellMemory, optimizer: Optimizer) -> None:
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(
            f"optimizer is {type(optimizer).__name__}, expected a torch.optim.Optimizer: call refresh() "
            "after the steps of any other"
        )
    keys = getattr(memory, "keys", None)
    if not isinstance(keys, Tensor) or not hasattr(memory, "touched"):
        raise ConfigError(
            f"the memory is {type(memory).__name__}, expected hmn.Memory, whose rows an optimiser moves: "
            "renew an encoded memory, and the next search notices"
        )
    if not keys.requires_grad:
        return  # nothing moves
    if all(parameter is not keys for group in optimizer.param_groups for parameter in group["params"]):
        raise ConfigError(
            f"{type(optimizer).__name__} does not train the memory's keys, expected the optimiser that does: "
            "give it memory.parameters()"
        )
    if getattr(memory.key_table, "sparse", False) and _is_dense_only(optimizer):  # type: ignore[attr-defined]
        raise ConfigError(
            f"{type(optimizer).__name__} refuses the sparse gradients of this memory, expected "
            "hmn.nn.RowAdam, SparseAdam or SGD: or make it Memory(..., sparse=False)"
        )


def _is_dense_only(optimizer: Optimizer) -> bool:
    """Whether an optimiser refuses sparse gradients; those that take them do not when fused."""
    return isinstance(optimizer, DENSE_ONLY) or any(group.get("fused") for group in optimizer.param_groups)
