"""Which kernels run: the compiled ones for tensors on the CPU, PyTorch for all others.

The environment variable ``HMN_KERNELS`` overrides the choice. ``pytorch``, or its older name ``twin``, turns
the compiled kernels off; ``portable``, ``avx2`` and ``avx512`` choose the instructions that they use.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from hmn.errors import ConfigError

PYTORCH = ("pytorch", "twin")
"""Values of ``HMN_KERNELS`` that turn the compiled kernels off; ``kernels`` reports the last one."""
STORAGE = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""Number of each type of key, as in ``Storage`` of ``kernels/simd.hpp``."""


def load(wanted: str) -> ModuleType | None:
    """Load the compiled kernels.

    Args:
        wanted: a value of ``HMN_KERNELS``; "" chooses the fastest instructions that the processor has.

    Returns:
        The module; None if PyTorch is wanted, or, with a warning, if the kernels were not built.

    Raises:
        ConfigError: ``wanted`` is unknown, or the processor lacks these instructions.
    """
    if wanted in PYTORCH:
        return None
    try:
        module = import_module("hmn._native._kernels")
    except ImportError:
        warnings.warn(
            "hmn was installed without its compiled kernels, so searches run on PyTorch, several times "
            "slower: install a C++ compiler, then reinstall hmn",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    if wanted:
        try:
            module.use(wanted)
        except ValueError:
            names = ", ".join([*PYTORCH, *module.available()])
            raise ConfigError(f"HMN_KERNELS is {wanted!r}, expected one of {names}") from None
    return module


compiled = load(os.environ.get("HMN_KERNELS", ""))
"""The compiled kernels; None if everything runs on PyTorch."""


def kernels_for(tensor: Tensor) -> ModuleType | None:
    """The compiled kernels if they can work on this tensor; None if PyTorch has to."""
    return compiled if tensor.is_cpu else None


def kernels(device: torch.device | None = None) -> str:
    """What searches on a device (default: the CPU) run on: ``avx512``, ``avx2``, ``portable`` or ``twin``.

    ``twin`` means PyTorch.
    """
    if compiled is None or (device is not None and device.type != "cpu"):
        return PYTORCH[-1]
    return str(compiled.in_use())
