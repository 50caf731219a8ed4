"""Rows in any order and spelling become the same numbered facts; repeats are reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from tests.facts.tables import Triple, quick, some_triples, triples_of

from hmn.errors import DataError
from hmn.facts.table import FactTable


@quick
@given(triples=some_triples)
def test_inverse_adds_each_fact_backwards(triples: list[Triple]) -> None:
    facts = FactTable.from_triples(triples, inverse=True)
    assert triples_of(facts) == sorted([*triples, *((o, f"~{r}", s) for s, r, o in triples)])


def test_inverse_of_a_table_that_has_some_already() -> None:
    facts = FactTable.from_triples([("a", "r", "b"), ("b", "~r", "a")], inverse=True)
    assert triples_of(facts) == [("a", "r", "b"), ("b", "~r", "a")]


def test_fb2m_line_with_several_objects(tmp_path: Path) -> None:
    path = tmp_path / "facts.txt"
    path.write_text(
        "www.freebase.com/m/0x\twww.freebase.com/a/b/c\twww.freebase.com/m/0z www.freebase.com/m/0y\n"
        "fb:m.0x\tfb:a.b.c\tNew York City\n"
        "m.0x\ta/b/c\tfb:m.0q other\n"
    )
    assert triples_of(FactTable.read(path)) == [
        ("m.0x", "a/b/c", entity) for entity in ("New York City", "fb:m.0q other", "m.0y", "m.0z")
    ]


def test_repeated_fact_is_kept_once_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_text("b\tr\tc\na\tr\tb\nm.0a\tr\tm.0b\n\nfb:m.0a\tr\tfb:m.0c fb:m.0b\na\tr\tb\n")
    facts = FactTable.read(path)
    assert triples_of(facts) == [
        ("a", "r", "b"),
        ("b", "r", "c"),
        ("m.0a", "r", "m.0b"),
        ("m.0a", "r", "m.0c"),
    ]
    assert (facts.skipped.total, facts.repeated.total) == (0, 2)
    assert [message.split(":")[1:] for message in facts.repeated.messages] == [
        [line, " an earlier line has the same fact"] for line in ("5", "6")
    ]
    again = FactTable.from_triples([*triples_of(facts), ("a", "r", "b")], inverse=True)
    assert (len(again), again.repeated.messages) == (8, ("triples:5: an earlier line has the same fact",))


@pytest.mark.parametrize("triples", [[], [("a", "r")], [("a", "r", "b"), ("a", " ", "b")], [("a", 1, "b")]])
def test_bad_triples(triples: list[Triple]) -> None:
    with pytest.raises(DataError, match=f"triples:?{len(triples) or ''}"):
        FactTable.from_triples(triples)
