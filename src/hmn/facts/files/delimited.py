"""Rows from text with a separator between the columns: TSV, CSV and the like."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from hmn.errors import DataError
from hmn.facts.files.headers import heads_questions
from hmn.facts.files.layout import (
    Layout,
    Row,
    Rows,
    blank_value,
    if_wide,
    is_header,
    layout_by_header,
    layout_by_width,
    names_some,
    nearest,
    no_rows,
    shown,
    widths,
    wrong_width,
)
from hmn.facts.files.raw.lines import MAX_LINE
from hmn.facts.files.separators import LIST_MARK, declared_separator, first_rows, is_comment, is_title
from hmn.facts.files.source import Source


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
        separator: the text between columns.
        quotes: quotes may enclose separators and ends of lines, as in CSV.
        header: the file must have a header.

    Raises:
        DataError: no row fits a layout; or a row is bad, and bad lines are not skipped.
    """
    first = first_rows(source, separator, quotes)
    return pick_columns(source, split_lines(source, separator, quotes), first, layouts, separator, header)


def split_lines(source: Source, separator: str, quotes: bool) -> Iterator[Row]:
    """Split the lines of a file; one that names the separator is left out."""
    is_quoted = quotes and len(separator) == 1
    lines = _after_declaration(source.lines(empty=is_quoted))  # a cell in quotes may have empty lines
    if is_quoted:
        return _quoted_records(source, lines, separator)
    return ((number, line.split(separator)) for number, line in lines)


def _after_declaration(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Leave out a first line that names the separator."""
    for number, line in lines:
        if number > 1 or declared_separator(line) is None:
            yield number, line
        break
    yield from lines


def pick_columns(
    source: Source,
    records: Iterator[Row],
    first: Sequence[list[str]],
    layouts: Sequence[Layout],
    separator: str,
    header: bool,
) -> Rows:
    """Pick the wanted columns of rows, the first of which may be a header.

    Args:
        source: the file.
        records: its rows.
        first: the first of them, which show whether there is a header.
        layouts, header: as of ``read_delimited``.
        separator: the text between columns; empty if the file needs none.
    """
    shape, records = _shape_of(source, records, first, layouts, separator, header)
    return Rows(shape.layout, _rows(source, records, shape, separator))


def _shape_of(
    source: Source,
    records: Iterator[Row],
    first: Sequence[list[str]],
    layouts: Sequence[Layout],
    separator: str,
    header: bool,
) -> tuple[_Shape, Iterator[Row]]:
    """Find the shape of a file from its first good row; also gives the rows that hold values."""
    for number, cells in records:
        named = layout_by_header(cells, layouts)
        if named is not None and (not first or cells != first[0] or is_header(first, named[0])):
            records = (record for record in records if record[1] != cells)
            return _Shape(named[0], len(cells), f"{len(cells)} (as in the header)", named[1]), records
        if header:
            raise DataError(
                f"{source.path}:{number}: the header has columns {shown(cells)}, expected {layouts[0]}: "
                f"give the file's own names, in the order subject, relation, object{nearest(cells, layouts)}"
            )
        partly = next((layout for layout in layouts if names_some(cells, layout)), None)
        if partly is not None and named is None:
            raise DataError(
                f"{source.path}:{number}: the first row, {shown(cells)}, names some of the columns {partly}, "
                f"expected a header that names all of them, or none: correct it{nearest(cells, layouts)}"
            )
        layout = layout_by_width(len(cells), layouts)
        if layout is not None and heads_questions(cells, layout.columns):
            return _Shape(layout, len(cells), widths(layout), None), records
        if layout is not None and not is_title(cells):
            return _Shape(layout, len(cells), widths(layout), None), chain([(number, cells)], records)
        if layout is not None:  # a header may follow
            if any(map(str.strip, cells)):
                source.bad(number, blank_value(layout, cells))
            continue
        if is_comment(cells[0]) and not any(map(str.strip, cells[1:])):
            continue
        source.bad(number, _why_none_fits(cells, layouts, separator))
    raise no_rows(source)


def _why_none_fits(cells: Sequence[str], layouts: Sequence[Layout], separator: str) -> str:
    """Say that a first row has as many columns as no layout, and what may be meant."""
    reason = wrong_width(len(cells), widths(*layouts), separator)
    if hint := if_wide(cells, layouts):
        return reason + hint
    if separator:
        reason += (
            f"; if a text other than {separator!r} separates the columns, give it as separator (--separator)"
        )
    return reason


def _rows(source: Source, records: Iterator[Row], shape: _Shape, separator: str) -> Iterator[Row]:
    """Pick the wanted columns from split lines."""
    layout, width, expected, order = shape
    splits_list = layout.has_list and separator != LIST_MARK
    for number, cells in records:
        if len(cells) != width:
            if any(map(str.strip, cells)):
                source.bad(number, wrong_width(len(cells), expected, separator))
            continue
        if order is not None:
            cells = [cells[place] for place in order]
        if splits_list:
            cells[-1:] = [value for value in cells[-1].split(LIST_MARK) if value.strip()] or [""]
        if all(map(str.strip, cells)):
            yield number, cells
        elif any(map(str.strip, cells)):
            source.bad(number, blank_value(layout, cells))


def _quoted_records(source: Source, lines: Iterator[tuple[int, str]], separator: str) -> Iterator[Row]:
    """Split lines in which quotes may enclose separators and ends of lines, as the csv module does.

    After a quote that is never closed, reading resumes at the line below the one that opened it.
    """
    unread: list[tuple[int, str]] = []  # the next line comes last
    while (numbered := unread.pop() if unread else next(lines, None)) is not None:
        number, line = numbered
        if '"' not in line:
            if line:
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
