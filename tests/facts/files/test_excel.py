"""Sheets of a spreadsheet: which one is read, and what its cells show."""

from __future__ import annotations

import builtins
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.facts.files.sheets import DATE, xlsx

from hmn.errors import DataError, MissingPackageError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable

FACTS = [["head", "relation", "tail"], ["dune", "published in", 1965], ["dune", "first read", (43831, DATE)]]
NAMES = [["id", "label"], ["dune", "Dune"]]
WIDE = [
    [None, "film", "year", "director", "length", "sequel"],
    [],
    [None, "Dune", 1984, "David Lynch", 2.5, False],
    [None, "Alien", 1979.0, "Ridley Scott", None, True],
    [None, "Solaris", 1972, "Andrei Tarkovsky", 1e-3, "#N/A"],
]

pytest.importorskip("python_calamine", reason="the extra 'excel' is not installed")


def facts_of(table: FactTable) -> list[tuple[str, str, str]]:
    return [table.fact(cell)[:3] for cell in range(len(table))]


def test_facts_names_and_questions_of_one_workbook(tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    questions = [["question", "answer"], ["when was dune published", 1965]]
    sheets = {"Notes": [["read", "me", "first"]], "Names": NAMES, "Facts": FACTS, "Train": questions}
    path.write_bytes(xlsx(sheets))  # type: ignore[arg-type]
    table = FactTable.read(path, path)
    assert facts_of(table) == [("dune", "first read", "2020-01-01"), ("dune", "published in", "1965")]
    assert table.names_of(table.entity_number("dune")) == ["Dune"]
    hint = "of 'Notes', 'Names', 'Facts', 'Train' (--sheet names that of the facts)"
    assert table.notes == tuple(f"{path}: read the sheet {sheet!r} {hint}" for sheet in ("Facts", "Names"))
    read = QuestionSet.read(path, table)
    assert len(read) == 1 and read.notes == (f"{path}: read the sheet 'Train' {hint}",)


def test_a_wide_sheet_with_empty_rows_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "films.xlsx"
    path.write_bytes(xlsx({"Films": WIDE}))  # type: ignore[dict-item]
    table = FactTable.read(path)
    assert "5 columns, read as a wide table: each row an entity named by 'film'" in table.notes[0]
    assert facts_of(table) == [
        ("Alien", "director", "Ridley Scott"),
        ("Alien", "sequel", "TRUE"),
        ("Alien", "year", "1979"),
        ("Dune", "director", "David Lynch"),
        ("Dune", "length", "2.5"),
        ("Dune", "sequel", "FALSE"),
        ("Dune", "year", "1984"),
        ("Solaris", "director", "Andrei Tarkovsky"),
        ("Solaris", "length", "0.001"),
        ("Solaris", "year", "1972"),
    ]


def test_titles_above_the_header_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    sheets = {"Notes": [["read", "me", "first"]], "Facts": [["All we know"], [], [None, "so far"], *FACTS]}
    path.write_bytes(xlsx(sheets))  # type: ignore[arg-type]
    table = FactTable.read(path)
    assert facts_of(table) == [("dune", "first read", "2020-01-01"), ("dune", "published in", "1965")]
    assert table.notes[0].startswith(f"{path}: read the sheet 'Facts'")
    assert table.notes[1] == f"{path}:1: left out above the header: 'All we know' and 1 more"
    path.write_bytes(xlsx({"Films": [["Films", None], *WIDE]}))  # type: ignore[list-item]
    assert len(FactTable.read(path)) == 10


def test_a_sheet_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    path.write_bytes(xlsx({"Old": FACTS, "New": [["a", "r", "b"]], "Empty": []}, hidden="Old"))  # type: ignore[dict-item]
    assert facts_of(FactTable.read(path)) == [("a", "r", "b")]
    assert len(FactTable.read(path, sheet="Old")) == len(FactTable.read(path, sheet="Ｏｌｄ ")) == 2
    with pytest.raises(
        DataError, match=r"book\.xlsx: there is no sheet 'Nww', expected .*: did you mean New"
    ):
        FactTable.read(path, sheet="Nww")
    with pytest.raises(DataError, match=r"book\.xlsx: no rows"):
        FactTable.read(path, sheet="Empty")


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "a")
    for content in (b"", b"PK\x03\x04", xlsx({"A": FACTS})[:400], other.getvalue()):  # type: ignore[dict-item]
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"book\.xlsx: cannot be read as a spreadsheet"):
            FactTable.read(path)
    path = tmp_path / "facts.zip"
    path.write_bytes(other.getvalue())
    with pytest.raises(DataError, match=r"facts\.zip: it is a zip archive, expected a table: unpack it"):
        FactTable.read(path)


def test_a_sheet_that_unpacks_to_far_more_than_a_table(tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * (40 << 20))
    with pytest.raises(DataError, match=r"book\.xlsx: it unpacks to more than 250 times its size"):
        FactTable.read(path)


def test_without_the_package_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "book.xlsx"
    path.write_bytes(xlsx({"A": FACTS}))  # type: ignore[dict-item]
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("python_calamine"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match=r"book\.xlsx: .*pip install '.*\[excel\]'"):
        FactTable.read(path)
