"""Which columns a file has: by the names in its header, or by their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hmn.errors import DataError, closest
from hmn.facts.files.headers import columns_named, is_sure
from hmn.facts.files.source import Source

Row = tuple[int, list[str]]
"""A line number, from 1, and the values on that line."""


OWN_NAMES = {"subject", "relation", "object", "question", "answers", "entity", "name"}
"""Names of columns where the user gives no others."""


@dataclass(frozen=True)
class Layout:
    """The columns that are wanted from a file.

    Attributes:
        columns: their names.
        has_list: whether the last column may hold several values: ``|`` between them, or a list.
    """

    columns: tuple[str, ...]
    has_list: bool = False

    def __str__(self) -> str:
        """The names of the columns."""
        return ", ".join(self.columns)

    @property
    def list_column(self) -> str | None:
        """The column that may hold several values."""
        return self.columns[-1] if self.has_list else None


class Rows(NamedTuple):
    """The rows of a file.

    Attributes:
        layout: the wanted layout that the file has.
        rows: line number and values, in the order of the layout's columns; no value is blank. The values of
            a list come last, one after another.
    """

    layout: Layout
    rows: Iterator[Row]


class BadRowError(ValueError):
    """A row cannot be used; the message says why."""


def layout_by_header(cells: Sequence[str], layouts: Sequence[Layout]) -> tuple[Layout, list[int]] | None:
    """Find the layout whose columns are all named in a first row; also gives where each stands in the row."""
    for layout in layouts:
        places = columns_named(cells, layout.columns)
        if places is not None:
            return layout, places
    return None


def is_header(rows: Sequence[Sequence[str]], layout: Layout) -> bool:
    """Whether a first row that names the columns of a layout is a header, and not a fact in such words.

    It is a fact if its relation is that of a later row too, and if a name that is only likely, such as ``s``,
    stands anywhere else. The whole row may come again, as in files that were put one behind the other.
    """
    places = columns_named(rows[0], layout.columns)
    if places is None:
        return False
    first = list(rows[0])
    others = [row for row in rows[1:] if list(row) != first]
    if not is_sure(first, layout.columns):
        return not any(cell in first for row in others for cell in row)
    if "relation" not in layout.columns:
        return True
    place = places[layout.columns.index("relation")]
    return not any(len(row) > place and row[place] == first[place] for row in others)


def names_some(cells: Sequence[str], layout: Layout) -> bool:
    """Whether a first row names several columns of a layout by their own names, but not all."""
    return len({cell.strip().casefold() for cell in cells} & set(layout.columns)) >= 2


def layout_by_width(width: int, layouts: Sequence[Layout]) -> Layout | None:
    """Find the layout with a number of columns."""
    return next((layout for layout in layouts if len(layout.columns) == width), None)


def widths(*layouts: Layout) -> str:
    """Describe the numbers of columns that are expected."""
    return " or ".join(f"{len(layout.columns)} ({layout})" for layout in layouts)


def wrong_width(got: int, expected: str, separator: str) -> str:
    """Say that a line has too few or too many columns."""
    between = f" with {separator!r} between them" if separator else ""
    return f"wrong column count: got {got}, expected {expected}{between}"


def blank_value(layout: Layout, cells: Sequence[str]) -> str:
    """Say which column of a row is blank."""
    blank = next(place for place, cell in enumerate(cells) if not cell.strip())
    return f"empty field: {layout.columns[min(blank, len(layout.columns) - 1)]}"


def no_rows(source: Source) -> DataError:
    """The error for a file without any row."""
    return DataError(f"{source.path}: no rows, expected a table with one row per line: check the file")


def nearest(names: Sequence[str], layouts: Sequence[Layout]) -> str:
    """Which of a file's names may be misspelt columns: ``; did you mean subject instead of 'subjct'?``

    Columns that the user named are to have the file's spelling.
    """
    known = {name.strip().casefold() for name in names}
    for column in dict.fromkeys(column for layout in layouts for column in layout.columns):
        near = None if column.strip().casefold() in known else closest(column, names)
        if near is not None:
            if column in OWN_NAMES:
                return f"; did you mean {column} instead of {near[:40]!r}?"
            return f"; did you mean {near[:40]!r} instead of {column[:40]!r}?"
    return ""


def if_wide(names: Sequence[str], layouts: Sequence[Layout]) -> str:
    """What to do if a file whose columns are not those of facts is a wide table; empty for other files."""
    if len(names) < 2 or len(layouts) > 1 or "relation" not in layouts[0].columns:
        return ""
    return "; if each row is an entity and each column a relation, give --wide (or --subject COLUMN)"


def shown(names: Sequence[str]) -> str:
    """Show the first few names of a list, each cut to a readable length."""
    return ", ".join(repr(name[:40]) for name in names[:8]) + (", …" if len(names) > 8 else "")
