"""Lines of text, read a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from hmn.facts.files.raw.encodings import why_invalid
from hmn.facts.files.raw.packed import ReadBytes

CHUNK = 1 << 20
"""Number of bytes read at a time."""
MAX_LINE = 1 << 20
"""Length in bytes of the longest line that is read; a longer one is skipped without being held in memory."""
MOST_SKIPPED = 1 << 28
"""Length in bytes of the longest line that is skipped; a longer one is taken for endless."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""First bytes that some editors write before UTF-8; they are dropped."""


class BadText(NamedTuple):
    """Stands for a line that is not clean text.

    Attributes:
        reason: what is wrong with it.
        is_endless: its end was not found, and nothing more is read.
    """

    reason: str
    is_endless: bool = False


_TOO_LONG = BadText(f"the line is longer than {MAX_LINE:,} bytes")
"""Stand-in for a line that is too long."""
_ENDLESS = BadText(f"the line is longer than {MOST_SKIPPED:,} bytes", is_endless=True)
"""Stand-in for a line that seems to have no end."""


def read_lines(read: ReadBytes) -> Iterator[str | BadText]:
    """Give every line without its end of line, empty ones too; a byte order mark is dropped.

    Lines end with ``\\n``, ``\\r\\n``, or, where the first chunk has no ``\\n``, with ``\\r``.
    """
    is_first = True
    for block in _blocks(_chunks(read)):
        if isinstance(block, BadText):
            yield block
        else:
            yield from _decoded(block.removeprefix(_BYTE_ORDER_MARK) if is_first else block)
        is_first = False


def _chunks(read: ReadBytes) -> Iterator[bytes]:
    """Give chunks in which lines end with ``\\n`` at least."""
    chunks = iter(lambda: read(CHUNK), b"")
    first = next(chunks, b"")
    if b"\r" in first[:-1] and b"\n" not in first:
        return (chunk.replace(b"\r", b"\n") for chunk in chain([first], chunks))
    return chain([first], chunks)


def _blocks(chunks: Iterator[bytes]) -> Iterator[bytes | BadText]:
    """Give blocks of whole lines, without the last end of line, and stand-ins for lines that are too long."""
    carry = b""
    skipped = 0  # bytes of a line that is too long
    for chunk in chunks:
        end = chunk.find(b"\n")
        length = len(carry) + (end if end >= 0 else len(chunk))
        if skipped or length > MAX_LINE:
            if not skipped:
                yield _TOO_LONG  # at once, since the end of the line may never come
            carry = b""
            skipped = skipped + length if end < 0 else 0
            if skipped > MOST_SKIPPED:
                yield _ENDLESS
                return
            if end < 0:
                continue
            chunk = chunk[end + 1 :]
        last = chunk.rfind(b"\n")
        if last >= 0:
            yield carry + chunk[:last]
            carry = chunk[last + 1 :]
        else:
            carry += chunk
    if carry:
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
        return BadText(why_invalid(line, error))
    if "\0" in text:
        where = line.index(0) + 1
        return BadText(f"NUL byte at byte {where} of the line, expected text")
    return text.removesuffix("\r")
