"""Which tables are wide, and which column names their entities."""

from __future__ import annotations

import pytest

from hmn.errors import DataError
from hmn.facts.wide.recognition import looks_wide, subject_column


def table(text: str) -> list[list[str]]:
    return [line.split(",") for line in text.split("\n")]


@pytest.mark.parametrize(
    "text",
    [
        "country,capital,area,population\nFrance,Paris,551,68\nJapan,Tokyo,377,125",
        "film,director,genre,country\nDune,Lynch,SF,USA\nAlien,Scott,SF,UK\nStalker,Tarkovsky,SF,USSR",
        ",name,born,died\n0,Ada,1815,1852\n1,Alan,1912,1954",
        "Country Name,Country Code,1960,1961\nAruba,ABW,1.5,1.6\nChad,TCD,..,7.0",
        "name,language,language,x\nA,de,fr,1\nB,it,,2",
    ],
)
def test_wide_tables(text: str) -> None:
    assert looks_wide(table(text))


@pytest.mark.parametrize(
    "text",
    [
        "dune,written_by,frank,wikipedia\nemma,written_by,jane,wikipedia",  # facts with their source
        "obama,visits,france,2014-01-01\nmerkel,meets,obama,2014-01-02\nputin,calls,merkel,2014-01-03",
        "a,b,c,d\nc,e,f,h",
        "a,r,b\nc,s,d\ne,t,f",
        "1,2,3,4\n5,6,7,8\n9,10,11,12",
        "true,name,x,y\na,b,c,d\ne,f,g,h",
        "n/a,name,x,y\na,b,c,d\ne,f,g,h",
        "country,capital,area,population\nFrance,Paris\nJapan,Tokyo",
        "country,capital,area,population",
        f"country,capital,area,{'long ' * 20}\nFrance,Paris,551,68\nJapan,Tokyo,377,125",
    ],
)
def test_other_tables(text: str) -> None:
    rows = table(text)
    if text.startswith("a,b,c,d"):
        rows = rows[:2]  # too few to say
    assert not looks_wide(rows)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("country,capital\nFrance,Paris\nJapan,Tokyo", "country"),
        ("country,capital\n" + "Georgia,A\nGeorgia,B\nC,D\nE,F\nG,H", "country"),
        ("id,name,born\n1,Ada,1815\n2,Alan,1912", "name"),
        ("qid,name,born\nQ1x,Ada,1815\nQ2x,Alan,1912", "name"),
        ("code,capital\nFR,Paris\nJP,Tokyo", "code"),
        (",city,born\n0,Ada,1815\n1,Alan,1912", "city"),
        ("genre,film\nSF,Dune\nSF,Alien\nSF,Solaris\nSF,Stalker", "film"),
        ("x,y\n1,2\n3,4", "x"),
    ],
)
def test_the_column_that_names_entities(text: str, name: str) -> None:
    header, *rows = table(text)
    assert header[subject_column(header, rows, None, "file")] == name


def test_a_wanted_column() -> None:
    header, *rows = table("country,capital\nFrance,Paris")
    assert subject_column(header, rows, " Capital ", "file") == 1
    with pytest.raises(DataError, match=r"file: there is no column 'captal', .*: did you mean 'capital'"):
        subject_column(header, rows, "captal", "file")
    with pytest.raises(DataError, match=r"there is no column 'x', expected one of 'country', 'capital'"):
        subject_column(header, rows, "x", "file")
