"""Rows in files: any part of them comes back from files of any size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hmn.distributed.saving import row_files
from hmn.distributed.saving.row_files import overlapping, read_rows, write_rows

ROWS, FIRST = 23, 100
"""Number of rows, and the number of the first."""


@pytest.fixture
def tables() -> dict[str, Tensor]:
    """A table as it is, one of few rows that are not 0, one that is sparse, and one that is full."""
    draw = torch.Generator().manual_seed(0)
    few = torch.zeros(ROWS, 3, dtype=torch.float64)
    few[[2, 3, 11, 22]] = torch.randn(4, 3, generator=draw).double()
    rows = torch.tensor([[0, 7, 8, 21]])
    sparse = torch.sparse_coo_tensor(
        rows, torch.randn(4, 2, generator=draw), (ROWS, 2), check_invariants=True
    ).coalesce()
    return {
        "keys": torch.zeros(ROWS, 4, dtype=torch.bfloat16),
        "few": few,
        "sparse": sparse,
        "full": torch.randn(ROWS, 2, generator=draw),
    }


@pytest.mark.parametrize("rows_per_file", [1, 4, 23, 100])
@pytest.mark.parametrize("part", [(0, 23), (5, 9), (3, 1), (0, 0), (22, 1)])
def test_any_rows_come_back(
    tables: dict[str, Tensor],
    rows_per_file: int,
    part: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    width = 4 * 2 + 3 * 8 + 2 * 4 + 2 * 4
    monkeypatch.setattr(row_files, "FILE_BYTES", width * rows_per_file + width - 1)
    files = list(write_rows(tmp_path, "cells", tables, {"keys"}, FIRST, rank=5))
    assert [file.num_rows for file in files][:-1] == [rows_per_file] * ((ROWS - 1) // rows_per_file)
    assert sum(file.num_rows for file in files) == ROWS and {file.rank for file in files} == {5}
    offset, count = part
    got = {name: torch.zeros(count, table.shape[1], dtype=table.dtype) for name, table in tables.items()}
    touched = torch.zeros(count)
    for file in overlapping(files[::-1], FIRST + offset, count):
        for name, piece in read_rows(tmp_path, file, FIRST + offset, count):
            rows = torch.arange(piece.num_rows) if piece.rows is None else piece.rows
            got[name][piece.first + rows] = piece.values
            touched[piece.first : piece.first + piece.num_rows] += name == "keys"
    assert torch.equal(touched, torch.ones(count))
    for name, table in tables.items():
        assert torch.equal(got[name], table.to_dense()[offset : offset + count])


def test_only_rows_that_are_not_zero_are_written(tmp_path: Path) -> None:
    wide = torch.zeros(10_000, 64)
    wide[17] = 1
    (file,) = write_rows(tmp_path, "cells", {"wide": wide}, set(), 0, 0)
    assert (tmp_path / file.name).stat().st_size < 1_000
    ((_, piece),) = read_rows(tmp_path, file, 10, 100)
    assert piece.rows is not None and piece.rows.tolist() == [7] and torch.equal(piece.values, wide[17:18])


def test_no_rows_make_no_file(tmp_path: Path) -> None:
    assert not list(write_rows(tmp_path, "cells", {"keys": torch.zeros(0, 4)}, {"keys"}, 7, 0))
    assert not list(tmp_path.iterdir())
