"""Checks of settings: what is taken silently would be ignored."""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import signature
from numbers import Integral, Real
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hmn.errors import ConfigError, ShapeError
from hmn.index.checks import as_tensor

GOLDEN = 0x9E3779B97F4A7C15
"""Multiplier that scatters seeds: 2^64 divided by the golden ratio, rounded to an odd number."""


Function = TypeVar("Function", bound=Callable[..., Any])


def uncompiled_because(reason: str) -> Callable[[Function], Function]:
    """``torch.compiler.disable`` with its type; the reason is part of the compiler's message."""
    disable: Any = torch.compiler.disable
    reasons = {"reason": reason} if "reason" in signature(disable).parameters else {}

    def uncompiled(function: Function) -> Function:
        plain: Function = disable(function, **reasons)
        return plain

    return uncompiled


def check_whole(name: str, value: Any, meaning: str) -> int:
    """A whole number of at least 1, one of NumPy included.

    Raises:
        ConfigError: it is something else.
    """
    if not _is_whole(value) or value < 1:
        raise ConfigError(f"{name} is {value!r}, expected a whole number of at least 1: {meaning}")
    return int(value)


def check_seed(seed: Any) -> int:
    """The seed of random draws.

    Raises:
        ConfigError: it is not a whole number of 64 bits.
    """
    if not _is_whole(seed) or not -(1 << 63) <= seed < 1 << 64:
        raise ConfigError(f"seed is {seed!r}, expected a whole number of at most 64 bits")
    return int(seed)


def check_share(name: str, value: Any) -> float:
    """A number from 0 to below 1.

    Raises:
        ConfigError: it is something else.
    """
    if not _is_real(value) or not 0 <= value < 1:
        raise ConfigError(f"{name} is {value!r}, expected from 0 to below 1")
    return float(value)


def as_floats(value: object, name: str) -> Tensor:
    """Floats in a tensor, a NumPy array or lists.

    Raises:
        ShapeError: it is something else.
    """
    tensor = as_tensor(value, name, floats=True)
    if not tensor.is_floating_point():
        raise ShapeError(
            f"{name} is of {tensor.dtype}, expected floats: convert it, as with to(torch.float32)"
        )
    return tensor


def as_mask(value: object, name: str) -> Tensor:
    """True and False in a tensor, a NumPy array or lists.

    Raises:
        ShapeError: it is something else.
    """
    tensor = as_tensor(value, name)
    if tensor.dtype != torch.bool:
        raise ShapeError(f"{name} is of {tensor.dtype}, expected torch.bool: compare, or convert with bool()")
    return tensor


def keep_scale(layer: nn.Module, scale: float | Tensor) -> None:
    """Make ``scale`` an attribute of a layer: a number, a buffer, or a parameter that is trained.

    Raises:
        ConfigError: it is not one number above 0, which would reverse the order or make all weights the same;
            or it is computed from parameters, whose graph a layer cannot keep.
    """
    if isinstance(scale, Tensor):
        _check_tensor(scale)
        if isinstance(scale, nn.Parameter):
            layer.register_parameter("scale", scale)
        else:
            layer.register_buffer("scale", scale)
    elif _is_real(scale) and 0 < scale < math.inf:
        layer.scale = float(scale)  # type: ignore[assignment]
    else:
        raise _bad_scale(scale)


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral)


def _is_real(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real)


def _check_tensor(scale: Tensor) -> None:
    if scale.numel() != 1 or not scale.is_floating_point():
        raise _bad_scale(scale)
    if not scale.is_meta and not 0 < float(scale.detach()) < math.inf:  # on meta its number is loaded later
        raise _bad_scale(scale)
    if scale.requires_grad and not isinstance(scale, nn.Parameter):
        raise ConfigError(
            "scale is a tensor with gradients that is not a parameter, expected nn.Parameter or a number: "
            "for a computed scale, leave it out and multiply the queries"
        )


def _bad_scale(scale: object) -> ConfigError:
    got = repr(scale)
    if isinstance(scale, Tensor):
        single = scale.numel() == 1 and scale.is_floating_point()
        got = str(float(scale.detach())) if single else f"{tuple(scale.shape)} of {scale.dtype}"
    return ConfigError(f"scale is {got}, expected a finite number above 0, or an nn.Parameter that holds one")


def stream(seed: int) -> torch.Generator:
    """Random numbers for one forward pass: its own for each seed, and drawn from PyTorch's generator.

    Activation checkpointing runs a forward pass twice and restores PyTorch's generator in between, but no
    other: so both passes draw the same. ``torch.manual_seed`` makes a run repeatable.
    """
    number = int(torch.randint(1 << 32, (1,), device="cpu"))  # the generator uses no more bits
    return torch.Generator("cpu").manual_seed(number ^ (seed * GOLDEN % (1 << 64) >> 32))
