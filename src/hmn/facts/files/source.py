"""Lines of text out of a plain, gzip or zstd file, a chunk at a time; bad lines are named or counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.progress import Progress

from hmn.errors import DataError

CHUNK = 1 << 20
MAX_LINE = 1 << 20
"""Longest line that is read, in bytes; a longer one is passed over without ever being held."""
KEPT_MESSAGES = 5

_COMPRESSION = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class Skipped:
    """How many bad rows were passed over, and the first few of their messages (``file:line: reason``)."""

    total: int = 0
    messages: tuple[str, ...] = ()


class Problems:
    """What to do with a bad row: refuse it, or count it and go on.

    Args:
        skip_bad: count bad rows instead of raising at the first one.
    """

    def __init__(self, skip_bad: bool = False) -> None:
        """Begin with nothing skipped."""
        self._skip_bad = skip_bad
        self._total = 0
        self._messages: list[str] = []

    def bad(self, place: Path | str, line: int, reason: str) -> None:
        """Report line ``line`` (from 1) of the file ``place``.

        Raises:
            DataError: bad rows are not to be skipped.
        """
        message = f"{place}:{line}: {reason}"
        if not self._skip_bad:
            raise DataError(f"{message}; correct it, or pass over bad lines with skip_bad (--skip-bad)")
        self._total += 1
        if len(self._messages) < KEPT_MESSAGES:
            self._messages.append(message)

    @property
    def skipped(self) -> Skipped:
        """What was skipped until now."""
        return Skipped(self._total, tuple(self._messages))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while ``path`` is read into a ``DataError`` that names it."""
    if path.is_dir():
        raise DataError(f"{path}: is a folder, expected a file: name the file in it")
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file: check the path") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: cannot be read ({error}): the file may be cut short, get it again"
        ) from error


@contextmanager
def open_bytes(path: Path, progress: bool = False) -> Iterator[Callable[[int], bytes]]:
    """Open a file and give a bounded ``read(size)``; gzip and zstd, told by their first bytes, are unpacked.

    Args:
        path: the file.
        progress: show a bar of the bytes read, if standard error is a terminal.

    Raises:
        DataError: there is no such file, it cannot be read, or its compressed data is cut short or damaged.
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
        source = pa.CompressedInputStream(raw, compression) if compression else raw
        task = bar.add_task(f"reading {path.name}", total=raw.size())

        def read(size: int) -> bytes:
            data: bytes = source.read(size)
            bar.update(task, completed=raw.tell())
            return data

        yield read


def text_lines(path: Path, problems: Problems, progress: bool = False) -> Iterator[tuple[int, str]]:
    """Give ``(number from 1, text)`` of each line that is not empty, without its end of line.

    Lines that are too long, not UTF-8, or hold a NUL byte go to ``problems``. A byte order mark is dropped.

    Raises:
        DataError: the file cannot be read, or has a bad line and none may be skipped.
    """
    number = 1
    with open_bytes(path, progress) as read:
        for block in _blocks(read):
            if block is None:
                problems.bad(path, number, f"the line is longer than {MAX_LINE:,} bytes")
                number += 1
                continue
            if number == 1:
                block = block.removeprefix(b"\xef\xbb\xbf")
            for text in _decoded(block):
                if isinstance(text, bytes):
                    problems.bad(path, number, _why_bad(text))
                elif text:
                    yield number, text
                number += 1


def _blocks(read: Callable[[int], bytes]) -> Iterator[bytes | None]:
    """Give whole lines, a chunk at a time, less the last end of line; ``None`` is one line too long."""
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


def _decoded(block: bytes) -> Iterator[str | bytes]:
    """Give the lines of a block as text, those that are not clean text as bytes."""
    try:
        text = block.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" not in text:
        if "\r" in text:
            text = text.replace("\r\n", "\n").removesuffix("\r")
        yield from text.split("\n")
        return
    for line in block.split(b"\n"):
        try:
            text = line.decode()
        except UnicodeDecodeError:
            yield line
        else:
            yield line if "\0" in text else text.removesuffix("\r")


def _why_bad(line: bytes) -> str:
    """Say why a line is not clean text."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return f"invalid UTF-8 at byte {error.start + 1} of the line"
    return f"NUL byte at byte {line.index(0) + 1} of the line (is the file UTF-16? expected UTF-8)"
