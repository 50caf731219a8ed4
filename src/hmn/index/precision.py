"""The arithmetic of a structure is its own, whatever is switched on around it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def own_arithmetic(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to compute in float32 and make tensors that can be changed, wherever it is called.

    Autocast would take its products in 16 bits; what is built under ``torch.inference_mode`` could not be
    updated outside of it.
    """

    @wraps(function)
    def called(*arguments: P.args, **named: P.kwargs) -> R:
        if not (
            torch.is_autocast_enabled("cpu")
            or torch.is_autocast_enabled("cuda")
            or torch.is_inference_mode_enabled()
        ):
            return function(*arguments, **named)
        with ExitStack() as outside:
            outside.enter_context(torch.inference_mode(False))
            outside.enter_context(torch.no_grad())
            for device in filter(torch.is_autocast_enabled, ("cpu", "cuda")):
                outside.enter_context(torch.autocast(device, enabled=False))
            return function(*arguments, **named)

    return called
