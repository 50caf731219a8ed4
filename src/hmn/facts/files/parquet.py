"""Rows from a Parquet file, in batches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hmn.errors import DataError
from hmn.facts.files.layout import BadRowError, Layout, Row, Rows, if_wide, layout_by_header, nearest, shown
from hmn.facts.files.raw.opening import readable
from hmn.facts.files.source import Source
from hmn.facts.files.texts import lengths

BATCH = 1 << 16
"""Number of rows read at a time."""
MOST_ROWS = 20
"""Upper limit of rows per byte of a file; rows that differ take a bit each at least."""
_MIDNIGHT = re.compile(r" 00:00:00(\.0+)?Z?$")
"""Pattern of a time at midnight behind a date."""


def read_parquet(source: Source, layouts: Sequence[Layout]) -> Rows:
    """Read the wanted columns; numbers are given as text, and rows are numbered from 1.

    Raises:
        DataError: the file is not Parquet or is damaged; it has no rows, or the columns of no layout; a
            column holds something other than text or numbers; or a row is bad, and bad rows are not skipped.
    """
    layout, names = _layout_of(source, layouts)
    return Rows(layout, _rows(source, layout, names))


def _layout_of(source: Source, layouts: Sequence[Layout]) -> tuple[Layout, list[str]]:
    """Find the first layout whose columns the file has; also gives the file's names of them."""
    with _opened(source) as file:
        names = file.schema_arrow.names
        num_rows = file.metadata.num_rows
    if num_rows == 0:
        raise DataError(f"{source.path}: no rows, expected a table: check the file")
    named = layout_by_header(names, layouts)
    if named is not None:
        return named[0], [names[place] for place in named[1]]
    expected = " or ".join(map(str, layouts))
    raise DataError(
        f"{source.path}: it has columns {shown(names)}, expected {expected}: give the names it has"
        f"{nearest(names, layouts)}{if_wide(names, layouts)}"
    )


@contextmanager
def _opened(source: Source) -> Iterator[pq.ParquetFile]:
    """Open a file; what is packed or comes through a pipe is held in memory."""
    with source.readable():
        if source.is_plain:
            with pq.ParquetFile(source.path) as file:
                _check_rows(source, file, source.path.stat().st_size)
                yield file
        else:
            with pq.ParquetFile(pa.BufferReader(source.held)) as file:
                _check_rows(source, file, len(source.held))
                yield file


def _check_rows(source: Source, file: pq.ParquetFile, size: int) -> None:
    """Refuse a file with more rows than a table of its size could have."""
    if file.metadata.num_rows > MOST_ROWS * size:
        raise DataError(
            f"{source.path}: it claims {file.metadata.num_rows:,} rows in {size:,} bytes, expected a table: "
            "write the file again"
        )


def _rows(source: Source, layout: Layout, names: Sequence[str]) -> Iterator[Row]:
    number = 0
    for columns in batches(source, names):
        for values in zip(*columns, strict=True):
            number += 1
            try:
                cells = _cells(values, layout)
            except BadRowError as error:
                source.bad(number, str(error))
            else:
                yield number, cells


