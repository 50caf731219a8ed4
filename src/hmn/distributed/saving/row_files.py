"""Rows of tables in files of limited size, written by the ranks that hold them and read by any others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from hmn.store.bundle import write_tensors
from hmn.store.rows import NUMBERS, VALUES, packed_rows, zero_rows

FILE_BYTES = 1 << 28
"""Upper limit of the bytes of a file of more than one row. Writing a file takes about as much memory, and
checking it takes reading all of it."""


class RowFile(NamedTuple):
    """A file with the same rows of several tables.

    Attributes:
        name: its name in the folder.
        first: number of its first row, over all ranks.
        num_rows: number of rows.
        rank: the rank that wrote it.
    """

    name: str
    first: int
    num_rows: int
    rank: int


class Piece(NamedTuple):
    """Rows of a table that one file has.

    Attributes:
        first: the first of them, from 0 for the first row that was asked for.
        num_rows: number of rows.
        rows: ``(m,)`` those that are not 0, counted from ``first``; all if None.
        values: ``(m, ...)`` these rows.
    """

    first: int
    num_rows: int
    rows: Tensor | None
    values: Tensor


def write_rows(
    folder: Path, name: str, tables: Mapping[str, Tensor], whole: set[str], first: int, rank: int
) -> Iterator[RowFile]:
    """Write the rows of tables ``(n, ...)`` into files, one for each step of the iterator.

    Args:
        folder: the folder.
        name: beginning of the files' names.
        tables: tables by name, of equally many rows; those that are sparse must be coalesced.
        whole: names of the tables that are written as they are; of the others only rows that are not 0.
        first: number of the first row, over all ranks.
        rank: this rank.
    """
    total = len(next(iter(tables.values()))) if tables else 0
    width = sum(table.element_size() * table.shape[1:].numel() for table in tables.values())
    most = max(1, FILE_BYTES // max(1, width))
    for start in range(0, total, most):
        end = min(total, start + most)
        file = RowFile(f"{name}-{first + start:012d}.safetensors", first + start, end - start, rank)
        parts: dict[str, Tensor] = {}
        for title, table in tables.items():
            if table.is_sparse:
                low, high = torch.searchsorted(table.indices()[0], table.indices().new_tensor([start, end]))
                parts[title + NUMBERS] = (table.indices()[0, low:high] - start).int()
                parts[title + VALUES] = table.values()[low:high]
            elif title in whole:
                parts[title] = table[start:end]
            else:
                part = table[start:end]
                parts |= packed_rows(title, part, zero_rows(part))
        write_tensors(folder, file.name, parts)
        yield file


def overlapping(files: Sequence[RowFile], first: int, count: int) -> list[RowFile]:
    """The files that have any of the rows from ``first`` to ``first + count - 1``, in order."""
    return sorted(
        (file for file in files if file.first < first + count and first < file.first + file.num_rows),
        key=lambda file: file.first,
    )


def read_rows(folder: Path, file: RowFile, first: int, count: int) -> Iterator[tuple[str, Piece]]:
    """The rows of each table in a file that are among those from ``first`` to ``first + count - 1``.

    Only these rows come into memory, and the row numbers of tables that were not written whole.
    """
    start, end = max(first, file.first), min(first + count, file.first + file.num_rows)
    low, high = start - file.first, end - file.first
    with safe_open(folder / file.name, framework="pt") as opened:
        for title in sorted(opened.keys()):
            if title.endswith(NUMBERS):
                rows = opened.get_tensor(title).long()
                below, above = torch.searchsorted(rows, torch.tensor([low, high], device="cpu")).tolist()
                title = title.removesuffix(NUMBERS)
                values = opened.get_slice(title + VALUES)[below:above]
                yield title, Piece(start - first, end - start, rows[below:above] - low, values)
            elif not title.endswith(VALUES):
                yield title, Piece(start - first, end - start, None, opened.get_slice(title)[low:high])
