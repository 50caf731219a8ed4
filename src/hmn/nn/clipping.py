"""Clipping of gradients, sparse and dense together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hmn.errors import ConfigError, NonFiniteError


@torch.no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """``torch.nn.utils.clip_grad_norm_`` that takes sparse gradients too, such as those of a memory's rows.

    The result is that of the same gradients made dense. Sparse ones stay sparse and are coalesced.

    Args:
        parameters: parameters whose gradients are clipped in place; those without a gradient are passed over.
        max_norm: upper limit of the norm of all gradients together.
        norm_type: order of the norm, above 0; ``inf`` for the largest number.
        error_if_nonfinite: whether a norm that is NaN or infinite is refused.
        foreach: as in PyTorch, for dense gradients.

    Returns:
        The norm of all gradients together, before they were clipped.

    Raises:
        NonFiniteError: the norm is NaN or infinite, and that is to be refused; no gradient is changed.
        ConfigError: ``max_norm`` or ``norm_type`` is out of its range.
    """
    limit, order = _number("max_norm", max_norm, 0.0), _number("norm_type", norm_type, math.ulp(0.0))
    every = [parameters] if isinstance(parameters, Tensor) else _listed(parameters)
    gradients = [_coalesced(each) for each in every if each.grad is not None]
    dense = [each for each in gradients if not each.is_sparse]
    numbers = [each.values() for each in gradients if each.is_sparse]
    total = torch.nn.utils.get_total_norm([*dense, *numbers], order, False, foreach)
    if error_if_nonfinite and not bool(torch.isfinite(total)):
        raise NonFiniteError(
            f"the norm of the gradients is {float(total)}, expected a finite one: skip this step, or look "
            "for the loss that is NaN or infinite"
        )
    coefficient = (limit / (total + 1e-6)).clamp(max=1.0)  # as in PyTorch
    for each in [*dense, *numbers]:
        each.mul_(coefficient.to(each.device))
    return total


def _listed(parameters: object) -> list[Tensor]:
    listed: list[Any] = list(parameters) if isinstance(parameters, Iterable) else [parameters]
    for each in listed:
        if not isinstance(each, Tensor):
            got = type(each).__name__
            raise ConfigError(f"parameters hold {got}, expected tensors: give model.parameters()")
    return listed


def _coalesced(parameter: Tensor) -> Tensor:
    """The gradient; a sparse one with each row once, or the norm of a sum would be that of its parts."""
    gradient = parameter.grad
    assert gradient is not None
    if gradient.is_sparse and not gradient.is_coalesced():
        gradient = parameter.grad = gradient.coalesce()
    return gradient


def _number(name: str, value: Any, least: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not number >= least:
        expected = "at least 0" if least == 0 else "above 0"
        raise ConfigError(f"{name} is {value!r}, expected a number {expected}")
    return number
