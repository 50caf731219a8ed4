"""What hashed tables hold before training: random signs that follow from a seed and the number of the row.

Nothing else decides them, so that rows which training never touched need not be saved. They are the same on
every machine and in every version.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.index.storage.fingerprint import GOLDEN, MULTIPLIERS

ROWS_AT_A_TIME = 1 << 14
"""Number of rows that are made at a time, to bound the memory it takes."""
MOST_SEED = 1 << 62
"""Upper limit of a seed."""


def new_seed() -> Tensor:
    """A seed ``()`` from PyTorch's random numbers."""
    seed = torch.empty((), dtype=torch.int64)  # torch.randint on the device meta imports half of PyTorch
    return seed if seed.is_meta else seed.random_(MOST_SEED)


class FirstValues(NamedTuple):
    """The first values of a table.

    Attributes:
        name: name of the table; tables of different names differ.
        features: features of a row.
        size: the absolute value of each number.
    """

    name: str
    features: int
    size: float

    def of(self, seed: Tensor, rows: Tensor) -> Tensor:
        """Rows ``(n, features)`` in float32, on the CPU.

        Args:
            seed: ``()``.
            rows: ``(n,)`` numbers of the rows.
        """
        words = -(-self.features // 64)  # of 64 signs each
        # splitmix64 (Steele, Lea & Flood 2014); each table and seed has a sequence of its own
        begin = _mixed(np.array([int(seed)], np.uint64) ^ np.uint64(zlib.crc32(self.name.encode())))
        first = rows.cpu().numpy().astype(np.uint64)[:, None] * np.uint64(words)
        mixed = _mixed(begin + first + np.arange(words, dtype=np.uint64))  # (n, words)
        eights = torch.from_numpy(mixed.astype("<u8").view(np.uint8).flatten().astype(np.int32))
        signs = _signs().index_select(0, eights).view(len(rows), 64 * words)
        return signs[:, : self.features] * self.size

    def table(self, seed: Tensor, rows: int) -> Tensor:
        """The whole table ``(rows, features)`` on PyTorch's present device, which may be meta."""
        table = torch.empty(rows, self.features)
        if not table.is_meta:
            for part in torch.split(torch.arange(rows, device="cpu"), ROWS_AT_A_TIME):
                table[int(part[0]) : int(part[-1]) + 1] = self.of(seed, part)
        return table


@lru_cache(maxsize=1)
def _signs() -> Tensor:
    """The eight signs ``(256, 8)`` that each byte stands for, from its lowest bit on."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return torch.from_numpy(bits.astype(np.float32) * 2 - 1)


def _mixed(number: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers scattered over 64 bits."""
    number = (number + np.uint64(1)) * np.uint64(GOLDEN)
    for shift, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
        number = (number ^ (number >> np.uint64(shift))) * np.uint64(multiplier)
    return number ^ (number >> np.uint64(31))
