"""Values in the cells of wide tables: nothing is added, nothing is lost."""

from __future__ import annotations

import pytest

from hmn.facts.wide.cells import Cell, Column, is_value


@pytest.mark.parametrize(
    ("cell", "values"),
    [
        ("Paris", ["Paris"]),
        ("  New   York ", ["New York"]),
        ("Georgian; Abkhaz", ["Georgian", "Abkhaz"]),
        ("German|French| |German", ["German", "French"]),
        ("العربية؛ الأمازيغية", ["العربية", "الأمازيغية"]),
        ("汉语、英语", ["汉语", "英语"]),
        (["German", "", "French; Swiss"], ["German", "French; Swiss"]),
        ("Rome, Italy", ["Rome, Italy"]),
        ("551,695 km²", ["551,695 km²"]),
        ("40.6 %", ["40.6 %"]),
        ("1965-08-01", ["1965-08-01"]),
        ("1.234,5", ["1.234,5"]),
        ("0", ["0"]),
        ("No", ["No"]),
        *(
            (missing, [])
            for missing in ("", " ", "NA", "n/a", "–", "-", "null", "NULL", "None", "NaN", "..", "\\N")
        ),
        ("a; –; b", ["a", "b"]),
        ("He was born; " + "he lived on " * 10 + "; he died.", None),
    ],
)
def test_values_of_a_cell(cell: Cell, values: list[str] | None) -> None:
    column = Column([cell, "x y"])
    whole = [" ".join(cell.split())] if isinstance(cell, str) else []
    assert column.values(cell) == (whole if values is None else values)


def test_na_is_a_value_among_codes_of_two_letters() -> None:
    assert Column(["FR", "NA", "", "JP"]).values("NA") == ["NA"]
    assert Column(["FR", "na", "JP"]).values("na") == []
    assert Column(["French", "NA", "JP"]).values("NA") == []
    assert Column(["NA", "NA"]).values("NA") == []


def test_a_number_in_two_spellings_is_one_value() -> None:
    column = Column([])
    written = ["1,000", "1000", "1000.0", "1000.5", "-1000", "007", "7", "1.000", "1", "10,00"]
    assert [column.values(text)[0] for text in written] == [
        *("1,000", "1,000", "1,000", "1000.5", "-1000", "007", "7", "1.000", "1", "10,00")
    ]
    assert Column([]).values("1000") == ["1000"]


@pytest.mark.parametrize("other", ["3,5", "-3,5 €", "48.717,99 €", "84.669.326", "1,23456"])
def test_numbers_with_decimal_commas_are_not_read_as_english_ones(other: str) -> None:
    column = Column(["1,000", "1000", "1.000", other])
    assert [column.values(text)[0] for text in ("1,000", "1000", "1.000")] == ["1,000", "1000", "1.000"]


@pytest.mark.parametrize("other", ["1,234", "1,234.5", "1,234,567", "1.5", "2.125", "Rome, 12", "a,5"])
def test_other_numbers_leave_thousands_as_they_are(other: str) -> None:
    column = Column(["1,000", other])
    assert [column.values(text)[0] for text in ("1,000", "1000")] == ["1,000", "1,000"]


@pytest.mark.parametrize("text", ["5", "-1.5", "1,234", "12 km²", "31 %", "$5", "5 €", "1965-08-01", "true",
                                  "1/2/2003", "10:30", "5 km/h", "2014-01-01 10:00"])  # fmt: skip
def test_a_number_or_date_is_a_value(text: str) -> None:
    assert is_value(text)


@pytest.mark.parametrize(
    "text", ["name", "area (km²)", "population 2020", "2020 census", "R2D2", "GDP per head", "%"]
)
def test_a_name_is_no_value(text: str) -> None:
    assert not is_value(text)
