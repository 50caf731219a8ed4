"""Keeps the caller's autocast and inference mode from changing how a structure computes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def own_arithmetic(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run a function without the caller's autocast and inference mode.

    Under autocast its products would be taken in 16 bits. Tensors made under ``torch.inference_mode`` could
    not be changed in place afterwards.
    """

    @wraps(function)
    def called(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
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
