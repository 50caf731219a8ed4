"""Fingerprints of keys, which show whether keys have changed."""

from __future__ import annotations

import ctypes
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.index.precision import own_arithmetic

CHUNK_NUMBERS = 1 << 16
"""Numbers that are hashed at a time: 512 KiB in 64 bits, which stays in the cache."""
GOLDEN = 0x9E3779B97F4A7C15
"""Increment of splitmix64: 2^64 divided by the golden ratio, rounded to an odd number."""
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""Multipliers of splitmix64."""
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Type whose numbers are the bits of a float, by its size in bytes."""


NUMBER_OF_SPOTS = 16
"""Numbers of a tensor that ``Spots`` looks at."""


class Spots:
    """A few numbers of a tensor, which show at the price of a microsecond that all of it was overwritten.

    PyTorch does not count changes through ``Tensor.data``, NumPy or another process.

    Args:
        keys: ``(N, D)``; on a GPU, or where rows do not follow each other, nothing is noticed.
    """

    def __init__(self, keys: Tensor) -> None:
        self._pointer = 0
        keys = keys.detach()
        if (
            type(keys) is not Tensor
            or keys.device.type != "cpu"
            or not keys.is_contiguous()
            or not keys.numel()
        ):
            return
        self._pointer = keys.data_ptr()
        # not keys.numpy(), which would forbid FSDP2 to free the storage around each forward pass
        raw = (ctypes.c_char * keys.nbytes).from_address(self._pointer)
        self._numbers = np.frombuffer(memoryview(raw), dtype=f"i{keys.element_size()}")
        self._at = _spread(len(self._numbers))
        self._held = self._numbers[self._at].tobytes()

    def unchanged(self, keys: Tensor) -> bool:
        """Whether the numbers are as they were, in a tensor of the same place; true of one elsewhere."""
        if not self._pointer:
            return True
        # a storage that was freed meanwhile has another place, or none
        return keys.data_ptr() != self._pointer or self._numbers[self._at].tobytes() == self._held


@lru_cache(maxsize=64)
def _spread(count: int) -> NDArray[np.int64]:
    """Places from the first to the last of ``count`` numbers, at equal distances."""
    return np.arange(NUMBER_OF_SPOTS, dtype=np.int64) * (count - 1) // (NUMBER_OF_SPOTS - 1)


@own_arithmetic
def row_fingerprints(keys: Tensor) -> Tensor:
    """A number for the bits of each row, the same on every machine and however the rows are divided.

    Each feature's bits, as a whole number, are multiplied by a fixed odd number of 64 bits that belongs to
    the column; the sum wraps around at 2^64. Rows of different bits have different numbers but for a chance
    of about 2^-64. Zeros of different sign differ.

    Args:
        keys: ``(N, D)`` of a float type.

    Returns:
        ``(N,)`` int64.
    """
    keys = keys.detach()
    weight = _weights(keys.shape[1], keys.device)
    rows = max(1, CHUNK_NUMBERS // max(1, keys.shape[1]))
    fingerprint = torch.empty(len(keys), dtype=torch.int64, device=keys.device)
    for part, out in zip(torch.split(keys, rows), torch.split(fingerprint, rows), strict=True):
        bits = part.contiguous().view(BITS[keys.element_size()])
        torch.sum(bits * weight, dim=1, out=out)  # (rows, D) int64, then (rows,)
    return fingerprint


@lru_cache(maxsize=16)
def _weights(features: int, device: torch.device) -> Tensor:
    """The odd number ``(D,)`` of each column."""
    with torch.inference_mode(False):
        return _mixed(torch.arange(features, device=device)) | 1


def checksum_of(fingerprints: Tensor, cells: Tensor) -> int:
    """One number for cells ``(N,)`` and the fingerprints ``(N,)`` of their keys, in any order."""
    return int(_mixed(fingerprints + _mixed(cells)).sum())


def _mixed(number: Tensor) -> Tensor:
    """Numbers scattered over 64 bits by splitmix64 (Steele, Lea & Flood 2014)."""
    number = number * _signed(GOLDEN) + _signed(GOLDEN)
    for shift, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
        number = (number ^ _shifted(number, shift)) * _signed(multiplier)
    return number ^ _shifted(number, 31)


def _shifted(number: Tensor, bits: int) -> Tensor:
    """A shift to the right that fills with zeros; that of int64 repeats the sign."""
    return (number >> bits) & ((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    """64 bits as the number that int64 takes them for."""
    return number - (1 << 64) if number >= 1 << 63 else number
