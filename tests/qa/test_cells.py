"""Cells are the distinct texts of the facts, under every name of their subjects."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hmn.errors import ShapeError
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.words.splitting import LETTERS

quick = settings(max_examples=50, deadline=None)
FOLDED = {
    "Ann": "ann",
    "ANN": "ann",
    "Änn!": "änn!",
    "Bob": "bob",
    "b.o.b": "b o b",
    "New_York": "new york",
    "?!": "!",
    "…": "…",
}
"""Names, and what the encoders see of each."""

entity = st.sampled_from([f"e{number}" for number in range(6)])
triples = st.lists(st.tuples(entity, st.sampled_from(["r", "s"]), entity), min_size=1, unique=True)
naming = st.dictionaries(
    entity, st.lists(st.sampled_from(sorted(FOLDED)), min_size=1, max_size=3, unique=True)
)

Triple = tuple[str, str, str]
Naming = dict[str, list[str]]
Text = tuple[str, ...]


def texts_of(cells: Cells, facts: FactTable) -> list[Text]:
    """What each cell reads, from the arrays."""
    found = []
    for cell in range(len(cells)):
        text = [cells.names[cells.subject[cell]], facts.relations[cells.relation[cell]]]
        found.append((*text, cells.names[cells.object[cell]]) if cells.object is not None else tuple(text))
    return found


def folded_names(facts: FactTable, number: int) -> list[str]:
    return [FOLDED.get(name, name) for name in facts.names_of(number)]


def by_hand(facts: FactTable, objects: bool) -> dict[Text, set[int]]:
    """Facts by each text that they can be read as."""
    found: dict[Text, set[int]] = {}
    for fact in range(len(facts)):
        for name in folded_names(facts, int(facts.subject[fact])):
            text: Text = (name, facts.relations[facts.relation[fact]])
            if objects:
                text += (folded_names(facts, int(facts.object[fact]))[0],)
            found.setdefault(text, set()).add(fact)
    return found


@quick
@given(triples=triples, names=naming, objects=st.booleans(), seed=st.integers(0, 9))
def test_cells_are_the_distinct_texts(triples: list[Triple], names: Naming, objects: bool, seed: int) -> None:
    facts = FactTable.from_triples(triples, names)
    cells = Cells.of(facts, objects=objects)
    texts, wanted = texts_of(cells, facts), by_hand(facts, objects)
    assert len(cells) == len(texts) == len(set(texts)) and set(texts) == set(wanted)
    assert len(set(cells.names)) == len(cells.names)
    assert cells.facts.rows == len(cells) and cells.of_fact.rows == len(facts)
    for cell, text in enumerate(texts):
        assert cells.facts.row(cell).tolist() == sorted(wanted[text])
    for fact in range(len(facts)):
        holding = [cell for cell, text in enumerate(texts) if fact in wanted[text]]
        assert cells.of_fact.row(fact).tolist() == holding
        assert holding, "no fact is out of reach"

    random.Random(seed).shuffle(triples)
    shuffled = list(names.items())
    random.Random(seed).shuffle(shuffled)
    other = Cells.of(FactTable.from_triples(triples, dict(shuffled)), objects=objects)
    assert other.names == cells.names
    for one, two in zip(
        [cells.subject, cells.relation, *cells.facts, *cells.of_fact],
        [other.subject, other.relation, *other.facts, *other.of_fact],
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


def test_each_name_of_a_subject_has_a_cell_and_a_shared_name_one() -> None:
    names = {"a": ["Ada", "The Countess"], "b": ["ADA"]}
    facts = FactTable.from_triples([("a", "born", "x"), ("b", "born", "y"), ("b", "died", "x")], names)
    cells = Cells.of(facts)
    held = {text: cells.facts.row(at).tolist() for at, text in enumerate(texts_of(cells, facts))}
    assert held == {
        ("ada", "born"): [0, 1],
        ("the countess", "born"): [0],
        ("ada", "died"): [2],
    }


def test_names_that_differ_in_case_alone_are_one() -> None:
    facts = FactTable.from_triples([("a", "r", "x")], {"a": ["Zoë", "ZOE", "ZOË", "Zoe.", "C", "C++"]})
    assert Cells.of(facts).names == ["zoë", "zoe", "c", "c++"]
    assert Cells.of(facts, splitting=LETTERS).names == ["zoe", "c"]


def test_objects_tell_facts_of_one_pair_apart() -> None:
    facts = FactTable.from_triples([("a", "r", "x"), ("a", "r", "y"), ("a", "r", "z")], {"z": ["X", "zed"]})
    assert len(Cells.of(facts)) == 1
    cells = Cells.of(facts, objects=True)
    held = {text[2]: cells.facts.row(at).tolist() for at, text in enumerate(texts_of(cells, facts))}
    assert held == {"x": [0, 2], "y": [1]}


def test_an_entity_without_a_name_is_read_by_its_id() -> None:
    facts = FactTable.from_triples([("New_York", "r", "x")])
    assert texts_of(Cells.of(facts), facts) == [("new york", "r")]


@quick
@given(triples, naming, st.booleans())
def test_cells_that_were_saved_are_those_that_would_be_laid_out(
    rows: list[Triple], names: Naming, objects: bool
) -> None:
    facts = FactTable.from_triples(rows, names)
    cells = Cells.of(facts, objects=objects)
    again = Cells.unpacked(cells.packed(), facts, objects=objects, splitting=cells.splitting.name)
    assert again.names == cells.names and again.splitting == cells.splitting
    for name in ("subject", "relation", "object"):
        one, other = getattr(again, name), getattr(cells, name)
        assert (one is None) is (other is None) and (one is None or np.array_equal(one, other))
        assert one is None or one.dtype == other.dtype
    for rows_of in ("facts", "of_fact"):
        one, other = getattr(again, rows_of), getattr(cells, rows_of)
        assert np.array_equal(one.start, other.start) and np.array_equal(one.flat, other.flat)


def test_a_name_of_two_lines_is_not_saved() -> None:
    facts = FactTable.from_triples([("a\nb", "r", "c")])
    cells = Cells.of(facts)
    assert (cells.packed() == {}) is any("\n" in name for name in cells.names)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"names": torch.tensor([255], dtype=torch.uint8)}, "names is no text in UTF-8"),
        ({"names": torch.zeros(3)}, r"names is \(3,\) of torch.float32, expected bytes of text"),
        ({"subject": torch.tensor([0, 1, 9])}, "subject holds 0 to 9, expected row numbers from 0 to 2"),
        ({"relation": torch.tensor([0, 0, 2])}, "relation holds 0 to 2, expected row numbers from 0 to 0"),
        ({"relation": torch.tensor([0, 0])}, "expected those of the table"),
        ({"cell": torch.tensor([0, 1, 1])}, "a fact has no cell or a cell no fact"),
        ({"cells_of_fact": torch.tensor([3, 0])}, "a fact has no cell or a cell no fact"),
        ({"cells_of_fact": torch.tensor([1, 1])}, "a fact has no cell or a cell no fact"),
        ({"cells_of_fact": torch.tensor([3])}, "there are 1 facts of 3 cells"),
    ],
)
def test_cells_that_do_not_fit_their_table_are_refused(damage: dict[str, Tensor], message: str) -> None:
    facts = FactTable.from_triples([("e1", "r", "x"), ("e2", "r", "x")], {"e1": ["ann", "bob"]})
    packed = Cells.of(facts).packed()
    with pytest.raises(ShapeError, match=message):
        Cells.unpacked({**packed, **damage}, facts, objects=False, splitting="scripts")
    with pytest.raises(ShapeError, match="cell is missing"):
        Cells.unpacked(
            {n: v for n, v in packed.items() if n != "cell"}, facts, objects=False, splitting="scripts"
        )
