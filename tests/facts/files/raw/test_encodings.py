"""Encodings other than UTF-8 are named with what to do, and read where they are given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.facts.files.written import read_skipping

from hmn.errors import DataError
from hmn.facts.files.source import FIRST_BYTES
from hmn.facts.table import FactTable

TEXT = "café\tborn in\tZürich\ndvořák\tborn in\tWien\n"
GIVEN = {
    "utf-16": "utf-16",
    "utf-16-le": "utf-16-le",
    "utf-16-be": "UTF-16",
    "utf-32": "utf-32",
    "utf-8-sig": "windows-1252",
    "utf-8": "windows-1252",
    "cp1250": "windows-1250",
    "iso2022_jp_2": "iso2022_jp_2",
}
"""Encodings that are given for files in others."""


def entities(table: FactTable) -> list[str]:
    return table.entities.to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("encoding", GIVEN)
def test_a_given_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "facts.tsv"
    text = TEXT.replace("ř", "r").replace("ü", "u") if encoding.startswith("iso") else TEXT
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    path.write_bytes((mark + text * 2000).encode(encoding))
    table = FactTable.read(path, encoding=GIVEN[encoding])
    assert entities(table) == sorted({cell for row in text.splitlines() for cell in row.split("\t")[::2]})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_utf_16_is_named_with_what_to_do(tmp_path: Path, encoding: str, skip_bad: bool) -> None:
    path = tmp_path / "facts.tsv"
    path.write_bytes(TEXT.encode(encoding))
    with pytest.raises(DataError) as error:
        FactTable.read(path, skip_bad=skip_bad)
    name = encoding[:6] if encoding.endswith(("16", "32")) else encoding
    assert f"{path}:1: it is in {name.upper()}, expected UTF-8" in str(error.value)
    assert f"--encoding {name}" in str(error.value) and "iconv -f" in str(error.value)
    assert entities(FactTable.read(path, encoding=name)) == ["Wien", "Zürich", "café", "dvořák"]


@pytest.mark.parametrize(
    ("encoding", "text", "others"),
    [
        ("gb18030", "国家,首都,货币", ["windows-1252", "euc-kr"]),
        ("big5", "國家,首都,貨幣", ["windows-1252", "gb18030"]),
        ("cp932", "国,首都,通貨,カタカナ", ["windows-1252", "windows-1251"]),
        ("euc-kr", "나라,수도,통화", ["windows-1252", "cp932"]),
        ("windows-1251", "Страна,Столица", ["windows-1256"]),
        ("windows-1256", "الدولة,العاصمة,العملة", ["gb18030"]),
    ],
)
def test_other_encodings_are_named_by_how_they_read(
    tmp_path: Path, encoding: str, text: str, others: list[str]
) -> None:
    path = tmp_path / "facts.csv"
    path.write_bytes(f"{text},x\n".encode(encoding))
    with pytest.raises(DataError) as error:
        FactTable.read(path)
    message = str(error.value)
    assert re.search(f"'{text[:6]}[^']*' in {encoding}", message)
    assert not [other for other in others if f" in {other}" in message]
    assert "give the encoding that is right, if one is (--encoding)" in message


def test_windows_1252_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_bytes(b"a\tr\tb\n" + "l’été\tr\t5 €\n".encode("windows-1252"))
    with pytest.raises(DataError) as error:
        FactTable.read(path)
    message = str(error.value)
    assert message.startswith(f"{path}:2: invalid UTF-8 at byte 2 of the line")
    assert "in Windows-1252 it reads 'l’été" in message and "(--encoding windows-1252)" in message
    assert "l’été" in entities(FactTable.read(path, encoding="windows-1252"))


def test_a_line_in_neither_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_bytes(b"a\tr\tb\nc\tr\t\x81\n")
    for encoding in ("windows-1252", "shift_jis"):
        with pytest.raises(
            DataError, match=r"facts\.tsv:2: not (cp1252|shift_jis) \(.*\): give the encoding"
        ):
            FactTable.read(path, encoding=encoding)
    rows, skipped = read_skipping(path)
    assert rows == [["a", "r", "b"]]
    assert "(--encoding gb18030, or another)" in skipped.messages[0]


@pytest.mark.parametrize("encoding", ["utf-9", "rot13", "hex", "", 3])
def test_no_encoding_of_text(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match=r"encoding is .*, expected the name of one, such as windows-1252"):
        FactTable.read(tmp_path / "facts.tsv", encoding=encoding)


def test_a_character_that_the_first_bytes_cut(tmp_path: Path) -> None:
    path = tmp_path / "facts.txt"
    line = "é|r|é\n"
    path.write_text("x" + line * (FIRST_BYTES // 6), encoding="utf-8")
    assert len(FactTable.read(path, encoding="windows-1252")) == 2
