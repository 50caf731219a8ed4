"""Columns of delimited text: headers, separators, quotes and bad lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.facts.files.written import GOOD, read, read_skipping

from hmn.errors import DataError
from hmn.facts.files.formats import read_rows
from hmn.facts.files.layout import Layout
from hmn.facts.files.source import Source


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (GOOD + b"a\tr\n", 2, "got 2, expected 3"),
        (GOOD + b"a\tr\tb\tc\n", 2, "got 4, expected 3"),
        (b"subject\trelation\tobject\n" + GOOD + b"a\tr", 3, "got 2, expected 3 (as in the header)"),
        (b"a b c\n" + GOOD, 1, "give it as separator"),
        (GOOD * 2 + b"a\t\xff\tb\n" + GOOD, 3, "invalid UTF-8 at byte 3"),
        (GOOD + b"a\tr\tb\0\n", 2, "NUL byte at byte 6"),
        (GOOD + b"a\t\tb\n", 2, "empty field: relation"),
        (GOOD + b"a\tr\t  \n", 2, "empty field: object"),
        (GOOD + b"a\tr\t" + b"x" * (1 << 20) + b"\n" + GOOD, 2, "longer than 1,048,576 bytes"),
    ],
)
def test_bad_line_is_named_or_counted(tmp_path: Path, content: bytes, line: int, reason: str) -> None:
    path = tmp_path / "facts.tsv"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert reason in str(error.value)
    rows, skipped = read_skipping(path)
    assert rows == [["a", "r", "b"]] * content.count(GOOD)
    assert skipped.total == 1
    assert skipped.messages[0].startswith(f"{path}:{line}: ")


def test_header_in_any_order_and_case_with_more_columns(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_text("id\tObject\tSUBJECT\trelation\n1\tb\ta\tr\n\tb\ta\tr\n")
    assert read(path) == [(2, ["a", "r", "b"]), (3, ["a", "r", "b"])]


def test_own_column_names_and_separator(tmp_path: Path) -> None:
    path = tmp_path / "facts.data"
    path.write_text("tail|head|rel\nb|a|r\n")
    wanted = [Layout(("head", "rel", "tail"))]
    table = read_rows(Source(path), wanted, separator="|", header=True)
    assert list(table.rows) == [(2, ["a", "r", "b"])]
    path.write_text("a|r|b\n")
    with pytest.raises(
        DataError, match=r"facts\.data:1: the header has columns 'a', 'r', 'b', expected head"
    ):
        read_rows(Source(path, skip_bad=True), wanted, separator="|", header=True)


def test_csv_goes_on_after_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text('a,r,"b\nc,r,"d\ne"\nf,r,"g\nh,r,i\nj,r,k\nl,r,m\n')
    rows, skipped = read_skipping(path)
    assert rows == [["c", "r", "d\ne"], ["h", "r", "i"], ["j", "r", "k"], ["l", "r", "m"]]
    assert skipped.messages == tuple(
        f"{path}:{line}: badly quoted CSV ({why})"
        for line, why in [(1, "',' expected after '\"'"), (4, "unexpected end of data")]
    )
