"""Tables that change, beside tables that are made of the same facts at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.facts.tables import FORMS, Triple, assert_same, quick, some_triples, triples_of

from hmn.errors import DataError
from hmn.facts.changing import ChangingTable
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable

NAMES = {"a": ["Ada", "The Countess"], "b": ["Bo"], "é": ["Ada"], "m.0a": ["Eve"], "zz": ["Zoe", "Bo"]}
changes = st.lists(st.tuples(st.booleans(), some_triples), max_size=6)


def made(triples: set[Triple], names: dict[str, list[str]] | None = None) -> FactTable:
    return FactTable.from_triples(sorted(triples), NAMES if names is None else names)


def cells_of(table: FactTable, triples: set[Triple]) -> list[int]:
    return table.cells_of(*zip(*sorted(triples), strict=True)).tolist()


@quick
@given(some_triples, changes, st.booleans())
def test_a_table_that_changed_is_the_table_of_its_facts(
    first: list[Triple], steps: list[tuple[bool, list[Triple]]], asked: bool
) -> None:
    """Lists by pair, subject and object are those of a table read at once; ``asked`` makes one early."""
    base = made(set(first))
    table, wanted, numbers = ChangingTable(base), set(first), {}
    if asked:
        table.cells_with_object(0)
    for adds, triples in steps:
        numbers.update((triple, table.cell_of(*triple)) for triple in wanted)
        if adds:
            added, renamed = table.add(made(set(triples)))
            assert len(added) == len(set(triples) - wanted) and not renamed
            wanted |= set(triples)
        elif wanted - set(triples):
            there = sorted(wanted & set(triples))
            table.remove(np.array([table.cell_of(*triple) for triple in there], np.int64))
            wanted -= set(triples)
        now = {triple: table.cell_of(*triple) for triple in wanted}
        assert -1 not in now.values() and len(set(now.values())) == len(wanted) == len(table)
        assert all(now[triple] == cell for triple, cell in numbers.items() if triple in now), "numbers stay"
    settled = table.settled()
    assert_same(settled.facts, made(wanted))
    for triple in wanted:
        cell = table.cell_of(*triple)
        assert table.fact(cell) == settled.facts.fact(int(settled.cell[cell]))
        pair = settled.facts.cells_of_pair(int(settled.facts.pair[settled.cell[cell]]))
        assert settled.cell[table.cells_of_pair(int(table.pair[cell]))].tolist() == pair.tolist(), "in order"
        there = settled.cell[table.cells_with_object(int(table.object[cell]))]
        again = settled.facts.cells_with_object(int(settled.facts.object[settled.cell[cell]]))
        assert sorted(there) == sorted(again)
        subject = np.array([table.subject[cell]])
        own = {table.fact(int(one))[:3] for one in table.cells_of_pairs(table.pairs_of(subject).flat).flat}
        assert own == {other for other in wanted if other[0] == triple[0]}
    for text in ("Ada", "bo", "the countess", "zz", "New York", "nobody", "10"):
        entities = {table.entity_id(entity) for entity in table.find_entities(text)}
        known = {settled.facts.entity_id(entity) for entity in settled.facts.find_entities(text)}
        assert known == {entity for entity in entities if settled.entity[table.entity_number(entity)] >= 0}
    assert triples_of(base) == sorted(set(first)), "the table it began with is as it was"


def test_names_that_come_later_go_behind_those_that_are_there() -> None:
    base = made({("a", "r", "b"), ("c", "r", "b")}, {"a": ["Ada"]})
    table = ChangingTable(base)
    more = made({("a", "r", "b"), ("c", "s", "d")}, {"a": ["Countess", "Ada"], "c": ["Carl"], "d": ["Dora"]})
    added, renamed = table.add(more)
    assert [table.fact(int(cell))[:3] for cell in added] == [("c", "s", "d")]
    assert [table.entity_id(entity) for entity in renamed] == ["a", "c"]
    assert table.names_of(table.entity_number("a")) == ["Ada", "Countess"]
    assert table.names_of(table.entity_number("c")) == ["Carl"], "an id is no name once there is one"
    assert table.names_of(table.entity_number("b")) == ["b"]
    for text, wanted in {"countess": "a", "carl": "c", "dora": "d", "c": "c"}.items():
        assert [table.entity_id(entity) for entity in table.find_entities(text)] == [wanted]
    names = {"a": ["Ada", "Countess"], "c": ["Carl"], "d": ["Dora"]}
    whole = {("a", "r", "b"), ("c", "r", "b"), ("c", "s", "d")}
    assert_same(table.settled().facts, made(whole, names))
    assert table.names.text.to_pylist() == ["Ada", "Countess", "Carl", "Dora"]
    assert table.entities.to_pylist() == ["a", "b", "c", "d"]


def test_a_removed_fact_keeps_its_cell_and_is_in_no_list() -> None:
    table = ChangingTable(made({("a", "r", "b"), ("a", "r", "c"), ("b", "s", "c")}))
    cell = table.cell_of("a", "r", "b")
    asked = QuestionSet.from_rows(table, [("a", "r", "b", "q")])
    table.remove(np.array([cell]))
    assert table.cell_of("a", "r", "b") == -1 and len(table) == 2 and table.num_cells == 3
    assert not asked.fits(table) and repr(table).startswith("FactTable(2 facts")
    assert table.cells_with_object(table.entity_number("b")).tolist() == []
    with pytest.raises(DataError, match="is not in the table of facts"):
        QuestionSet.from_rows(table, [("a", "r", "b", "q")])
    assert table.add(made({("a", "r", "b")})).cells.tolist() == [cell]
    assert asked.fits(table) and table.cell_of("a", "r", "b") == cell


def test_questions_about_a_table_that_changed() -> None:
    """Answers are ascending whatever the order of the ids; renumbered, the questions are those read again."""
    table = ChangingTable(made({("b", "r", "z"), ("b", "r", "y"), ("c", "r", "z")}, {}))
    table.add(made({("b", "r", "a"), ("new", "t", "newer")}, {}))
    table.remove(np.array([table.cell_of("b", "r", "y")]))
    rows = [("b", "r", "a", "one"), ("new", "t", "newer", "two"), ("c", "r", "z", "three")]
    asked = QuestionSet.from_rows(table, rows)
    assert asked.answers(0).tolist() == sorted(asked.answers(0).tolist())
    settled = table.settled()
    moved, again = asked.renumbered(settled.cell, settled.entity), QuestionSet.from_rows(settled.facts, rows)
    for name in ("cell", "answer", "answer_start"):
        np.testing.assert_array_equal(getattr(moved, name), getattr(again, name))
    named = QuestionSet.from_rows(table, [("q", "newer"), ("q", ["a", "z"])])
    moved = named.renumbered(settled.cell, settled.entity)
    again = QuestionSet.from_rows(settled.facts, [("q", "newer"), ("q", ["a", "z"])])
    np.testing.assert_array_equal(moved.answer, again.answer)
    assert moved.cell.tolist() == [-1, -1]
    with pytest.raises(DataError, match="no fact has the answer 'y'"):
        QuestionSet.from_rows(table, [("q", "y")])


def test_inverses() -> None:
    base = FactTable.from_triples([("a", "r", "b"), ("b", "s", "a")], inverse=True)
    table = ChangingTable(base)
    assert table.has_inverses and not ChangingTable(made({("a", "r", "b")})).has_inverses
    cells = np.array([table.cell_of("a", "r", "b"), table.cell_of("a", "~s", "b")])
    assert [table.fact(int(cell))[:3] for cell in table.inverses_of(cells)] == [
        ("b", "~r", "a"),
        ("b", "s", "a"),
    ]


def test_what_a_table_that_changes_does_not_have() -> None:
    table = ChangingTable(made({("a", "r", "b")}))
    with pytest.raises(DataError, match="pair_start"):
        _ = table.pair_start
    with pytest.raises(DataError, match="as many of each"):
        table.cells_of(["a"], ["r"], [])
    with pytest.raises(DataError, match="entity is 9"):
        table.cells_with_object(9)
    assert table.entity_number("nobody") == table.cell_of("a", "r", "nobody") == -1


@pytest.mark.parametrize(("usual", "other"), FORMS.items())
def test_a_subject_or_name_in_another_form_of_unicode_is_the_one_that_is_there(
    usual: str, other: str
) -> None:
    for there, given_now in ((usual, other), (other, usual)):
        table = ChangingTable(FactTable.from_triples([(there, "r", "b")], {"b": [there]}))
        added, renamed = table.add(
            FactTable.from_triples([(given_now, "r", "b"), (given_now, "s", "new")], {"b": [given_now]})
        )
        assert [table.fact(int(cell))[:3] for cell in added] == [(usual, "s", "new")] and not renamed
        assert table.names_of(table.entity_number("b")) == [" ".join(there.split())]
        table.add(FactTable.from_triples([("new", there, "late")], {"late": [there]}))
        found = sorted(table.entity_id(entity) for entity in table.find_entities(given_now))
        assert found == sorted([usual, "b", "late"])
        assert table.cell_of("new", given_now, "late") >= 0
        table.remove(table.cells_of([given_now], ["r"], ["b"]))
        assert len(table) == 2


def test_few_facts_and_many_are_added_alike() -> None:
    """Ids are looked up one by one in a table that is large beside them, and all at once otherwise."""
    first = [(f"s{number}", "r", f"Zürich {number}") for number in range(300)]
    few = [("Zu\u0308rich 7", "r", "s4"), ("s4", "r", "new")]
    many = [(f"new {number}", "r", f"s{number}") for number in range(300)] + few
    for rows in (few, many):
        table = ChangingTable(FactTable.from_triples(first))
        added = table.add(FactTable.from_triples(rows)).cells
        assert sorted(added.tolist()) == list(range(300, 300 + len(rows)))
        whole = FactTable.from_triples([*first, *rows])
        settled = table.settled().facts
        assert settled.entities == whole.entities
        assert [settled.fact(cell) for cell in range(len(settled))] == [
            whole.fact(cell) for cell in range(len(whole))
        ]
