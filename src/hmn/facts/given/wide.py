"""Wide tables in files of any format, recognised or asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from hmn.errors import DataError
from hmn.facts.files.delimited import split_lines
from hmn.facts.files.excel import read_sheet
from hmn.facts.files.formats import format_of, has_quotes, recognised
from hmn.facts.files.json_lines import first_items, json_items
from hmn.facts.files.layout import BadRowError, Layout, layout_by_header, names_some, no_rows, shown
from hmn.facts.files.parquet import column_names, text_batches
from hmn.facts.files.separators import MOST_TITLES, SEPARATORS, first_rows, fit, note_titles, titles_above
from hmn.facts.files.source import Source
from hmn.facts.wide.cells import Cell
from hmn.facts.wide.facts import WideRow, WideTable
from hmn.facts.wide.recognition import FEWEST_COLUMNS, looks_wide, names_facts, perhaps_wide

SHOWN_ROWS = 200
"""Number of rows of a spreadsheet by which a wide table is recognised."""


def wide_table(source: Source, layout: Layout, separator: str | None, wide: bool | None) -> WideTable | None:
    """The wide table that a file holds; None if it holds rows of facts.

    Args:
        source: the file.
        layout: the columns of facts.
        separator: the text between columns, if it is given.
        wide: whether the user says that it is a wide table; None if that is to be recognised.
    """
    if wide is False:
        return None
    kind = format_of(source)
    if kind == "parquet":
        names = column_names(source)
        return WideTable(names, _parquet_rows(source, names)) if _is_wide(names, layout, wide) else None
    if kind == "json":
        return _json_table(source) if _is_wide(_keys(source), layout, wide) else None
    if kind == "excel":
        rows = read_sheet(source, [layout])
        first = [cells for _, cells in rows[:SHOWN_ROWS]]
        if wide or (fit(first, [layout], "") < 1 and looks_wide(first)):
            return _with_header(source, iter(rows))
        _note_if_doubtful(source, first, layout)
        return None
    found = _separator(source, layout, separator, wide)
    return (
        None if found is None else _with_header(source, split_lines(source, found, has_quotes(source, found)))
    )


def _is_wide(names: Sequence[str], layout: Layout, wide: bool | None) -> bool:
    """Whether named columns are those of a wide table."""
    if wide is not None:
        return wide
    if layout_by_header(names, [layout]) is not None or names_some(names, layout):
        return False
    return len(names) >= FEWEST_COLUMNS and not names_facts(names)


def _separator(source: Source, layout: Layout, given: str | None, wide: bool | None) -> str | None:
    """The separator of a wide table in a text file; None if it holds rows of facts."""
    usual = recognised(source, [layout], given)
    rows = first_rows(source, usual, has_quotes(source, usual))
    if wide is None and (fit(rows, [layout], usual) >= 1 or (rows and names_some(rows[0], layout))):
        _note_if_doubtful(source, rows, layout)
        return None
    known = (
        [given] if given is not None and any(given in line for _, line in source.first_lines) else SEPARATORS
    )
    tables = {
        each: _from_header(first_rows(source, each, has_quotes(source, each)))
        for each in dict.fromkeys([usual, *known])
    }
    widths = {each: len(rows[0]) for each, rows in tables.items() if rows and (wide or looks_wide(rows))}
    return max(widths, key=lambda each: widths[each]) if widths else (usual if wide else None)


def _from_header(rows: list[list[str]]) -> list[list[str]]:
    """Rows without titles above them, and without the empty rows and last columns that spreadsheets add."""
    filled = [row for row in rows[titles_above(rows) :] if any(map(str.strip, row))]
    width = max((place for row in filled for place, cell in enumerate(row, 1) if cell.strip()), default=0)
    return [row[:width] for row in filled]


def _note_if_doubtful(source: Source, rows: Sequence[Sequence[str]], layout: Layout) -> None:
    """Say how rows of three columns are read, if they may be meant otherwise."""
    if rows and layout_by_header(rows[0], [layout]) is None and perhaps_wide(rows):
        source.note(
            f"{source.path}: rows of 3 columns, the first of them {shown(rows[0])}, read as facts: {layout}; "
            "if each row is an entity and each column a relation, give --wide (or --subject COLUMN); "
            "if the first row names the columns of facts, give --columns"
        )


def _with_header(source: Source, records: Iterator[tuple[int, list[str]]]) -> WideTable:
    """A table whose first row names its columns, below titles.

    Raises:
        DataError: there is no row, or one column alone.
    """
    head = list(islice(records, MOST_TITLES + 2))
    if not head:
        raise no_rows(source)
    titles = titles_above([cells for _, cells in head])
    note_titles(source, head[:titles])
    (number, header), *below = head[titles:]
    if len(header) < 2:
        raise DataError(
            f"{source.path}:{number}: the header has 1 column, {shown(header)}, expected those of the "
            "entity's name and of each relation: give the text between columns (--separator)"
        )
    return WideTable(header, ((line, list(cells)) for line, cells in chain(below, records)))


def _keys(source: Source) -> list[str]:
    """The keys of the first objects of a JSON file, in the order in which they come."""
    keys: dict[str, None] = {}
    for item in first_items(source):
        if isinstance(item, dict):
            keys.update(dict.fromkeys(item))
    return list(keys)


def _json_table(source: Source) -> WideTable:
    """The objects of a file; the columns are all keys, in the order in which they come."""
    items: list[tuple[int, dict[str, Any]]] = []
    names: dict[str, None] = {}
    for number, item in json_items(source):
        if isinstance(item, dict):
            names.update(dict.fromkeys(item))
            items.append((number, item))
        else:
            source.bad(number, f"a JSON {type(item).__name__}, expected one object per line")
    return WideTable(list(names), _json_rows(source, items, list(names)))


def _json_rows(
    source: Source, items: Sequence[tuple[int, dict[str, Any]]], names: list[str]
) -> Iterator[WideRow]:
    for number, item in items:
        try:
            yield number, [_json_cell(name, item.get(name)) for name in names]
        except BadRowError as error:
            source.bad(number, str(error))


def _json_cell(name: str, value: Any) -> Cell:
    """A value of an object as text, or as the texts of a list."""
    if isinstance(value, list):
        return [cell for each in value if isinstance(cell := _json_cell(name, each), str)]
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else value
    if not isinstance(text, str):
        raise BadRowError(
            f"the value of {name!r:.80} is a JSON {type(value).__name__}, expected text or a list"
        )
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise BadRowError(f"NUL, or half of a surrogate pair, in the value of {name!r:.80}")
    return text


def _parquet_rows(source: Source, names: Sequence[str]) -> Iterator[WideRow]:
    rows = chain.from_iterable(zip(*columns, strict=True) for columns in text_batches(source, names))
    for number, row in enumerate(rows, 1):
        yield number, ["" if cell is None else cell for cell in row]
