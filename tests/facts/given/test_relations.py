"""Relations without words get those of their labels, and are found with and without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hmn.errors import DataError
from hmn.facts.changing import ChangingTable
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable

NAMES = {
    "Q42": ["Douglas Adams"],
    "Q350": ["Cambridge"],
    "P19": ["place of birth", "born in"],
    "wdt:P106": ["occupation"],
    "writes": ["something else"],
}
TRIPLES = [
    ("Q42", "P19", "Q350"),
    ("wd:Q42", "wdt:P106", "Q36180"),
    ("Q42", "writes", "Q1"),
    ("Q42", "P1", "Q2"),
]


def test_labels_become_words() -> None:
    table = FactTable.from_triples(TRIPLES, NAMES)
    assert table.relations == ["P1", "occupation <P106>", "place of birth <P19>", "writes"]
    assert [table.relation_text(number) for number in range(4)] == [
        "P1",
        "occupation",
        "place of birth",
        "writes",
    ]
    for relation in ("P19", "wdt:P19", "http://www.wikidata.org/prop/direct/P19", "place of birth <P19>"):
        assert table.fact(table.cell_of("Q42", relation, "Q350")).object_name == "Cambridge"
        assert table.cells_of(["Q42"], [relation], ["http://www.wikidata.org/entity/Q350"]).tolist() == [
            table.cell_of("wd:Q42", relation, "Q350")
        ]
    assert table.cell_of("Q42", "P20", "Q350") == -1


def test_backwards() -> None:
    plain = FactTable.from_triples(TRIPLES, NAMES)
    table = FactTable.from_triples(TRIPLES, NAMES, inverse=True)
    cell = table.cell_of("Q350", "R19", "Q42")
    assert table.fact(cell)[:3] == ("Q350", "~place of birth <P19>", "Q42")
    assert table.fact(cell).relation_name == "inverse of place of birth"
    rows = [("Q350", "R19", "Q42", "who was born in cambridge")]
    assert QuestionSet.from_rows(table, rows).cell.tolist() == [cell]
    with pytest.raises(
        DataError, match=r"not in the table of facts; \(Q42, P19, Q350\) is, and inverse \(--inver"
    ):
        QuestionSet.from_rows(plain, rows)
    assert QuestionSet.from_rows(table, [("Q1", "~writes", "Q42", "who")]).cell.tolist() == [
        table.cell_of("Q1", "~writes", "Q42")
    ]


def test_facts_that_are_read_backwards() -> None:
    table = FactTable.from_triples([("Q350", "R19", "Q42"), ("x", "R2", "y")], NAMES)
    assert table.relations == ["R2", "~place of birth <P19>"]
    assert table.cell_of("x", "R2", "y") >= 0


def test_new_facts_meet_the_relations_that_are_there() -> None:
    for names in (NAMES, {}, {"P19": ["Geburtsort"]}):
        table = ChangingTable(FactTable.from_triples(TRIPLES, NAMES))
        relations = len(table.relations)
        added, _ = table.add(FactTable.from_triples([("Q5", "P19", "Q350"), ("Q42", "P19", "Q350")], names))
        assert (len(added), len(table.relations)) == (1, relations)
        assert table.cell_of("Q5", "P19", "Q350") == added[0]


def test_a_saved_table(tmp_path: Path) -> None:
    FactTable.from_triples(TRIPLES, NAMES, inverse=True).write(tmp_path)
    table = FactTable.load(tmp_path)
    assert table.cell_of("Q350", "R19", "Q42") >= 0
    old = FactTable.from_triples([("http://x/Q42", "P19", "b")])
    assert old.relations == ["P19"]


def test_labels_of_addresses_in_tables(tmp_path: Path) -> None:
    (tmp_path / "facts.tsv").write_text("a\thttp://example.org/p7\tb\n")
    (tmp_path / "names.tsv").write_text("http://example.org/p7\tlives  in\n")
    table = FactTable.read(tmp_path / "facts.tsv", tmp_path / "names.tsv")
    assert table.fact(0)[1:5:3] == ("lives in <http://example.org/p7>", "lives in")
    assert table.cell_of("a", "http://example.org/p7", "b") == 0
