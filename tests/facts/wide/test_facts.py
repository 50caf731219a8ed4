"""Facts of wide tables, in every format."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.facts.tables import FORMS

from hmn.errors import DataError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable

ROWS = [
    ["country", "capital", "area", "languages", "language", "note", ""],
    ["France", "Paris", "551,695 km²", "French", "", "NA", "1"],
    ["Georgia", "Tbilisi", "69,700 km²", "Georgian; Abkhaz", "Russian", "", "2"],
    ["Georgia", "Atlanta", "153,910 km²", "English", "", "a_state", "3"],
    ["Japan", "Tokyo", "377,975 km²", "Japanese", "–", "null", "4"],
    ["Tokyo", "", "2,194 km²", "Japanese", "", "", "5"],
    ["", "", "", "", "", "", ""],
    ["France", "Paris", "551,695 km²", "French", "", "NA", "1"],
]
FACTS = [
    ("France", "area", "551,695 km²"),
    ("France", "capital", "Paris"),
    ("France", "languages", "French"),
    ("Georgia (line 3)", "area", "69,700 km²"),
    ("Georgia (line 3)", "capital", "Tbilisi"),
    ("Georgia (line 3)", "language", "Russian"),
    ("Georgia (line 3)", "languages", "Abkhaz"),
    ("Georgia (line 3)", "languages", "Georgian"),
    ("Georgia (line 4)", "area", "153,910 km²"),
    ("Georgia (line 4)", "capital", "Atlanta"),
    ("Georgia (line 4)", "languages", "English"),
    ("Georgia (line 4)", "note", "a_state"),
    ("Japan", "area", "377,975 km²"),
    ("Japan", "capital", "Tokyo"),
    ("Japan", "languages", "Japanese"),
    ("Tokyo", "area", "2,194 km²"),
    ("Tokyo", "languages", "Japanese"),
]


def facts_of(table: FactTable) -> list[tuple[str, str, str]]:
    return [table.fact(cell)[:3] for cell in range(len(table))]


def written(path: Path, separator: str) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows(ROWS)
    return path


@pytest.mark.parametrize(
    ("name", "separator"), [("c.csv", ","), ("c.csv", ";"), ("c.tsv", "\t"), ("c.txt", "|"), ("c.csv", "\t")]
)
def test_text(tmp_path: Path, name: str, separator: str) -> None:
    path = written(tmp_path / name, separator)
    table = FactTable.read(path)
    assert facts_of(table) == FACTS
    assert table.repeated.total == 3
    assert [table.names_of(table.entity_number(f"Georgia (line {line})")) for line in (3, 4)] == [
        ["Georgia"]
    ] * 2
    assert table.names_of(table.entity_number("a_state")) == ["a_state"]
    assert table.notes == (
        f"{path}: 6 rows of 7 columns, read as a wide table: each row an entity named by 'country'; "
        "'Georgia' stands for several rows, which stay apart; a column without a name is left out "
        "(--subject names another column, --no-wide reads rows of facts)",
    )


def test_json_lines_and_parquet(tmp_path: Path) -> None:
    header = [name for name in ROWS[0] if name]
    items = [
        {
            name: cell.split("; ") if "; " in cell else cell if cell not in ("", "null") else None
            for name, cell in zip(header, row, strict=False)
        }
        for row in ROWS[1:]
    ]
    lines = [
        {name: cell for name, cell in item.items() if cell is not None or name == "country"} for item in items
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "c.json").write_text(json.dumps(lines, indent=1))
    columns: dict[str, list[object]] = {name: [item[name] for item in items] for name in header}
    columns["languages"] = [[cell] if isinstance(cell, str) else cell for cell in columns["languages"]]
    pq.write_table(pa.table({**columns, "place": [{"x": 1}] * len(items)}), tmp_path / "c.parquet")
    expected = [
        tuple(text.replace(" (line 3)", "").replace(" (line 4)", "") for text in fact) for fact in FACTS
    ]
    for name in ("c.jsonl", "c.json", "c.parquet"):
        table = FactTable.read(tmp_path / name)
        found = [
            (fact.subject_name, fact.relation, fact.object_name)
            for fact in map(table.fact, range(len(table)))
        ]
        assert sorted(found) == sorted(expected), name
    assert table.notes[0].endswith("c.parquet: columns that hold no text are left out: 'place'")


def test_parquet_numbers_dates_and_truth(tmp_path: Path) -> None:
    days = pa.array([-1, 3653], pa.date32())
    times = pa.array([86_400_000_000, 90_000_000_000], pa.timestamp("us"))
    columns = {"name": ["A", "B"], "n": [1.0, 2.5], "day": days, "time": times, "yes": [True, False]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert [fact[2] for fact in facts_of(FactTable.read(tmp_path / "t.parquet"))] == [
        *("1969-12-31", "1", "1970-01-02", "true", "1980-01-02", "2.5", "1970-01-02 01:00:00.000000", "false")
    ]


def test_a_wide_table_of_few_columns_must_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("country,capital\nFrance,Paris\nJapan,Tokyo\n")
    with pytest.raises(DataError, match=r"c\.csv:1: wrong column count: got 2, .*give --wide"):
        FactTable.read(path)
    expected = [("France", "capital", "Paris"), ("Japan", "capital", "Tokyo")]
    assert facts_of(FactTable.read(path, wide=True)) == expected
    assert facts_of(FactTable.read(path, subject="capital"))[0] == ("Paris", "country", "France")
    path.write_text("country;capital;area\nFrance;Paris;5,5\nJapan;Tokyo;7,7\n")
    assert len(FactTable.read(path)) == 3  # rows of facts, unless asked for
    assert len(FactTable.read(path, wide=True)) == 4
    assert "--no-wide" not in FactTable.read(path, wide=True).notes[0]


def test_rows_of_facts_are_never_taken_for_a_wide_table(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text("source,subject,relation,object\nx,a,r,b\ny,c,s,d\nz,e,t,f\n")
    assert facts_of(FactTable.read(path)) == [("a", "r", "b"), ("c", "s", "d"), ("e", "t", "f")]
    path.write_text("id,subject,relation,objct\nx,a,r,b\ny,c,s,d\nz,e,t,f\n")
    with pytest.raises(DataError, match=r"facts\.csv:1: .*did you mean object instead of 'objct'"):
        FactTable.read(path)
    path.write_text("a,r,b,x\nc,r,d,y\ne,r,f,z\n")
    with pytest.raises(DataError, match=r"facts\.csv:1: wrong column count: got 4"):
        FactTable.read(path)
    written(path, ",")
    with pytest.raises(DataError, match=r"facts\.csv:1: wrong column count: got 7"):
        FactTable.read(path, wide=False)


CITIES = "city,state,population,county\nSpringfield,IL,114,A\nSpringfield,MO,169,A\nShelbyville,IL,17,A\n"
"""A small table in which two cities have one name."""


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_small_table_whose_names_come_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cities.{suffix}"
    header, *rows = csv.reader(CITIES.splitlines())
    if suffix == "csv":
        path.write_text(CITIES)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows))
    else:
        pq.write_table(pa.table(dict(zip(header, zip(*rows, strict=True), strict=True))), path)
    table = FactTable.read(path)
    first = [int(row) + (suffix == "csv") for row in (1, 2)]
    assert {fact[:2] for fact in facts_of(table)} == {
        (city, relation)
        for city in (*(f"Springfield (line {line})" for line in first), "Shelbyville")
        for relation in ("state", "population", "county")
    }
    assert "each row an entity named by 'city'; 'Springfield' stands for several rows" in table.notes[0]
    assert "--subject names another column" in table.notes[0]


def test_rows_of_three_columns_that_may_be_wide_are_said(tmp_path: Path) -> None:
    path = tmp_path / "cities.csv"
    path.write_text("".join(f"{line.rpartition(',')[0]}\n" for line in CITIES.splitlines()))
    table = FactTable.read(path)
    assert len(table) == 4 and len(table.notes) == 1
    assert table.notes[0].startswith(
        f"{path}: rows of 3 columns, the first of them 'city', 'state', 'population'"
    )
    assert "give --wide (or --subject COLUMN); " in table.notes[0] and "give --columns" in table.notes[0]
    wide = FactTable.read(path, subject="city")
    assert len(wide) == 6 and "'Springfield' stands for several rows" in wide.notes[0]
    assert FactTable.read(path, wide=False).notes == ()
    path.write_text("head,relation,tail\nSpringfield,population,114\nShelbyville,area,17\n")
    assert FactTable.read(path).notes == () and len(FactTable.read(path)) == 2
    path.write_text("dune,written_by,herbert\nemma,written_by,austen\nemma,year,1815\n")
    assert FactTable.read(path).notes == () and len(FactTable.read(path)) == 3


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_other_columns_than_those_of_facts_name_the_flag(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cities.{suffix}"
    for row in ({"s": "a", "p": "r", "o": "b", "page": "c"}, {"city": "Springfield", "state": "IL"}):
        if suffix == "jsonl":
            path.write_text(json.dumps(row))
        else:
            pq.write_table(pa.Table.from_pylist([row]), path)
        with pytest.raises(DataError, match=r"give --wide \(or --subject COLUMN\)"):
            FactTable.read(path)
    assert facts_of(FactTable.read(path, wide=True)) == [("Springfield", "state", "IL")]
    with pytest.raises(DataError, match=r"expected [^;]*(;[^;]*skip_bad[^;]*)?$|give the names it has$"):
        QuestionSet.read(path, FactTable.from_triples([("a", "r", "b")]))


@pytest.mark.parametrize("wide", [None, True])
@pytest.mark.parametrize(
    ("titles", "note"),
    [
        ("Films of all times\n\n", "'Films of all times'"),
        ("Films,,,\n,,,\nsource: me,,,\n", "'Films' and 1 more"),
        ("# exported, in haste\n", "'# exported' and 1 more"),
        ("# exported in haste\n", "'# exported in haste'"),
    ],
)
def test_titles_above_the_header(tmp_path: Path, titles: str, note: str, wide: bool | None) -> None:
    path = tmp_path / "films.csv"
    path.write_text(titles + "film,director,year,length\nDune,Lynch,1984,2.5\nAlien,Scott,1979,2\n")
    table = FactTable.read(path, wide=wide)
    assert {table.fact(cell).subject for cell in range(len(table))} == {"Dune", "Alien"}
    assert len(table) == 6
    assert table.notes[0] == f"{path}:1: left out above the header: {note}"


@pytest.mark.parametrize("subject", [None, "item", "itemLabel"])
def test_results_of_wikidata_go_by_their_labels(tmp_path: Path, subject: str | None) -> None:
    path = tmp_path / "query.csv"
    path.write_text(
        "item,itemLabel,capital,capitalLabel\n"
        "http://www.wikidata.org/entity/Q142,France,http://www.wikidata.org/entity/Q90,Paris\n"
        "http://www.wikidata.org/entity/Q183,Germany,http://www.wikidata.org/entity/Q64,Berlin\n"
    )
    table = FactTable.read(path, subject=subject)
    assert [table.fact(cell)[:3] for cell in range(len(table))] == [
        ("France", "capital", "Paris"),
        ("Germany", "capital", "Berlin"),
    ]
    assert "2 columns, read as a wide table: each row an entity named by 'item'" in table.notes[0]
    path.write_text("countryLabel,capitalLabel,area,x\nFrance,Paris,551,1\nGermany,Berlin,357,2\n")
    assert FactTable.read(path).relations == ["area", "capital", "x"]
    path.write_text("song,singer,recordLabel,x\nA,B,EMI,1\nC,D,RCA,2\n")
    assert FactTable.read(path).relations == ["recordLabel", "singer", "x"]


def test_empty_columns_and_rows_of_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "team.csv"
    path.write_text(
        "name,role,team,start,,,\nAnn,engineer,core,2020,,,\nBob,writer,web,2021,,,\n,,,,,,\n,,,,,,\n"
    )
    table = FactTable.read(path)
    assert len(table) == 6
    assert "named by 'name'" in table.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        "| film | by | at | x |\n|---|:--:|---|---|\n| Dune | Lynch | 84 | 2 |\n| Alien | Scott | 79 | 3 |",
        " film | by | year | at\n------+------+----+---\n Dune | Lynch | 1984 | 2\n Alien | Scott | 1979 | 3",
    ],
)
def test_the_rule_below_a_header_is_no_row(tmp_path: Path, text: str) -> None:
    path = tmp_path / "films.txt"
    path.write_text(text)
    table = FactTable.read(path, subject="film")
    assert {table.fact(cell).subject for cell in range(len(table))} == {"Dune", "Alien"}
    assert "2 rows" in table.notes[0]
    assert "named by 'film'" in table.notes[0]


def test_a_column_without_a_name_may_name_the_entities(tmp_path: Path) -> None:
    path = tmp_path / "distances.csv"
    path.write_text(",Berlin,Paris,Rome\nBerlin,0,1054,1502\nParis,1054,0,1420\nRome,1502,1420,0\n")
    table = FactTable.read(path)
    assert len(table) == 9
    assert "left out" not in table.notes[0]


def test_a_header_whose_first_cell_is_empty_is_no_title(tmp_path: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_text(",film,director,year\n0,Dune,Lynch,1984\n1,Alien,Scott,1979\n")
    assert len(FactTable.read(path)) == 4


def test_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(
        "country,capital,area,code\nFrance,Paris,5,FR\n,Rome,7,IT\nJapan,Tokyo,7,JP\nChad,Ndjamena\n"
    )
    with pytest.raises(
        DataError, match=r"c\.csv:5: wrong column count: got 2, expected 4 .*; correct the line"
    ):
        FactTable.read(path, subject="country")
    table = FactTable.read(path, subject="country", skip_bad=True)
    assert (len(table), table.skipped.total) == (6, 2)
    assert table.skipped.messages[1] == f"{path}:3: empty field: country, which names the entity"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wide": "yes"}, "wide is 'yes', expected"),
        ({"wide": False, "subject": "x"}, "subject is 'x' but wide is False"),
        ({"wide": True, "columns": ("a", "b", "c")}, "a wide table has none of them"),
        ({"subject": "x"}, "there is no column 'x'"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, options: dict[str, object], message: str) -> None:
    path = written(tmp_path / "c.csv", ",")
    with pytest.raises(DataError, match=message):
        FactTable.read(path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["", "country,capital\n", "country\nFrance\n"])
def test_no_table(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=r"c\.csv"):
        FactTable.read(path, wide=True)


@pytest.mark.parametrize(("usual", "other"), FORMS.items())
def test_names_in_any_form_of_unicode(tmp_path: Path, usual: str, other: str) -> None:
    path = tmp_path / "places.csv"
    rows = [f"größe,{usual},next", f"{usual},1,{other}", f"b,２,{other}; c", f"{other},1,{other}"]
    path.write_text("\n".join(rows), encoding="utf-8")
    for column in ("größe", "gro\u0308ße", "Größe\u00a0"):
        table = FactTable.read(path, subject=column)
        assert facts_of(table) == sorted(
            [
                ("b", "next", "c"),
                ("b", "next", usual),
                ("b", usual, "2"),
                (usual, "next", usual),
                (usual, usual, "1"),
            ]
        )
        assert "several rows" not in table.notes[0]
    path.write_text("\n".join([*rows[:3], f"{other},3,b"]), encoding="utf-8")
    table = FactTable.read(path, subject="größe")
    assert f"{usual!r} stands for several rows, which stay apart" in table.notes[0]
    assert {f"{usual} (line 2)", f"{usual} (line 4)"} <= set(table.entities.to_pylist())
