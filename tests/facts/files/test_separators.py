"""The separator of each file is seen in its first lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.facts.files.written import read

from hmn.errors import DataError
from hmn.facts.files.formats import read_rows
from hmn.facts.files.layout import Layout
from hmn.facts.files.separators import check_separator, declared_separator
from hmn.facts.files.source import Source
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable

CELLS = [["dune", "written by", "frank herbert"], ["emma", "written by", "jane austen"]]
ANSWERS = Layout(("question", "answers"), has_list=True)


@pytest.mark.parametrize("separator", ["\t", "|||", "||", "|", ";", ","])
@pytest.mark.parametrize("name", ["facts.txt", "facts", "facts.csv", "facts.tsv"])
def test_each_separator_in_each_file(tmp_path: Path, separator: str, name: str) -> None:
    path = tmp_path / name
    path.write_text("".join(separator.join(row) + "\n" for row in CELLS))
    assert [row for _, row in read(path)] == CELLS


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a;r;1,5\nb;r;2,5\n", [["a", "r", "1,5"], ["b", "r", "2,5"]]),
        ("a\tr\tx, y, z\nb\tr\tx, y, z\n", [["a", "r", "x, y, z"], ["b", "r", "x, y, z"]]),
        ("a|r|x;y;z\nb|r|x;y;z\n", [["a", "r", "x;y;z"], ["b", "r", "x;y;z"]]),
        ('a,r,"x;y;z"\nb,r,"x;y\nz"\n', [["a", "r", "x;y;z"], ["b", "r", "x;y\nz"]]),
        ('a;r;"x;y, z"\n', [["a", "r", "x;y, z"]]),
        ("a, r, b\nc, r, d\n", [["a", " r", " b"], ["c", " r", " d"]]),
    ],
)
def test_other_separators_within_cells(tmp_path: Path, content: str, expected: list[list[str]]) -> None:
    for name in ("facts.csv", "facts.txt"):
        (tmp_path / name).write_text(content)
        assert [row for _, row in read(tmp_path / name)] == expected


def test_commas_of_questions_are_no_separator(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("who is it, dear|a\nwhat, ever|b\n")
    assert [row for _, row in read_rows(Source(path), [ANSWERS]).rows] == [
        ["who is it, dear", "a"],
        ["what, ever", "b"],
    ]


def test_facts_names_and_questions_with_a_separator_each(tmp_path: Path) -> None:
    (tmp_path / "facts.txt").write_text("q1 ||| wrote ||| q2\n")
    (tmp_path / "names.csv").write_text("q1;Ada, Countess of Lovelace\nq2;Notes\n")
    (tmp_path / "questions.txt").write_text("what did ada, the countess, write\tNotes\n")
    for separator in (None, "|||", " ||| "):
        facts = FactTable.read(tmp_path / "facts.txt", tmp_path / "names.csv", separator=separator)
        assert facts.fact(0) == ("q1", "wrote", "q2", "Ada, Countess of Lovelace", "wrote", "Notes")
        questions = QuestionSet.read(tmp_path / "questions.txt", facts, separator=separator)
        assert (questions.text, len(questions.answer)) == (["what did ada, the countess, write"], 1)


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"', "sep=; "])
@pytest.mark.parametrize("header", ["", "head;relation;tail\n"])
def test_a_line_that_names_the_separator(tmp_path: Path, line: str, header: str) -> None:
    path = tmp_path / "facts.csv"
    path.write_text(f'{line}\n{header}a,b,c;r;"d;e"\n', encoding="utf-8-sig")
    assert read(path) == [(3 if header else 2, ["a,b,c", "r", "d;e"])]
    assert declared_separator("sep=") is None


@pytest.mark.parametrize("separator", ["", "\n", "a\r", '"', "x" * 17, 3, b"|"])
def test_what_cannot_separate_columns(separator: str) -> None:
    with pytest.raises(DataError, match=r"separator is .*, expected the text between two columns"):
        check_separator(separator)
    assert check_separator("\\t") == "\t"


def test_carriage_returns_alone_end_lines(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_bytes(b"head,relation,tail\ra,r,b\r\rc,r,d\r")
    assert read(path) == [(2, ["a", "r", "b"]), (4, ["c", "r", "d"])]


def test_no_separator_fits(tmp_path: Path) -> None:
    path = tmp_path / "facts.txt"
    path.write_text("a b c\nd e f\n")
    with pytest.raises(DataError, match=r"facts\.txt:1: wrong column count: got 1, .* give it as separator"):
        read(path)


@pytest.mark.parametrize(("separator", "name"), [(";", "a.csv"), (",", "a.tsv"), ("\t", "a.csv")])
def test_where_no_line_fits_the_error_has_the_columns_of_the_file(
    tmp_path: Path, separator: str, name: str
) -> None:
    path = tmp_path / name
    path.write_text("\n".join(map(separator.join, ("abcd", "efgh", "ijklm"))))
    with pytest.raises(DataError, match=f"got 4, expected 3 .* with {re.escape(repr(separator))} between"):
        FactTable.read(path)


def test_remarks_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text("# our facts\n\n  \nhead,relation,tail\na,r,b\n,,\n \nc,r,d\n")
    assert read(path) == [(5, ["a", "r", "b"]), (8, ["c", "r", "d"])]


def test_the_encoding_is_named_before_the_separator(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_bytes("head;relation;tail\nAnna;lebt in;Köln\n".encode("windows-1252"))
    with pytest.raises(DataError, match=r"facts\.csv:2: invalid UTF-8 .*\(--encoding windows-1252\)"):
        read(path)
