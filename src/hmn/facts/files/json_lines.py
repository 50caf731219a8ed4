"""Rows from a file with one JSON object per line, or with a list of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from hmn.errors import DataError
from hmn.facts.files.headers import columns_named
from hmn.facts.files.layout import (
    BadRowError,
    Layout,
    Row,
    Rows,
    blank_value,
    if_wide,
    layout_by_header,
    nearest,
    no_rows,
    shown,
)
from hmn.facts.files.source import Source

_FIRST = 200
"""Number of objects of a list by which a wide table is recognised."""


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


def json_items(source: Source) -> Iterator[tuple[int, Any]]:
    """Give the values of a file with their lines; those of one list that is the whole file by their places.

    Raises:
        DataError: a value is no JSON, and bad lines are not skipped; or the file is a list that is damaged.
    """
    if _is_list(source):
        yield from enumerate(_listed(source), 1)
        return
    for number, line in source.lines():
        try:
            item = json.loads(line, parse_int=str, parse_float=str)
        except (ValueError, RecursionError) as error:
            source.bad(number, f"bad JSON ({error}): expected one object per line")
        else:
            yield number, item


def first_items(source: Source) -> list[Any]:
    """The values on the first lines of a file, or at the start of the list that it is."""
    if _is_list(source):
        return _listed(source)[:_FIRST]
    items = []
    for _, line in source.first_lines:
        with suppress(ValueError, RecursionError):  # reported when the file is read
            items.append(json.loads(line))
    return items


def _is_list(source: Source) -> bool:
    return source.start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _listed(source: Source) -> list[Any]:
    """The values of a list that is the whole file."""
    try:
        items: list[Any] = json.loads(source.held, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{source.path}: bad JSON ({error}): expected a list of objects, or one object per line"
        ) from None
    return items


def _rows(source: Source, layouts: Sequence[Layout]) -> Iterator[tuple[Layout, Row]]:
    for number, item in json_items(source):
        try:
            if not isinstance(item, dict):
                raise BadRowError(
                    f"a JSON {type(item).__name__}, expected one object per line with {_either(layouts)}"
                )
            layout = _layout_of(item, layouts)
            cells = _cells(item, layout)
        except BadRowError as error:
            source.bad(number, str(error))
        else:
            layouts = [layout]
            yield layout, (number, cells)


def _layout_of(item: dict[str, Any], layouts: Sequence[Layout]) -> Layout:
    names = list(item)
    for layout in layouts:
        if all(name in item for name in layout.columns):
            return layout
    named = layout_by_header(names, layouts)
    if named is not None:
        return named[0]
    hint = nearest(names, layouts) + if_wide(names, layouts)
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
