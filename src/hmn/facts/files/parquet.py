"""Rows of named columns out of a Parquet file, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from hmn.errors import DataError
from hmn.facts.files.source import Problems, readable

BATCH = 1 << 16


def parquet_columns(path: Path, layouts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Find the first of some lists of columns that a Parquet file has.

    Raises:
        DataError: it is no Parquet file, has no rows, or has none of the lists.
    """
    with readable(path), pq.ParquetFile(path) as file:
        names = [name.casefold() for name in file.schema_arrow.names]
        rows = file.metadata.num_rows
    if rows == 0:
        raise DataError(f"{path}: no rows in it: expected a table")
    for layout in layouts:
        if all(name.casefold() in names for name in layout):
            return layout
    expected = " or ".join(", ".join(layout) for layout in layouts)
    raise DataError(
        f"{path}: it has columns {', '.join(names[:8])}, expected {expected}: give the names it has"
    )


def parquet_rows(
    path: Path, columns: tuple[str, ...], problems: Problems, listed: str | None, progress: bool
) -> Iterator[tuple[int, list[str]]]:
    """Give ``(row number from 1, values)``; numbers are given as their text, the values of ``listed`` follow.

    Raises:
        DataError: the file is damaged, a column holds no text, or a row is bad and none may be skipped.
    """
    number = 0
    console = Console(stderr=True)
    with readable(path), pq.ParquetFile(path) as file:
        by_name = {name.casefold(): name for name in file.schema_arrow.names}
        wanted = [by_name[name.casefold()] for name in columns]
        batches = track(
            file.iter_batches(batch_size=BATCH, columns=wanted),
            f"reading {path.name}",
            total=-(-file.metadata.num_rows // BATCH),
            console=console,
            disable=not (progress and console.is_terminal),
            transient=True,
        )
        for batch in batches:
            values = [_as_bytes(path, name, batch.column(name)) for name in wanted]
            for row in zip(*values, strict=True):
                number += 1
                cells, reason = _cells(row, columns, listed)
                if reason:
                    problems.bad(path, number, reason)
                else:
                    yield number, cells


def _as_bytes(path: Path, name: str, column: Any) -> list[Any]:
    """Give a column's values as bytes, or lists of bytes; Parquet does not check that they are UTF-8."""
    listed = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    binary = pa.list_(pa.large_binary()) if listed else pa.large_binary()
    kind = column.type.value_type if listed or pa.types.is_dictionary(column.type) else column.type
    try:
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)):
            column = column.cast(pa.list_(pa.large_string()) if listed else pa.large_string())
        values: list[Any] = column.cast(binary).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path}: column {name!r} holds {column.type}, expected text or numbers") from error
    return values


def _cells(row: tuple[Any, ...], columns: tuple[str, ...], listed: str | None) -> tuple[list[str], str]:
    """Decode a row; the second result says what is wrong with it, or is empty."""
    cells: list[str] = []
    for name, value in zip(columns, row, strict=True):
        if isinstance(value, list) and name != listed:
            return [], f"a list in {name!r}, expected one value"
        for one in value if isinstance(value, list) else [value]:
            if not one or not one.strip():
                return [], f"empty field: {name}"
            if b"\0" in one:
                return [], f"NUL byte in {name!r}"
            try:
                cells.append(one.decode())
            except UnicodeDecodeError as error:
                return [], f"invalid UTF-8 at byte {error.start + 1} of {name!r}"
        if isinstance(value, list) and not value:
            return [], f"empty field: {name}"
    return cells, ""
