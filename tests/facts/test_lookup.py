"""Facts and entities are found as by brute force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.facts.tables import Triple, quick, small_id, some_triples

from hmn.errors import DataError
from hmn.facts.ids import canonical_id
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
