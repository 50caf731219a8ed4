"""Checks tensors before the compiled kernels get their addresses: type, device, layout and shape.

The kernels check the numbers inside; see ``kernels/bounds.hpp``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hmn._native.backend import STORAGE
from hmn.errors import ShapeError


def address(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...], name: str) -> int:
    """Address of a tensor that is read or written in place.

    Raises:
        ShapeError: it has another type or shape, is not on the CPU, or is not contiguous.
    """
    if tensor.dtype is dtype and tensor.shape == shape and tensor.is_cpu and tensor.is_contiguous():
        return tensor.data_ptr()
    got = f"{tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}"
    got += "" if tensor.layout != torch.strided or tensor.is_contiguous() else ", not contiguous"
    raise ShapeError(f"{name} is {got}, expected {shape} of {dtype} on the CPU, contiguous")


def key_rows(keys: Tensor, features: int, name: str = "keys") -> tuple[int, int, int]:
    """Address, number and type of contiguous rows of float32, float16 or bfloat16.

    Raises:
        ShapeError: they have another type or other features, or are not on the CPU.
    """
    storage, shape = STORAGE.get(keys.dtype), keys.shape
    if (
        storage is not None
        and len(shape) == 2
        and shape[1] == features
        and keys.is_cpu
        and keys.is_contiguous()
    ):
        return keys.data_ptr(), shape[0], storage
    got = f"{tuple(shape)} of {keys.dtype} on {keys.device}"
    raise ShapeError(f"{name} are {got}, expected (N, {features}) of float32, float16 or bfloat16 on the CPU")
