"""Rows of named columns out of a file: TSV, CSV, any separator, JSON lines or Parquet; plain, gz or zst.

Text is read by a loop of our own, so that a bad line is known by its number in the file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from hmn.errors import DataError
from hmn.facts.files.parquet import parquet_columns, parquet_rows
from hmn.facts.files.source import MAX_LINE, Problems, open_bytes, text_lines

LIST_MARK = "|"
"""Stands between the values of a column that holds several, in text formats."""

_SEPARATORS = {".tsv": "\t", ".txt": "\t", ".tab": "\t", ".csv": ",", ".psv": "|"}
_JSON = {".jsonl", ".ndjson", ".json"}
Columns = tuple[str, ...]
Row = tuple[int, list[str]]


@dataclass(frozen=True)
class Rows:
    """The rows of a file.

    Attributes:
        columns: which of the wanted layouts the file has.
        rows: ``(line number from 1, the values in the order of columns)``; no value is empty. The values of
            the column ``listed``, which must come last in its layout, follow one another.
    """

    columns: Columns
    rows: Iterator[Row]


def read_rows(
    path: Path,
    layouts: Sequence[Columns],
    problems: Problems,
    *,
    separator: str | None = None,
    header: bool = False,
    listed: str | None = None,
    progress: bool = False,
) -> Rows:
    """Read the wanted columns of a file of any known format.

    The format is told by the suffix (``.tsv .txt .csv .psv .jsonl .ndjson .json .parquet``, then perhaps
    ``.gz`` or ``.zst``), else by the first bytes; a text file of unknown kind is tab-separated. A text file
    whose first row names all columns of a layout, in any case and order, has a header, and may have other
    columns too; without a header the layout is the one with that many columns. JSON and Parquet go by names.

    Args:
        path: the file.
        layouts: the alternative lists of columns, each of another length.
        problems: where bad rows go.
        separator: the one character between columns; makes the file a text file.
        header: the file must have a header.
        listed: a last column that may hold several values, with ``|`` between them or as a list.
        progress: show a bar on a terminal.

    Raises:
        DataError: the file cannot be read, is empty, has not the columns, or has a bad row that may not be
            skipped.
    """
    if separator is not None and len(separator) != 1:
        raise DataError(f"separator is {separator!r}, expected one character: write a tab as a real tab")
    kind = _format(path) if separator is None else "text"
    if kind == "parquet":
        columns = parquet_columns(path, layouts)
        return Rows(columns, parquet_rows(path, columns, problems, listed, progress))
    if kind == "json":
        return _json_rows(path, layouts, problems, listed, progress)
    separator = separator or _SEPARATORS.get(_suffix(path), "\t")
    lines = text_lines(path, problems, progress)
    if separator == "," or _suffix(path) == ".csv":
        records = _quoted_records(path, lines, separator, problems)
    else:
        records = ((number, line.split(separator)) for number, line in lines)
    return _text_rows(path, records, layouts, problems, separator, header, listed)


def is_text(path: Path) -> bool:
    """Whether a file is read as plain lines with a separator that no quotes protect (so not CSV).

    Raises:
        DataError: the file cannot be read.
    """
    return _format(path) == "text" and _suffix(path) != ".csv"


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in {".gz", ".zst"}:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _format(path: Path) -> str:
    """Tell ``parquet``, ``json`` or ``text`` by the suffix, else by the first bytes."""
    with open_bytes(path) as read:
        start = read(4096)
    if start.startswith(b"PAR1") or _suffix(path) == ".parquet":
        return "parquet"
    if _suffix(path) in _JSON or (_suffix(path) not in _SEPARATORS and start.lstrip().startswith(b"{")):
        return "json"
    return "text"


def _text_rows(
    path: Path,
    records: Iterator[tuple[int, list[str]]],
    layouts: Sequence[Columns],
    problems: Problems,
    separator: str,
    header: bool,
    listed: str | None,
) -> Rows:
    """Find the layout of split lines, and pick its columns out of them."""
    columns: Columns | None = None
    for number, cells in records:
        columns, place = _layout_by_header(cells, layouts)
        if columns is not None:
            shape = f"{len(cells)} (as in the header)"
            first = None
            break
        if header:
            raise DataError(
                f"{path}:{number}: the header has columns {_shown(cells)}, expected {', '.join(layouts[0])}: "
                f"give the names that the file has, in the order subject, relation, object"
            )
        columns = next((layout for layout in layouts if len(layout) == len(cells)), None)
        if columns is not None:
            shape = _shape([columns])
            first = number, cells
            break
        hint = f"; if another character than {separator!r} stands between the columns, give it as separator"
        problems.bad(path, number, _wrong_width(len(cells), _shape(layouts), separator) + hint)
    if columns is None:
        raise _no_rows(path)
    mark = LIST_MARK if columns[-1] == listed and separator != LIST_MARK else None
    width = len(cells)

    def rows() -> Iterator[Row]:
        for number, cells in records if first is None else chain([first], records):
            if len(cells) != width:
                problems.bad(path, number, _wrong_width(len(cells), shape, separator))
                continue
            if place is not None:
                cells = [cells[column] for column in place]
            if mark:
                cells[-1:] = [part for part in cells[-1].split(mark) if part.strip()] or [""]
            if all(map(str.strip, cells)):
                yield number, cells
            else:
                problems.bad(path, number, _empty(columns, cells))

    return Rows(columns, rows())


def _layout_by_header(
    cells: list[str], layouts: Sequence[Columns]
) -> tuple[Columns, list[int]] | tuple[None, None]:
    """Find the layout whose columns a first row names, and where each stands in it."""
    names = [cell.strip().casefold() for cell in cells]
    for layout in layouts:
        wanted = [name.strip().casefold() for name in layout]
        if set(wanted) <= set(names):
            return layout, [names.index(name) for name in wanted]
    return None, None


def _quoted_records(
    path: Path, lines: Iterator[tuple[int, str]], separator: str, problems: Problems
) -> Iterator[tuple[int, list[str]]]:
    """Split lines in which quotes may protect separators and ends of line, as the csv module reads them.

    After a quote that is never closed, reading goes on at the line that follows it.
    """
    ahead: list[tuple[int, str]] = []
    while True:
        start = ahead.pop() if ahead else next(lines, None)
        if start is None:
            return
        if '"' not in start[1]:
            yield start[0], start[1].split(separator)
            continue
        used: list[tuple[int, str]] = []

        def record(start: tuple[int, str] = start, used: list[tuple[int, str]] = used) -> Iterator[str]:
            yield start[1] + "\n"
            length = len(start[1])
            while length <= MAX_LINE:
                line = ahead.pop() if ahead else next(lines, None)
                if line is None:
                    return
                used.append(line)
                length += len(line[1])
                yield line[1] + "\n"

        try:
            cells = next(csv.reader(record(), delimiter=separator, strict=True))
        except csv.Error as error:
            problems.bad(path, start[0], f"badly quoted CSV ({error})")
            ahead.extend(reversed(used))
            continue
        yield start[0], cells


def _json_rows(
    path: Path, layouts: Sequence[Columns], problems: Problems, listed: str | None, progress: bool
) -> Rows:
    """Read one JSON object a line; the first good one settles the layout."""

    def rows() -> Iterator[tuple[Columns, Row]]:
        candidates = layouts
        for number, line in text_lines(path, problems, progress):
            columns, cells, reason = _json_cells(line, candidates, listed)
            if reason:
                problems.bad(path, number, reason)
            else:
                candidates = [columns]
                yield columns, (number, cells)

    found = rows()
    first = next(found, None)
    if first is None:
        raise _no_rows(path)
    return Rows(first[0], (row for _, row in chain([first], found)))


def _json_cells(line: str, layouts: Sequence[Columns], listed: str | None) -> tuple[Columns, list[str], str]:
    """Take the values of an object as text; the last result says what is wrong with it, or is empty."""
    try:
        item = json.loads(line, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        return (), [], f"bad JSON ({error}): expected one object a line"
    expected = " or ".join(", ".join(layout) for layout in layouts)
    if not isinstance(item, dict):
        return (), [], f"a JSON {type(item).__name__}, expected one object a line with {expected}"
    columns = next((layout for layout in layouts if all(key in item for key in layout)), None)
    if columns is None:
        return (), [], f"the JSON object has keys {_shown(list(item))}, expected {expected}"
    cells: list[str] = []
    for name in columns:
        value = item[name]
        values = value if name == listed and isinstance(value, list) else [value]
        for one in values:
            if not isinstance(one, str):
                return (), [], f"the value of {name!r} is {type(one).__name__}, expected text or a number"
            if "\0" in one:
                return (), [], f"NUL character in the value of {name!r}"
            if any("\ud800" <= character <= "\udfff" for character in one):
                return (), [], f"half of a surrogate pair in the value of {name!r}"
        cells.extend(values or [""])
    return columns, cells, "" if all(map(str.strip, cells)) else _empty(columns, cells)


def _wrong_width(got: int, expected: str, separator: str) -> str:
    return f"wrong column count: got {got}, expected {expected} with {separator!r} between them"


def _shape(layouts: Sequence[Columns]) -> str:
    return " or ".join(f"{len(layout)} ({', '.join(layout)})" for layout in layouts)


def _no_rows(path: Path) -> DataError:
    return DataError(f"{path}: no rows in it: expected a table, one row a line")


def _empty(columns: Columns, cells: list[str]) -> str:
    at = next(i for i, cell in enumerate(cells) if not cell.strip())
    return f"empty field: {columns[min(at, len(columns) - 1)]}"


def _shown(names: Sequence[str]) -> str:
    """Show the first few names of a list, each cut to a readable length."""
    return ", ".join(repr(name[:40]) for name in names[:8]) + (", …" if len(names) > 8 else "")
