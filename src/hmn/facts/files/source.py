"""A source of rows: a file, or rows given in Python, and what to do with its bad lines."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

from hmn.errors import DataError, check_flag
from hmn.facts.files.raw.encodings import as_utf8, check_encoding, encoding_of
from hmn.facts.files.raw.lines import BadText, read_lines
from hmn.facts.files.raw.opening import is_packed, is_stream, open_bytes, readable
from hmn.facts.files.raw.packed import ReadBytes

KEPT_MESSAGES = 5
"""Number of messages about skipped lines that are kept; later ones are only counted."""
FIRST_BYTES = 1 << 16
"""Number of bytes by which a format, an encoding and a separator are recognised."""
MOST_HELD = 1 << 30
"""Upper limit of the bytes of a file that must be held in memory, such as a table in Parquet from a pipe."""


@dataclass(frozen=True)
class Skipped:
    """Lines that were skipped or left out in part, such as bad ones.

    Attributes:
        total: their number.
        messages: what was wrong with the first few (``file:line: reason``).
    """

    total: int = 0
    messages: tuple[str, ...] = ()


NONE_SKIPPED = Skipped()
"""Count of lines where none was skipped."""


class Source:
    """A file, or rows given in Python, whose bad lines either raise an error or are counted and skipped.

    Args:
        path: the file, where ``-`` is standard input; for rows given in Python, the word that their messages
            begin with (``triples``).
        skip_bad: count bad lines and go on, instead of raising at the first one.
        progress: show a bar while the file is read, if standard error is a terminal.
        encoding: the encoding of text that is not UTF-8.
        sheet: the sheet of a spreadsheet.

    Raises:
        DataError: the path is none, or there is no such encoding.
    """

    def __init__(
        self,
        path: Path | str,
        skip_bad: bool = False,
        *,
        progress: bool = False,
        encoding: str | None = None,
        sheet: str | None = None,
    ) -> None:
        if not isinstance(path, (str, PathLike)):
            raise DataError(f"path is {path!r:.80}, expected the path of a file as text or Path")
        self.path, self.progress = Path(path), progress
        self.skip_bad, self.encoding = check_flag("skip_bad", skip_bad), check_encoding(encoding)
        self.sheet = sheet
        self.notes: list[str] = []
        self._count = _Count()
        self._stream: tuple[ExitStack, ReadBytes] | None = (
            None  # what can be read only once, while it is open
        )

    def sibling(self, path: Path | str) -> Source:
        """Another file, treated the same; bad lines and notes of both files are kept together."""
        other = Source(path, self.skip_bad, progress=self.progress, encoding=self.encoding)
        other._count, other.notes = self._count, self.notes
        return other

    @cached_property
    def start(self) -> bytes:
        """The first bytes, unpacked; all of a small file.

        Raises:
            DataError: the file cannot be read.
        """
        if not is_stream(self.path):
            with open_bytes(self.path) as read:
                return _filled(read, FIRST_BYTES)
        stack = ExitStack()
        read = stack.enter_context(open_bytes(self.path, self.progress))
        self._stream = stack, read
        return _filled(read, FIRST_BYTES)

    @contextmanager
    def opened(self) -> Iterator[ReadBytes]:
        """Open the file from its start, unpacked. A stream can be opened only once.

        Raises:
            DataError: the file cannot be read.
        """
        if not is_stream(self.path):
            with open_bytes(self.path, self.progress) as read:
                yield read
            return
        start = io.BytesIO(self.start)
        if self._stream is None:
            raise DataError(f"{self.path}: it can be read only once, expected a file: give each stream once")
        (stack, rest), self._stream = self._stream, None
        with stack:
            yield lambda size: start.read(size) or rest(size)

    @property
    def is_plain(self) -> bool:
        """Whether other programs can read the file by its path: it is neither packed nor a stream."""
        return not is_stream(self.path) and not is_packed(self.path)

    @cached_property
    def held(self) -> bytes:
        """The whole file, unpacked.

        Raises:
            DataError: the file cannot be read, or is too large.
        """
        with self.opened() as read:
            data = _filled(read, MOST_HELD + 1)
        if len(data) > MOST_HELD:
            raise DataError(
                f"{self.path}: it is larger than {MOST_HELD:,} bytes, expected less: give it as a plain file"
            )
        return data

    def lines(self, *, empty: bool = False) -> Iterator[tuple[int, str]]:
        """Give ``(number from 1, text)`` of each line that is not empty, without its end of line.

        A line is bad if it is too long, is not UTF-8 or holds a NUL byte. A byte order mark is dropped.

        Args:
            empty: give empty lines too.

        Raises:
            DataError: the file cannot be read, or has a bad line and ``skip_bad`` is off.
        """
        encoding = encoding_of(self.start, self.encoding, self.path)
        with self.opened() as read:
            for number, line in enumerate(read_lines(as_utf8(read, encoding, self.path)), 1):
                if not isinstance(line, BadText):
                    if line or empty:
                        yield number, line
                elif line.is_endless:
                    raise DataError(f"{self.path}:{number - 1}: {line.reason}, expected lines of text")
                else:
                    self.bad(number, line.reason)

    @cached_property
    def first_lines(self) -> list[tuple[int, str]]:
        """Good lines of the start, as ``lines`` gives them; a last one that is cut is left out.

        Raises:
            DataError: as ``lines`` does.
        """
        encoding = encoding_of(self.start, self.encoding, self.path)
        is_cut = len(self.start) == FIRST_BYTES
        read = as_utf8(io.BytesIO(self.start).read, encoding, self.path, is_cut=is_cut)
        lines = list(enumerate(read_lines(read), 1))
        if is_cut:
            lines.pop()
        for number, line in lines:
            if isinstance(line, BadText) and not self.skip_bad:
                self.bad(number, line.reason)  # at once, before other things are said of the file
        return [(number, line) for number, line in lines if line and not isinstance(line, BadText)]

    def note(self, text: str) -> None:
        """Keep what a user should know about how the file was read."""
        if text not in self.notes:
            self.notes.append(text)

    def bad(self, line: int, reason: str) -> None:
        """Report a bad line, numbered from 1.

        Raises:
            DataError: ``skip_bad`` is off.
        """
        message = f"{self.path}:{line}: {reason}"
        if not self.skip_bad:
            raise DataError(f"{message}; correct the line, or skip bad lines with skip_bad (--skip-bad)")
        self._count.add(message)

    @property
    def skipped(self) -> Skipped:
        """The lines skipped until now, those of siblings included."""
        return Skipped(self._count.total, tuple(self._count.messages))

    def readable(self) -> AbstractContextManager[None]:
        """Turn any failure to read the file into a ``DataError`` that names it."""
        return readable(self.path)


def _filled(read: ReadBytes, size: int) -> bytes:
    """Read a number of bytes, or all there are if they are fewer."""
    parts: list[bytes] = []
    while size > 0 and (data := read(min(size, FIRST_BYTES))):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


class _Count:
    """Counts bad lines, and keeps the first few messages."""

    def __init__(self) -> None:
        self.total = 0
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        self.total += 1
        if len(self.messages) < KEPT_MESSAGES:
            self.messages.append(message)
