"""Rows from text with a separator between the columns: TSV, CSV and the like."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from hmn.errors import DataError
from hmn.facts.files.layout import (
    Layout,
    Row,
    Rows,
    blank_value,
    layout_by_header,
    layout_by_width,
    nearest,
    no_rows,
    shown,
    widths,
    wrong_width,
)
from hmn.facts.files.lines import MAX_LINE
from hmn.facts.files.source import Source

LIST_MARK = "|"
"""Separator between the values of a column that holds several."""


class _Shape(NamedTuple):
    """What the first row says about a file.

    Attributes:
        layout: the wanted columns.
        width: number of columns in the file.
        expected: ``width`` in words, for messages.
        order: where each wanted column stands in the file; None if the file has these columns in this order.
    """

    layout: Layout
    width: int
    expected: str
    order: list[int] | None


def read_delimited(
    source: Source, layouts: Sequence[Layout], separator: str, *, quotes: bool, header: bool
) -> Rows:
    """Read the wanted columns of a text file.

    A first row that names all columns of a layout, in any case and order, is a header; the file may then have
    other columns too. Without a header, the layout is the one with the same number of columns.

    Args:
        source: the file.
        layouts: alternative lists of columns, each of a different length.
        separator: the character between columns.
        quotes: quotes may enclose separators and ends of lines, as in CSV.
        header: the file must have a header.

    Raises:
        DataError: no row fits a layout; or a row is bad, and bad lines are not skipped.
    """
    if quotes:
        records = _quoted_records(source, separator)
    else:
        records = ((number, line.split(separator)) for number, line in source.lines())
    shape, records = _shape_of(source, records, layouts, separator, header)
    return Rows(shape.layout, _rows(source, records, shape, separator))


def _shape_of(
    source: Source, records: Iterator[Row], layouts: Sequence[Layout], separator: str, header: bool
) -> tuple[_Shape, Iterator[Row]]:
    """Find the shape of a file from its first good row; also gives the rows that hold values."""
    for number, cells in records:
        layout, order = layout_by_header(cells, layouts)
        if layout is not None:
            return _Shape(layout, len(cells), f"{len(cells)} (as in the header)", order), records
        if header:
            raise DataError(
                f"{source.path}:{number}: the header has columns {shown(cells)}, expected {layouts[0]}: "
                f"give the file's own names, in the order subject, relation, object{nearest(cells, layouts)}"
            )
        layout = layout_by_width(len(cells), layouts)
        if layout is not None and len({cell.strip().casefold() for cell in cells} & set(layout.columns)) >= 2:
            raise DataError(
                f"{source.path}:{number}: the first row, {shown(cells)}, names some of the columns {layout}, "
                f"expected a header that names all of them, or none: correct it{nearest(cells, layouts)}"
            )
        if layout is not None:
            return _Shape(layout, len(cells), widths(layout), None), chain([(number, cells)], records)
        hint = f"; if a character other than {separator!r} separates the columns, give it as separator"
        source.bad(number, wrong_width(len(cells), widths(*layouts), separator) + hint)
    raise no_rows(source)


def _rows(source: Source, records: Iterator[Row], shape: _Shape, separator: str) -> Iterator[Row]:
    """Pick the wanted columns from split lines."""
    layout, width, expected, order = shape
    splits_list = layout.has_list and separator != LIST_MARK
    for number, cells in records:
        if len(cells) != width:
            source.bad(number, wrong_width(len(cells), expected, separator))
            continue
        if order is not None:
            cells = [cells[place] for place in order]
        if splits_list:
            cells[-1:] = [value for value in cells[-1].split(LIST_MARK) if value.strip()] or [""]
        if all(map(str.strip, cells)):
            yield number, cells
        else:
            source.bad(number, blank_value(layout, cells))


def _quoted_records(source: Source, separator: str) -> Iterator[Row]:
    """Split lines in which quotes may enclose separators and ends of lines, as the csv module does.

    After a quote that is never closed, reading resumes at the line below the one that opened it.
    """
    lines = source.lines()
    unread: list[tuple[int, str]] = []  # the next line comes last
    while (numbered := unread.pop() if unread else next(lines, None)) is not None:
        number, line = numbered
        if '"' not in line:
            yield number, line.split(separator)
            continue
        continuation: list[tuple[int, str]] = []
        text = _record_text(line, unread, lines, continuation)
        try:
            cells = next(csv.reader(text, delimiter=separator, strict=True))
        except csv.Error as error:
            source.bad(number, f"badly quoted CSV ({error})")
            unread.extend(reversed(continuation))
            continue
        yield number, cells


def _record_text(
    line: str,
    unread: list[tuple[int, str]],
    lines: Iterator[tuple[int, str]],
    continuation: list[tuple[int, str]],
) -> Iterator[str]:
    """Give a line and, while the csv module asks for more, the lines below it, noted in ``continuation``."""
    yield line + "\n"
    length = len(line)
    while length <= MAX_LINE:
        numbered = unread.pop() if unread else next(lines, None)
        if numbered is None:
            return
        continuation.append(numbered)
        length += len(numbered[1])
        yield numbered[1] + "\n"
