"""A source of rows: a file, or rows given in Python, and what to do with its bad lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from hmn.errors import DataError, check_flag
from hmn.facts.files.lines import BadText, open_bytes, read_lines, readable

KEPT_MESSAGES = 5
"""Number of messages about skipped lines that are kept; later ones are only counted."""


@dataclass(frozen=True)
class Skipped:
    """Lines that were skipped or left out in part, such as bad ones.

    Attributes:
        total: their number.
        messages: what was wrong with the first few (``file:line: reason``).
    """

    total: int = 0
    messages: tuple[str, ...] = ()


class Source:
    """A file, or rows given in Python, whose bad lines either raise an error or are counted and skipped.

    Args:
        path: the file; for rows given in Python, the word that their messages begin with (``triples``).
        skip_bad: count bad lines and go on, instead of raising at the first one.
        progress: show a bar while the file is read, if standard error is a terminal.
    """

    def __init__(self, path: Path | str, skip_bad: bool = False, *, progress: bool = False) -> None:
        if not isinstance(path, (str, PathLike)):
            raise DataError(f"path is {path!r:.80}, expected the path of a file as text or Path")
        self.path, self.progress = Path(path), progress
        self.skip_bad = check_flag("skip_bad", skip_bad)
        self._count = _Count()

    def sibling(self, path: Path | str) -> Source:
        """Another file, treated the same; bad lines of both files are counted together."""
        other = Source(path, self.skip_bad, progress=self.progress)
        other._count = self._count
        return other

    def lines(self) -> Iterator[tuple[int, str]]:
        """Give ``(number from 1, text)`` of each line that is not empty, without its end of line.

        A line is bad if it is too long, is not UTF-8 or holds a NUL byte. A byte order mark is dropped.

        Raises:
            DataError: the file cannot be read, or has a bad line and ``skip_bad`` is off.
        """
        with open_bytes(self.path, self.progress) as read:
            for number, line in enumerate(read_lines(read), 1):
                if isinstance(line, BadText):
                    self.bad(number, line.reason)
                elif line:
                    yield number, line

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


class _Count:
    """Counts bad lines, and keeps the first few messages."""

    def __init__(self) -> None:
        self.total = 0
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        self.total += 1
        if len(self.messages) < KEPT_MESSAGES:
            self.messages.append(message)
