"""Opens a file for reading: a plain or packed one, a pipe, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from hmn.errors import DataError
from hmn.facts.files.raw.packed import MAGIC, ReadBytes, compression_of, unpacked

STDIN = Path("-")
"""Path that stands for standard input."""


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


def is_stream(path: Path) -> bool:
    """Whether a path can be read only once: standard input, a pipe, or a device."""
    try:
        return path == STDIN or (path.exists() and not path.is_file() and not path.is_dir())
    except (OSError, ValueError):  # no path at all, which opening it reports
        return False


def is_packed(path: Path) -> bool:
    """Whether a file is packed.

    Raises:
        DataError: it cannot be read.
    """
    with readable(path), path.open("rb") as file:
        return compression_of(file.read(MAGIC)) is not None


@contextmanager
def open_bytes(path: Path, progress: bool = False) -> Iterator[ReadBytes]:
    """Open a file for reading; what is packed, recognised by its first bytes, is unpacked.

    Args:
        path: the file; ``-`` is standard input.
        progress: show a bar of the bytes read, if standard error is a terminal.

    Raises:
        DataError: the file does not exist or cannot be read, or its packed data is damaged or incomplete.
    """
    # a saved model is read without them
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)
    with readable(path), ExitStack() as stack:
        if is_stream(path):
            raw, start = _open_stream(path, stack)
            size = None
        else:
            raw = stack.enter_context(pa.OSFile(str(path)))
            start = raw.read(MAGIC)
            raw.seek(0)
            size = raw.size()
        bar = stack.enter_context(Progress(console=console, disable=hidden, transient=True))
        task = bar.add_task(f"reading {path.name}", total=size)
        stream = unpacked(raw, start, path)

        def read(size: int) -> bytes:
            data = stream(size)
            bar.update(task, completed=raw.tell())
            return data

        yield read


def _open_stream(path: Path, stack: ExitStack) -> tuple[Any, bytes]:
    """Open what can be read only once; also gives its first bytes, which will be read again."""
    file: BinaryIO = sys.stdin.buffer if path == STDIN else stack.enter_context(path.open("rb"))
    start = file.read(MAGIC)
    return pa.PythonFile(_Rejoined(start, file), mode="r"), start


class _Rejoined:
    """A file of which the first bytes have been read already."""

    closed = False

    def __init__(self, start: bytes, file: BinaryIO) -> None:
        self.start, self.file = start, file
        self.position = 0

    def read(self, size: int) -> bytes:
        """Read up to a number of bytes."""
        data, self.start = self.start[:size], self.start[size:]
        if len(data) < size:
            data += self.file.read(size - len(data))
        self.position += len(data)
        return data

    def tell(self) -> int:
        """Give the number of bytes read."""
        return self.position

    def close(self) -> None:
        """Leave the file to the one who opened it."""
