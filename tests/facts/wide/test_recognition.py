"""Which tables are wide, and which column names their entities."""

from __future__ import annotations

import pytest

from hmn.errors import DataError
from hmn.facts.wide.recognition import looks_wide, perhaps_wide, subject_column


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
        "city,state,population,county\nSpringfield,IL,1,A\nSpringfield,MO,2,A\nShelbyville,IL,3,A",
        "name,relationship,age,town\nAda,mother,51,Rome\nBob,father,52,Rome\nCyd,child,9,Rome",
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
        # facts with a source below names that are not sure, and facts of one entity after the other
        "topic,rel,answer,page\nDune,author,Herbert,w1\nDune,year,1965,w2\nEmma,author,Austen,w3",
        "s,p,o,source\nDune,author,Herbert,w1\nEmma,year,1815,w2\nLem,born,Lwow,w3",
        "item,property,value,rank\nDune,author,Herbert,best\nEmma,year,1815,good\nEden,author,Lem,fine",
        "Dune,author,Herbert,w1\nDune,year,1965,w2\nEmma,author,Austen,w3",
        "city,a,b,c\nX,1,1,1\nX,2,1,1\nX,3,1,1",
        "city,a,b,c\n" + "\n".join(f"{'ABCDEF'[n % 6]},{n},1,1" for n in range(9)),
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
        ("city,state,mayor\nSpringfield,IL,Buscher\nSpringfield,MO,McClure\nShelbyville,KY,Smith", "city"),
        (",city,state\n0,Springfield,IL\n1,Springfield,MO\n2,Shelbyville,KY", "city"),
        ("author,title\nLem,Eden\nLem,Solaris\nHerbert,Dune", "title"),
        (
            "author,book\n" + "".join(f"{'ABCDEF'[n % 6]},{'book ' + str(n)}\n" for n in range(9)) + "G,x",
            "book",
        ),
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


@pytest.mark.parametrize(
    ("text", "is_doubtful"),
    [
        ("city,state,population\nSpringfield,Illinois,114\nSpringfield,Missouri,169", True),
        ("country,area,capital\nFrance,551,Paris\nJapan,377,Tokyo", True),
        ("film,director,writer\nA,a,b\nB,c,d\nC,e,f\nD,g,h", True),
        ("film,director,writer\nA,a,b\nB,a,d\nC,e,f\nD,g,h", False),
        ("film,director,writer\nA,a,b\nB,c,d\nC,e,f", False),
        ("dune,written_by,herbert\ndune,year,1965\nemma,year,1815", False),
        ("dune,year,1965\nemma,year,1815\neden,year,1959", False),
        ("dune,by,herbert\nemma,at,1815\nlem,in,poland", False),
        ("country,capital,area,x\nFrance,Paris,551,1\nJapan,Tokyo,377,2", False),
        ("city,state,population", False),
    ],
)
def test_rows_of_three_columns_that_may_be_wide(text: str, is_doubtful: bool) -> None:
    assert perhaps_wide(table(text)) is is_doubtful
