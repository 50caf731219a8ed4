"""Rows are read in every format as other programs wrote them."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.facts.files.written import (
    COLUMNS,
    json_lines,
    parquet,
    quick,
    quoted,
    read,
    read_skipping,
    tsv,
    zst,
)

from hmn.errors import DataError
from hmn.facts.files.formats import read_rows
from hmn.facts.files.layout import Layout
from hmn.facts.files.source import Source
from hmn.facts.table import FactTable

plain_text = st.text(st.characters(exclude_characters="\t\n\r\0|", exclude_categories=["Cs"]), min_size=1)


any_text = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1)


def table_of(cell: st.SearchStrategy[str]) -> st.SearchStrategy[list[list[str]]]:
    row = st.lists(cell.filter(lambda text: bool(text.strip())), min_size=3, max_size=3)
    return st.lists(row, min_size=1, max_size=8).filter(lambda rows: rows[0] != list(COLUMNS))


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".zst", zst)])
@pytest.mark.parametrize(
    ("suffix", "write", "cell"),
    [
        (".tsv", tsv, plain_text),
        ("", tsv, plain_text.filter(lambda text: not text.lstrip().startswith("{"))),
        (".csv", quoted, any_text),
        (".jsonl", json_lines, any_text),
    ],
)
@quick
@given(data=st.data())
def test_reads_what_was_written(
    tmp_path: Path,
    suffix: str,
    write: Callable[[list[list[str]]], bytes],
    cell: st.SearchStrategy[str],
    ending: str,
    pack: Callable[[bytes], bytes],
    data: st.DataObject,
) -> None:
    rows = data.draw(table_of(cell))
    path = tmp_path / f"facts{suffix}{ending}"
    path.write_bytes(pack(write(rows)))
    assert [row for _, row in read(path)] == [list(row) for row in rows]


@quick
@given(rows=table_of(any_text))
def test_reads_parquet_by_suffix_and_by_content(tmp_path: Path, rows: list[list[str]]) -> None:
    for name in ("facts.parquet", "facts"):
        (tmp_path / name).write_bytes(parquet(rows))
        assert read(tmp_path / name) == list(enumerate(rows, 1))


def test_listed_column(tmp_path: Path) -> None:
    layouts = [
        Layout(("subject", "relation", "object", "question")),
        Layout(("question", "answers"), has_list=True),
    ]
    expected = [["x", "a"], ["p", "b c", "d"]]
    (tmp_path / "q.tsv").write_text("x\ta\np\tb c|d|\n")
    (tmp_path / "q.jsonl").write_text(
        '{"question": "x", "answers": "a"}\n{"question": "p", "answers": ["b c", "d"]}\n'
    )
    pq.write_table(
        pa.table({"question": ["x", "p"], "answers": [["a"], ["b c", "d"]]}), tmp_path / "q.parquet"
    )
    for name in ("q.tsv", "q.jsonl", "q.parquet"):
        table = read_rows(Source(tmp_path / name), layouts)
        assert table.layout == layouts[1]
        assert [row for _, row in table.rows] == expected


@pytest.mark.parametrize("name", ["kb.txt", "kb", "kb.txt.gz"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a b|r|c, d\nx|r|y\n", [["a b", "r", "c, d"], ["x", "r", "y"]]),
        ("a|b\tr\tc|d|e\n", [["a|b", "r", "c|d|e"]]),
        ("# our facts\na|r|b\n", [["a", "r", "b"]]),
        ("id|Object|relation|subject\n1|b|r|a\n", [["a", "r", "b"]]),
    ],
)
def test_separator_is_recognised(tmp_path: Path, name: str, content: str, expected: list[list[str]]) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    assert read_skipping(path)[0] == expected


def test_bar_between_answers_is_no_separator_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    layout = Layout(("question", "answers"), has_list=True)
    path.write_text("who is a|b\nwho\tc|d\n")
    assert [row for _, row in read_rows(Source(path, skip_bad=True), [layout]).rows] == [["who", "c", "d"]]
    path.write_text("who|a\nwhat|b\n")
    assert [row for _, row in read_rows(Source(path), [layout]).rows] == [["who", "a"], ["what", "b"]]


@pytest.mark.parametrize("name", ["facts.tsv", "facts.csv", "facts.jsonl", "facts.parquet", "facts.tsv.gz"])
@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_empty_file(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        read_skipping(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "facts.tsv")
    with pytest.raises(DataError, match="got a folder"):
        read(tmp_path)


def test_a_tar_archive_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "facts.tar.gz", "w:gz") as archive:
        (tmp_path / "facts.csv").write_text("a,r,b\n")
        archive.add(tmp_path / "facts.csv", "facts.csv")
    with pytest.raises(DataError, match=r"facts\.tar\.gz: it is a tar archive, expected a table: unpack it"):
        FactTable.read(tmp_path / "facts.tar.gz")
