"""Cells that change, beside cells that are laid out at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.facts.tables import Triple, quick, some_triples

from hmn.facts.changing import ChangingTable
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.changes.cells import ChangingCells

NAMES = {"a": ["Ada", "The Countess"], "b": ["Bo"], "é": ["ADA"], "m.0a": ["Eve"], "zz": ["Zoe", "Bo"]}
steps = st.lists(st.tuples(st.booleans(), some_triples), max_size=6)
Layout = dict[tuple[str, ...], set[Triple]]


def layout(cells: Cells, facts: FactTable) -> Layout:
    """The facts of each text, of the cells that stand for any."""
    found: Layout = {}
    for cell in range(len(cells)):
        text = (cells.names[cells.subject[cell]], facts.relations[cells.relation[cell]])
        text += () if cells.object is None else (cells.names[cells.object[cell]],)
        held = {facts.fact(int(fact))[:3] for fact in cells.facts.row(cell)}
        if held:
            assert text not in found, "each text has one cell"
            found[text] = held
    return found


@quick
@given(some_triples, steps, st.booleans(), st.booleans())
def test_cells_that_changed_are_those_of_the_facts(
    first: list[Triple], steps: list[tuple[bool, list[Triple]]], objects: bool, late: bool
) -> None:
    """``late``: the names come with the facts that are added, not with the first table."""
    base = FactTable.from_triples(first, {} if late else NAMES)
    table = ChangingTable(base)
    cells, wanted = ChangingCells(Cells.of(base, objects=objects), base), set(first)
    cells._table = table
    taken = set(range(len(cells)))
    for adds, triples in steps:
        none = np.zeros(0, np.int64)
        if adds:
            added, renamed = table.add(FactTable.from_triples(triples, NAMES))
            moved = [table.cells_of_pairs(table.pairs_of(np.array([one])).flat).flat for one in renamed]
            moved += [table.cells_with_object(one) for one in renamed]
            change = cells.place(np.unique(np.concatenate([added, *moved])), none)
            wanted |= set(triples)
        else:
            there = sorted(wanted & set(triples))
            removed = np.array([table.cell_of(*triple) for triple in there], np.int64)
            table.remove(removed)
            change = cells.place(none, removed)
            wanted -= set(triples)
        new, empty = set(change.new.tolist()), set(change.empty.tolist())
        assert not new & taken and empty <= taken
        taken = (taken | new) - empty
        assert taken == set(cells.taken.tolist())
    if not wanted:
        return
    settled = table.settled().facts
    at_once = Cells.of(settled, objects=objects)
    assert layout(cells, table) == layout(at_once, settled)
    for triple in wanted:
        fact = table.cell_of(*triple)
        holding = [cell for cell in range(len(cells)) if fact in cells.facts.row(cell)]
        assert cells.of_fact.row(fact).tolist() == holding


@pytest.mark.parametrize("objects", [False, True])
def test_a_free_cell_is_the_next_new_one(objects: bool) -> None:
    base = FactTable.from_triples([("a", "r", "x"), ("b", "r", "x"), ("c", "r", "x")])
    table = ChangingTable(base)
    cells = ChangingCells(Cells.of(base, objects=objects), table)
    none = np.zeros(0, np.int64)
    gone = np.array([table.cell_of("b", "r", "x")])
    table.remove(gone)
    assert cells.place(none, gone).empty.tolist() == [1] and cells.taken.tolist() == [0, 2]
    change = cells.place(table.add(FactTable.from_triples([("d", "s", "y")])).cells, none)
    assert change.new.tolist() == [1] and len(cells) == 3
    change = cells.place(table.add(FactTable.from_triples([("b", "r", "x")])).cells, none)
    assert change.new.tolist() == [3] and len(cells) == 4
    relations = ["r", "s"]
    wanted = {"a r", "c r", "d s", "b r"}
    if objects:
        wanted = {"a r x", "c r x", "d s y", "b r x"}
    assert set(cells.texts(relations)) == wanted
    assert cells.texts(relations, np.array([1])) == ["d s y" if objects else "d s"]
