"""Which text separates the columns of a file, by its first lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import dropwhile, islice, takewhile

from hmn.errors import DataError
from hmn.facts.files.layout import Layout, Row, is_header, layout_by_header
from hmn.facts.files.source import Source

TAB = "\t"
"""Separator of files that do not show another one."""
LIST_MARK = "|"
"""Separator between the values of a column that holds several."""
SEPARATORS = (TAB, "|||", "||", LIST_MARK, ";", ",")
"""Separators that are recognised; where several fit a file equally well, the first does."""
QUOTED = (",", ";")
"""Separators of files whose cells may be in quotes."""
LONGEST = 16
"""Upper limit of the characters of a separator."""
MOST_TITLES = 10
"""Upper limit of the rows of titles and remarks above a header."""

_DECLARED = re.compile(r'"?sep=(.{1,16}?)"?', re.IGNORECASE)
"""Pattern of a first line in which a spreadsheet names the separator."""
_MOST_ROWS = 200
"""Number of rows by which a separator is recognised."""
_NAMED = 2.0
"""Fit of a separator that gives a header; the best fit otherwise is 1."""
_SPACED = 0.3
"""Factor of the fit of a separator that a space follows, as punctuation in a sentence."""
_MAY_BE_A_LIST = 0.4
"""Factor of the fit of a separator that may also stand between the values of a list."""


def check_separator(separator: object) -> str | None:
    """A separator that a user gave; a backslash and a ``t`` are a tab.

    Raises:
        DataError: it cannot stand between columns.
    """
    if separator is None:
        return None
    text = separator.replace("\\t", TAB) if isinstance(separator, str) else ""
    if not 0 < len(text) <= LONGEST or any(character in text for character in '\n\r\0"'):
        raise DataError(
            f"separator is {separator!r:.80}, expected the text between two columns, such as ';' or '|||'"
        )
    return text


def declared_separator(line: str) -> str | None:
    """The separator that a first line such as ``sep=;`` names; None if it is another line."""
    found = _DECLARED.fullmatch(line.strip(" "))
    return found[1] if found else None


def separator_of(
    source: Source, layouts: Sequence[Layout], *, usual: str | None, given: str | None, quotes: bool
) -> str:
    """Recognise the separator of a file.

    Args:
        source: the file.
        layouts: the lists of columns that are wanted.
        usual: the separator that the file's suffix stands for.
        given: the separator that the user gave, for the files that have it.
        quotes: cells may be in quotes, whatever the separator.
    """
    declared = declared_separator(source.first_lines[0][1]) if source.first_lines else None
    if declared is not None:
        return declared
    fits = {
        separator: fit(first_rows(source, separator, quotes or separator in QUOTED), layouts, separator)
        for separator in dict.fromkeys([given, usual, *SEPARATORS])
        if separator is not None
    }
    if given is not None and fits[given] > 0:
        return given
    best = max(fits, key=lambda separator: fits[separator])  # the first of the best
    if fits[best] > 0:
        return best
    columns = {
        separator: len(rows[0]) if (rows := first_rows(source, separator, separator in QUOTED)) else 0
        for separator in dict.fromkeys([given or usual or TAB, *SEPARATORS])
    }
    default, *_ = columns
    # no line fits: the error is to show the columns that the file has
    return default if columns[default] > 1 else max(columns, key=lambda separator: columns[separator])


def is_comment(line: str) -> bool:
    """Whether a line at the start of a file is a remark, or blank."""
    return line.startswith("# ") or not line.strip()


def is_title(cells: Sequence[str]) -> bool:
    """Whether a row above the header is a title or a remark, or blank: at most one of its cells is filled."""
    return sum(map(bool, map(str.strip, cells))) < 2 or cells[0].startswith("# ")


def titles_above(rows: Sequence[list[str]]) -> int:
    """How many rows of titles and remarks stand above the header; none if there are no other rows."""
    titles = sum(1 for _ in takewhile(is_title, rows[: MOST_TITLES + 1]))
    return titles if titles < len(rows) and titles <= MOST_TITLES else 0


def note_titles(source: Source, titles: Sequence[Row]) -> None:
    """Say which text above the header is left out."""
    filled = [(number, cell.strip()) for number, cells in titles for cell in cells if cell.strip()]
    if filled:
        number, text = filled[0]
        more = f" and {len(filled) - 1} more" if len(filled) > 1 else ""
        source.note(f"{source.path}:{number}: left out above the header: {text[:80]!r}{more}")


def first_rows(source: Source, separator: str, quotes: bool) -> list[list[str]]:
    """The rows of a file's first lines, split."""
    lines = [line for number, line in source.first_lines if number > 1 or declared_separator(line) is None]
    lines = [line for line in dropwhile(is_comment, lines) if line.strip()]
    if not quotes or len(separator) > 1:
        return [line.split(separator) for line in lines[:_MOST_ROWS]]
    rows: list[list[str]] = []
    with suppress(csv.Error):  # which is reported when the file is read
        rows.extend(islice(csv.reader((line + "\n" for line in lines), delimiter=separator), _MOST_ROWS))
    return rows


def fit(rows: Sequence[list[str]], layouts: Sequence[Layout], separator: str) -> float:
    """How well rows fit: the share that has the number of columns of one layout, or more for a header."""
    if not rows:
        return 0.0
    named = layout_by_header(rows[0], layouts)
    if named is not None and is_header(rows, named[0]):
        return _NAMED
    shares = [sum(len(row) == len(layout.columns) for row in rows) / len(rows) for layout in layouts]
    factor = 1.0
    if separator in QUOTED and any(cell.startswith(" ") for row in rows for cell in row[1:]):
        factor = _SPACED
    if separator == LIST_MARK and any(layout.has_list for layout in layouts):
        factor = _MAY_BE_A_LIST
    return factor * max(shares)
