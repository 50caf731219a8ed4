"""Unpacks gzip, zstd, bzip2 and xz, and stops at files that unpack to far more than any table would."""

from __future__ import annotations

import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from hmn.errors import DataError

ReadBytes = Callable[[int], bytes]
"""Reads up to a number of bytes; no bytes at the end of the file."""

MAGIC = 16
"""Number of bytes by which a compression is recognised."""
MOST_RATIO = 250
"""Upper limit of unpacked bytes per packed byte. Tables reach 50; repeated bytes 1,000 and more."""
UNCHECKED = 16 << 20
"""Number of unpacked bytes from which the ratio is checked."""
_XZ_MEMORY = 256 << 20
"""Upper limit of the bytes of memory that unpacking xz may take."""
_XZ_CHUNK = 1 << 16
"""Number of packed bytes of xz read at a time."""

_COMPRESSION = {
    re.compile(rb"\x1f\x8b"): "gzip",
    re.compile(rb"\x28\xb5\x2f\xfd"): "zstd",
    re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"): "bz2",
    re.compile(rb"\xfd7zXZ\0"): "xz",
}
"""Compression, by the first bytes of a file."""


class Raw(Protocol):
    """An open file of bytes."""

    def read(self, size: int, /) -> bytes:
        """Read up to a number of bytes; none at the end."""

    def tell(self) -> int:
        """Give the number of bytes read."""


def compression_of(start: bytes) -> str | None:
    """The compression of a file with these first bytes; None if it is not packed."""
    return next((name for pattern, name in _COMPRESSION.items() if pattern.match(start)), None)


def unpacked(raw: Raw, start: bytes, path: Path) -> ReadBytes:
    """Read a file that may be packed, as its first ``MAGIC`` bytes say.

    Raises:
        DataError: later, from the reader: far more was unpacked than a table of this size could hold.
    """
    kind = compression_of(start)
    if kind is None:
        return raw.read
    stream = _Xz(raw) if kind == "xz" else pa.CompressedInputStream(raw, kind)
    total = 0

    def read(size: int) -> bytes:
        nonlocal total
        data: bytes = stream.read(size)
        total += len(data)
        if total > UNCHECKED and total > MOST_RATIO * raw.tell():
            raise DataError(
                f"{path}: it unpacks to more than {MOST_RATIO} times its size, expected a table: "
                "if it is one, unpack it first and give the unpacked file"
            )
        return data

    return read


class _Xz:
    """Unpacks xz a chunk at a time, in bounded memory; pyarrow does not know it."""

    def __init__(self, raw: Raw) -> None:
        self.raw, self.unpacker = raw, lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        self.left = b""

    def read(self, size: int) -> bytes:
        """Read up to a number of bytes, at least one unless the file ends.

        Raises:
            OSError: the data is damaged or incomplete.
        """
        try:
            while True:
                if self.unpacker.eof:
                    self.left = self.unpacker.unused_data or self.raw.read(_XZ_CHUNK)
                    if not self.left.strip(b"\0"):  # padding may follow the last part
                        return b""
                    self.unpacker = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
                if self.unpacker.needs_input and not self.left:
                    self.left = self.raw.read(_XZ_CHUNK)
                    if not self.left:
                        raise OSError("the xz data ends too early")
                data = self.unpacker.decompress(self.left, size)
                self.left = b""
                if data:
                    return data
        except lzma.LZMAError as error:
            raise OSError(f"damaged xz data: {error}") from error
