"""Facts and entities are found as by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.facts.tables import FORMS, Triple, quick, small_id, some_triples

from hmn.errors import DataError
from hmn.facts.changing import ChangingTable
from hmn.facts.ids import canonical_id
from hmn.facts.names import Names
from hmn.facts.numbering import NumberedFacts
from hmn.facts.table import FactTable


@quick
@given(triples=some_triples)
def test_look_ups_agree_with_brute_force(triples: list[Triple]) -> None:
    facts = FactTable.from_triples(triples)
    rows = sorted(triples)
    ids = facts.entities.to_pylist()
    pairs = sorted({row[:2] for row in rows})
    assert facts.pair.tolist() == [pairs.index(row[:2]) for row in rows]
    for number, pair in enumerate(pairs):
        assert facts.cells_of_pair(number).tolist() == [i for i, row in enumerate(rows) if row[:2] == pair]
    assert facts.pair_start.tolist()[-1] == len(rows)
    for number, entity in enumerate(ids):
        assert facts.cells_with_object(number).tolist() == [
            i for i, row in enumerate(rows) if row[2] == entity
        ]
        assert facts.entity_number(entity) == number
    every = [(s, r, o) for s in [*ids, "none"] for r in ["r", "s", "t_u", "none"] for o in [*ids, "none"]]
    expected = [rows.index(fact) if fact in rows else -1 for fact in every]
    assert [facts.cell_of(*fact) for fact in every] == expected
    assert facts.cells_of(*zip(*every, strict=True)).tolist() == expected


@quick
@given(
    names=st.dictionaries(
        small_id, st.lists(st.sampled_from(["x", "X", "x  y", "X Y", "ß", "SS", "New york"]))
    ),
    text=st.sampled_from(["x", "X", " x y", "ss", "NEW YORK", "m.0a", "/m/0a", "New_York", "b", "none"]),
)
def test_find_entities_agrees_with_brute_force(names: dict[str, list[str]], text: str) -> None:
    def folded(name: str) -> str:
        return " ".join(name.casefold().split())

    ids = ["New_York", "a", "b", "m.0a", "é"]
    facts = FactTable.from_triples([(entity, "r", "a") for entity in ids], names)
    expected = [
        number
        for number, entity in enumerate(ids)
        if canonical_id(text) == entity
        or folded(text) in [folded(name) for name in names.get(entity) or [entity.replace("_", " ")]]
    ]
    assert facts.find_entities(text).tolist() == expected


def test_an_id_that_no_file_can_hold_is_not_there() -> None:
    table = FactTable.from_triples([("a", "r", "b")])
    assert table.cells_of(["a", "\ud800"], ["r", "r"], ["b", "b"]).tolist() == [0, -1]


def test_as_many_subjects_as_relations_and_objects_are_expected() -> None:
    table = FactTable.from_triples([("a", "r", "b")])
    with pytest.raises(DataError, match="got 2 subjects, 1 relations and 1 objects"):
        table.cells_of(["a", "a"], ["r"], ["b"])


def test_a_number_that_is_no_entity_is_refused() -> None:
    facts = FactTable.from_triples([("a", "r", "b")])
    for number in (-1, 2, 10**9):
        for look in (facts.names_of, facts.cells_with_object):
            with pytest.raises(DataError, match=f"entity is {number}, expected 0 to 1"):
                look(number)
    assert facts.names_of(facts.entity_number("b")) == ["b"]


@pytest.mark.parametrize(("usual", "other"), FORMS.items())
def test_a_name_or_id_is_found_in_any_form_of_unicode(usual: str, other: str) -> None:
    for there, asked in ((usual, other), (other, usual)):
        facts = FactTable.from_triples([(there, there, "x"), ("x", "r", "y")], {"y": [there]})
        named = [facts.entity_id(entity) for entity in facts.find_entities(asked.upper())]
        assert named == sorted([usual, "y"])
        assert facts.cell_of(asked, asked, "x") == facts.cells_of([asked], [asked], ["x"])[0] >= 0
        assert facts.entity_number(asked) == facts.entity_number(usual) >= 0


@pytest.mark.parametrize(("usual", "other"), FORMS.items())
def test_a_fact_in_two_forms_of_unicode_is_one(usual: str, other: str) -> None:
    facts = FactTable.from_triples([("a", "r", usual), ("a", "r", other)])
    assert len(facts) == facts.repeated.total == 1 and facts.fact(0).object == usual


@pytest.mark.parametrize(("usual", "other"), FORMS.items())
def test_a_table_of_before_keeps_its_ids_and_finds_them(usual: str, other: str) -> None:
    """Tables that an older version saved have ids as their files spelled them."""
    facts = FactTable.from_triples([("a", "r", "b"), ("b", "s", "a")])
    ids, relations = sorted([other, "a"]), sorted([other, "r"])
    number, relation = np.array([ids.index(other)], np.int32), np.array([relations.index(other)], np.int32)
    empty = np.zeros(0, np.int32)
    old = FactTable.of(
        NumberedFacts(ids, relations, number, relation, number), Names(empty, facts.names.text, 2)
    )
    for table in (old, ChangingTable(old)):
        for asked in (usual, other):
            assert table.entity_id(table.entity_number(asked)) == other
            assert table.find_entities(asked).tolist() == number.tolist()
            assert table.cell_of(asked, asked, asked) == 0
            assert table.cells_of([asked, "a"], [asked, "r"], [asked, "a"]).tolist() == [0, -1]
    changing = ChangingTable(old)
    added, renamed = changing.add(FactTable.from_triples([(usual, usual, usual), (usual, "r", "new")]))
    assert len(added) == 1 and not renamed and changing.num_entities == 3
