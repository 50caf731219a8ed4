from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.qa.hops.world import table

from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.hops.graph import Graph


def test_cells_and_relations_of_entities() -> None:
    facts = table()
    graph = Graph(facts, Cells.of(facts))
    assert (graph.relation_of(facts.pair) == facts.relation).all()
    subjects = [facts.subject[graph.cells.facts.row(cell)] for cell in range(len(graph.cells))]
    entities = np.arange(facts.num_entities)
    for entity, cells in zip(entities, np.split(*_split(graph, entities)), strict=True):
        assert cells.tolist() == np.flatnonzero([entity in own for own in subjects]).tolist()


def _split(graph: Graph, entities: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows = graph.cells_of(entities)
    return rows.flat, rows.start[1:-1]


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
    assert graph.cells_of(x).length.tolist() == [0]
    assert graph.cells_of(x[:0]).rows == 0


def test_cells_that_name_objects_are_all_found() -> None:
    facts = FactTable.from_triples([("a", "r", "x"), ("a", "r", "y"), ("b", "r", "x")])
    graph = Graph(facts, Cells.of(facts, objects=True))
    rows = graph.cells_of(np.array([facts.entity_number("a"), facts.entity_number("b")]))
    assert rows.length.tolist() == [2, 1]
    assert len(set(rows.flat.tolist())) == 3


@pytest.mark.parametrize("objects", [False, True])
def test_one_cell_of_each_entity(objects: bool) -> None:
    facts = table()
    facts = FactTable.from_triples(
        [(fact.subject, fact.relation, fact.object) for fact in map(facts.fact, range(60))]
    )
    graph = Graph(facts, Cells.of(facts, objects=objects))
    entities = np.arange(facts.num_entities)
    found, rows = graph.cell_of(entities), graph.cells_of(entities)
    assert ((found < 0) == (rows.length == 0)).all()
    assert (found < 0).any() and (found >= 0).any()
    assert all(cell in rows.row(entity) for entity, cell in enumerate(found.tolist()) if cell >= 0)
    assert graph.cell_of(entities[:0]).tolist() == []
