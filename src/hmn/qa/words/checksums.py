"""CRC32 checksums of many short spans of bytes at once, equal to those of ``zlib.crc32``."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0xEDB88320
"""CRC32's polynomial, lowest bit first."""


def crc32_of_spans(data: NDArray[np.uint8], begin: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Checksums ``(n,)`` of the ``size`` bytes from each place ``begin`` (n,) on."""
    table, value = _table(), np.full(len(begin), 0xFFFFFFFF, np.uint32)
    for byte in range(size):
        value = table[(value & np.uint32(0xFF)) ^ data[begin + byte]] ^ (value >> np.uint32(8))
    return (~value).astype(np.int64)


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint32]:
    """What each byte adds to a checksum, ``(256,)``."""
    value = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        value = np.where(
            value & np.uint32(1), np.uint32(POLYNOMIAL) ^ (value >> np.uint32(1)), value >> np.uint32(1)
        )
    return value