def batches(source: Source, names: Sequence[str]) -> Iterator[list[list[Any]]]:
    """Give columns of each batch of rows, as bytes."""
    # a saved model is read without them
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    with _opened(source) as file:
        tracked = track(
            file.iter_batches(batch_size=BATCH, columns=list(names)),
            f"reading {source.path.name}",
            total=-(-file.metadata.num_rows // BATCH),
            console=console,
            disable=not (source.progress and console.is_terminal),
            transient=True,
        )
        for batch in tracked:
            yield [_as_bytes(source, name, batch.column(name)) for name in names]


def column_names(source: Source) -> list[str]:
    """The columns that hold text, numbers, dates, or lists of them; others are left out, with a note."""
    with _opened(source) as file:
        schema = file.schema_arrow
    usable = [column.name for column in schema if _is_usable(column.type)]
    if len(usable) < len(schema.names):
        left_out = [name for name in schema.names if name not in usable]
        source.note(f"{source.path}: columns that hold no text are left out: {shown(left_out)}")
    return usable


def text_batches(source: Source, names: Sequence[str]) -> Iterator[list[list[Any]]]:
    """Give columns of each batch of rows as texts, lists of texts, and None.

    Raises:
        DataError: a text is not UTF-8.
    """
    for columns in batches(source, names):
        try:
            yield [[_decoded(cell) for cell in column] for column in columns]
        except UnicodeDecodeError as error:
            raise DataError(f"{source.path}: invalid UTF-8 ({error}): write the file again") from None


def _is_usable(kind: Any) -> bool:
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_dictionary(kind):
        kind = kind.value_type
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _decoded(cell: Any) -> Any:
    """A cell as text; a time at midnight is a date."""
    if isinstance(cell, list):
        return [_decoded(each) for each in cell if each is not None]
    return None if cell is None else _MIDNIGHT.sub("", cell.decode())


def read_text_columns(
    path: Path, layout: Layout, advice: str, plain: Sequence[str] = ()
) -> list[pa.ChunkedArray]:
    """Read all columns of a file, which must be those of a layout, as dictionary-encoded text without gaps.

    Args:
        path: the file.
        layout: the columns.
        advice: what to do about a bad file.
        plain: columns that are not to be dictionary-encoded.

    Raises:
        DataError: the file cannot be read or has other columns; or a value is missing, blank or no text.
    """
    with readable(path):
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
        names = schema.names
        if names != list(layout.columns):
            raise DataError(f"{path}: it has columns {shown(names)}, expected {layout}: {advice}")
        # a list in place of a text is read as it is, and refused below
        encoded = [name for name in names if name not in plain and not schema.field(name).type.num_fields]
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=encoded) as file:
            table = file.read()
        table.validate(full=True)  # Parquet checks neither text nor the places of a dictionary
    for name in layout.columns:
        if not _is_text(table[name], plain=name in plain):
            raise DataError(
                f"{path}: column {name!r} holds {table[name].type!s:.80} with "
                f"{table[name].null_count} gaps, expected a text in every row: {advice}"
            )
    return [table[name] for name in layout.columns]


def _is_text(column: pa.ChunkedArray, *, plain: bool) -> bool:
    """Whether a column, dictionary-encoded unless plain, holds a text in every row, none of them blank."""
    if column.null_count or pa.types.is_dictionary(column.type) == plain:
        return False
    kind = column.type if plain else column.type.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return False
    texts = (chunk if plain else chunk.dictionary for chunk in column.chunks)
    return all(not chunk.null_count and bool(lengths(chunk).all()) for chunk in texts)


def _as_bytes(source: Source, name: str, column: Any) -> list[Any]:
    """Give a column's values as bytes, or lists of bytes, since Parquet does not check that text is UTF-8."""
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    binary = pa.list_(pa.large_binary()) if is_list else pa.large_binary()
    kind = column.type.value_type if is_list or pa.types.is_dictionary(column.type) else column.type
    try:
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)):
            column = column.cast(pa.list_(pa.large_string()) if is_list else pa.large_string())
        values: list[Any] = column.cast(binary).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{source.path}: column {name!r} holds {column.type}, expected text or numbers: convert it"
        ) from error
    return values


def _cells(row: tuple[Any, ...], layout: Layout) -> list[str]:
    """Decode the values of a row."""
    cells: list[str] = []
    for name, content in zip(layout.columns, row, strict=True):
        is_list = isinstance(content, list)
        if is_list and name != layout.list_column:
            raise BadRowError(f"a list in {name!r}, expected one value")
        if is_list and not content:
            raise BadRowError(f"empty field: {name}")
        for value in content if is_list else [content]:
            if not value or not value.strip():
                raise BadRowError(f"empty field: {name}")
            if b"\0" in value:
                raise BadRowError(f"NUL byte in {name!r}")
            try:
                cells.append(value.decode())
            except UnicodeDecodeError as error:
                raise BadRowError(f"invalid UTF-8 at byte {error.start + 1} of {name!r}") from error
    return cells
