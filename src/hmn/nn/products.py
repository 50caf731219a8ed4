"""Inner products and weighted sums in float32 at least, whatever the inputs and autocast say."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def at_full_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run a function without the caller's autocast, in which products above 65,504 become infinite."""

    @wraps(function)
    def called(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
            return function(*arguments, **named)
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*arguments, **named)

    return called


@at_full_precision
def inner_products(query: Tensor, keys: Tensor) -> Tensor:
    """Inner products of queries ``(B, D)`` with keys ``(C, D)`` or with the keys of each query ``(B, K, D)``.

    Returns:
        ``(B, C)`` or ``(B, K)``, in float32, or in float64 where one of the two is.
    """
    dtype = torch.promote_types(torch.promote_types(query.dtype, keys.dtype), torch.float32)
    query, keys = query.to(dtype), keys.to(dtype)
    return query @ keys.T if keys.dim() == 2 else torch.bmm(keys, query.unsqueeze(2)).squeeze(2)


@at_full_precision
def weighted_sum(weight: Tensor, values: Tensor) -> Tensor:
    """Sum ``(B, V)`` of values ``(C, V)`` or ``(B, K, V)`` by weights ``(B, C)`` or ``(B, K)``."""
    dtype = torch.promote_types(torch.promote_types(weight.dtype, values.dtype), torch.float32)
    weight, values = weight.to(dtype), values.to(dtype)
    return weight @ values if values.dim() == 2 else torch.bmm(weight.unsqueeze(1), values).squeeze(1)


def scaled(scale: float | Tensor, score: Tensor) -> Tensor:
    """Logits ``scale * score`` up to a number per row, which a softmax does not see; they cannot overflow.

    The largest logit of each row ``(B, K)`` is 0.
    """
    if not score.shape[-1]:
        return score
    below = score - score.detach().amax(dim=-1, keepdim=True)
    return (scale.reshape(()).to(score) if isinstance(scale, Tensor) else scale) * below
