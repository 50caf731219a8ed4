"""Lines of text from a plain, gzip or zstd file, read a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from rich.console import Console
from rich.progress import Progress

from hmn.errors import DataError

CHUNK = 1 << 20
"""Number of bytes read at a time."""
MAX_LINE = 1 << 20
"""Length in bytes of the longest line that is read; a longer one is skipped without being held in memory."""

ReadBytes = Callable[[int], bytes]
"""Reads up to a number of bytes; no bytes at the end of the file."""

_COMPRESSION = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""Compression, by the first bytes of a file."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""First bytes that some editors write before UTF-8; they are dropped."""


class BadText(NamedTuple):
    """Stands for a line that is not clean text."""

    reason: str


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn any failure to read ``path`` into a ``DataError`` that names it."""
    try:
        if path.is_dir():
            raise DataError(f"{path}: got a folder, expected a file: give the path of a file in it")
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file: check the path") from error
    except (OSError, UnicodeError, pa.ArrowException) as error:  # names of files or columns may not be UTF-8
        raise DataError(
            f"{path}: cannot be read ({error}): it may be damaged or incomplete, get it again"
        ) from error


@contextmanager
def open_bytes(path: Path, progress: bool = False) -> Iterator[ReadBytes]:
    """Open a file for reading; gzip and zstd, recognised by their first bytes, are decompressed.

    Args:
        path: the file.
        progress: show a bar of the bytes read, if standard error is a terminal.

    Raises:
        DataError: the file does not exist or cannot be read, or its compressed data is damaged or incomplete.
    """
    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)
    with (
        readable(path),
        pa.OSFile(str(path)) as raw,
        Progress(console=console, disable=hidden, transient=True) as bar,
    ):
        magic: bytes = raw.read(4)
        raw.seek(0)
        compression = next((name for start, name in _COMPRESSION.items() if magic.startswith(start)), None)
        stream = pa.CompressedInputStream(raw, compression) if compression else raw
        task = bar.add_task(f"reading {path.name}", total=raw.size())

        def read(size: int) -> bytes:
            data: bytes = stream.read(size)
            bar.update(task, completed=raw.tell())
            return data

        yield read


def read_lines(read: ReadBytes) -> Iterator[str | BadText]:
    """Give every line without its end of line, empty ones too; a byte order mark is dropped."""
    is_first = True
    for block in _blocks(read):
        if block is None:
            yield BadText(f"the line is longer than {MAX_LINE:,} bytes")
        else:
            yield from _decoded(block.removeprefix(_BYTE_ORDER_MARK) if is_first else block)
        is_first = False


def _blocks(read: ReadBytes) -> Iterator[bytes | None]:
    """Give blocks of whole lines, without the last end of line; None stands for one line that is too long."""
    carry = b""
    too_long = False
    while chunk := read(CHUNK):
        end = chunk.find(b"\n")
        length = len(carry) + (end if end >= 0 else len(chunk))
        if too_long or length > MAX_LINE:
            carry = b""
            too_long = end < 0
            if too_long:
                continue
            yield None
            chunk = chunk[end + 1 :]
        last = chunk.rfind(b"\n")
        if last >= 0:
            yield carry + chunk[:last]
            carry = chunk[last + 1 :]
        else:
            carry += chunk
    if too_long:
        yield None
    elif carry:
        yield carry


def _decoded(block: bytes) -> Iterable[str | BadText]:
    """Split a block into lines of text."""
    try:
        text = block.decode()
    except UnicodeDecodeError:
        return map(_decoded_line, block.split(b"\n"))
    if "\0" in text:
        return map(_decoded_line, block.split(b"\n"))
    if "\r" in text:
        text = text.replace("\r\n", "\n").removesuffix("\r")
    return text.split("\n")


def _decoded_line(line: bytes) -> str | BadText:
    """Decode a line of a block that is not all clean text."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return BadText(f"invalid UTF-8 at byte {error.start + 1} of the line")
    if "\0" in text:
        where = line.index(0) + 1
        return BadText(f"NUL byte at byte {where} of the line (is the file UTF-16? expected UTF-8)")
    return text.removesuffix("\r")
