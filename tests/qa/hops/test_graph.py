from __future__ import annotations

import numpy as np
from tests.qa.hops.world import table

from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.hops.graph import Graph


def test_pairs_facts_and_cells_of_entities() -> None:
    facts = table()
    graph = Graph(facts, Cells.of(facts))
    entities = np.arange(facts.num_entities)
    pairs = graph.pairs_of(entities)
    for entity in entities:
        own = np.flatnonzero(facts.subject == entity)
        assert pairs.row(entity).tolist() == sorted(set(facts.pair[own].tolist()))
        cells = np.flatnonzero(
            [entity in facts.subject[graph.cells.facts.row(cell)] for cell in range(len(graph.cells))]
        )
        assert graph.cells_of(np.array([entity])).flat.tolist() == cells.tolist()
    held = graph.facts_of(pairs.flat)
    assert sorted(held.flat.tolist()) == list(range(len(facts)))
    assert all(len(set(facts.relation[held.row(row)])) == 1 for row in range(held.rows))
    assert (graph.relation[facts.pair] == facts.relation).all()
    assert (graph.cells.relation[graph.cell_of_relation] == np.arange(len(facts.relations))).all()


def test_cells_under_all_names_and_of_namesakes() -> None:
    facts = FactTable.from_triples(
        [("a", "r", "x"), ("b", "r", "y"), ("a", "s", "z")], {"a": ["Ann", "Anna"], "b": ["Ann"]}
    )
    graph = Graph(facts, Cells.of(facts))
    a, b = facts.entity_number("a"), facts.entity_number("b")
    rows = graph.cells_of(np.array([b, a, b]))
    assert [len(rows.row(row)) for row in range(3)] == [1, 4, 1]  # Ann and Anna, each with r and s
    assert set(rows.row(0)) < set(rows.row(1))  # both are called Ann


def test_entities_without_facts_of_their_own() -> None:
    facts = FactTable.from_triples([("a", "r", "x")])
    graph = Graph(facts, Cells.of(facts))
    x = np.array([facts.entity_number("x")])
    assert graph.pairs_of(x).length.tolist() == graph.cells_of(x).length.tolist() == [0]
    assert graph.cells_of(x[:0]).rows == 0
