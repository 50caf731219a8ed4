"""Columns of Parquet files, and files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.facts.files.written import parquet, read, read_skipping

from hmn.errors import DataError


def test_parquet_numbers_and_dictionaries(tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    columns = {"Object": [1, 2], "subject": pa.array(["a", "b"]).dictionary_encode(), "relation": [1.5, 2.5]}
    pq.write_table(pa.table(columns), path)
    assert read(path) == [(1, ["a", "1.5", "1"]), (2, ["b", "2.5", "2"])]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty field: object"),
        (b" ", "empty field: object"),
        (b"b\0", "NUL"),
        (b"b\xff", "invalid UTF-8 at byte 2"),
    ],
)
def test_bad_parquet_row(tmp_path: Path, value: bytes | None, reason: str) -> None:
    path = tmp_path / "facts.parquet"
    raw = pa.array([b"b", value], pa.binary())
    objects = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    pq.write_table(pa.table({"subject": ["a", "a"], "relation": ["r", "r"], "object": objects}), path)
    with pytest.raises(DataError, match=f"facts.parquet:2: {reason}"):
        read(path)
    rows, skipped = read_skipping(path)
    assert (rows, skipped.total) == ([["a", "r", "b"]], 1)


def test_parquet_with_missing_or_unusable_columns(tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    pq.write_table(pa.table({"x": ["a"], "y": ["r"], "z": ["b"]}), path)
    with pytest.raises(DataError, match="columns 'x', 'y', 'z', expected subject, relation, object"):
        read(path)
    pq.write_table(pa.table({"subject": ["a"], "relation": ["r"], "object": [{"x": 1}]}), path)
    with pytest.raises(DataError, match="column 'object' holds struct"):
        read(path)


def test_damaged_parquet(tmp_path: Path) -> None:
    data = parquet([["a", "r", "b"]] * 100)
    path = tmp_path / "facts.parquet"
    for content in (data[:-9], data[:20], b"PAR1" + b"x" * 40):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"facts\.parquet"):
            read(path)


def test_far_more_rows_than_bytes(tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    same = pa.DictionaryArray.from_arrays(pa.nulls(1 << 22, pa.int32()).fill_null(0), pa.array(["a"]))
    table = pa.table(dict.fromkeys(("subject", "relation", "object"), same))
    pq.write_table(table, path, row_group_size=len(same))
    with pytest.raises(DataError, match=r"facts\.parquet: it claims 4,194,304 rows in [\d,]+ bytes"):
        read(path)
