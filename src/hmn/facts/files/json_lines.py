"""Rows from a file with one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from hmn.facts.files.headers import columns_named
from hmn.facts.files.layout import (
    BadRowError,
    Layout,
    Row,
    Rows,
    blank_value,
    layout_by_header,
    nearest,
    no_rows,
    shown,
)
from hmn.facts.files.source import Source


def read_json_lines(source: Source, layouts: Sequence[Layout]) -> Rows:
    """Read the wanted keys of each object; numbers are given as they are written.

    The first good object decides the layout.

    Raises:
        DataError: no object fits a layout; or a line is bad, and bad lines are not skipped.
    """
    rows = _rows(source, layouts)
    first = next(rows, None)
    if first is None:
        raise no_rows(source)
    return Rows(first[0], (row for _, row in chain([first], rows)))


def _rows(source: Source, layouts: Sequence[Layout]) -> Iterator[tuple[Layout, Row]]:
    for number, line in source.lines():
        try:
            item = _object(line, layouts)
            layout = _layout_of(item, layouts)
            cells = _cells(item, layout)
        except BadRowError as error:
            source.bad(number, str(error))
        else:
            layouts = [layout]
            yield layout, (number, cells)


def _object(line: str, layouts: Sequence[Layout]) -> dict[str, Any]:
    try:
        item = json.loads(line, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise BadRowError(f"bad JSON ({error}): expected one object per line") from error
    if not isinstance(item, dict):
        hint = "; 'jq -c .[] FILE' writes a list as lines" if isinstance(item, list) else ""
        raise BadRowError(
            f"a JSON {type(item).__name__}, expected one object per line with {_either(layouts)}{hint}"
        )
    return item


def _layout_of(item: dict[str, Any], layouts: Sequence[Layout]) -> Layout:
    names = list(item)
    for layout in layouts:
        if all(name in item for name in layout.columns):
            return layout
    named = layout_by_header(names, layouts)
    if named is not None:
        return named[0]
    hint = nearest(names, layouts)
    raise BadRowError(f"the JSON object has keys {shown(names)}, expected {_either(layouts)}{hint}")


def _cells(item: dict[str, Any], layout: Layout) -> list[str]:
    """Take the wanted values of an object as text."""
    cells: list[str] = []
    for name, key in zip(layout.columns, _keys(item, layout), strict=True):
        content = item[key]
        values = content if name == layout.list_column and isinstance(content, list) else [content]
        for value in values:
            if not isinstance(value, str):
                raise BadRowError(
                    f"the value of {name!r} is {type(value).__name__}, expected text or a number"
                )
            if "\0" in value:
                raise BadRowError(f"NUL character in the value of {name!r}")
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise BadRowError(f"half of a surrogate pair in the value of {name!r}")
        cells.extend(values or [""])
    if not all(map(str.strip, cells)):
        raise BadRowError(blank_value(layout, cells))
    return cells


def _keys(item: dict[str, Any], layout: Layout) -> Sequence[str]:
    """The keys that an object has for the columns of a layout."""
    if all(name in item for name in layout.columns):
        return layout.columns
    names = list(item)
    return [names[place] for place in columns_named(names, layout.columns) or ()]


def _either(layouts: Sequence[Layout]) -> str:
    return " or ".join(map(str, layouts))
