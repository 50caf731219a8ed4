"""The facts as a graph: the (subject, relation) pairs of each entity, and the entities that each pair has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hmn.facts.ragged import Ragged, offsets
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells


class Graph:
    """Looks up which pairs belong to entities, cells and facts.

    Args:
        facts: the table. An entity's facts follow one another in it, and so do those of a pair.
        cells: the cells of the table.

    Attributes:
        relation: ``(P,)`` number of each pair's relation.
        cell_of_relation: ``(relations,)`` a cell that has each relation.
    """

    def __init__(self, facts: FactTable, cells: Cells) -> None:
        self.facts, self.cells = facts, cells
        first = facts.pair_start[:-1]  # first fact of each pair
        self.relation = facts.relation[first].astype(np.int64)
        self.cell_of_relation = np.unique(cells.relation, return_index=True)[1]
        subject = facts.subject[first]
        self._start = np.searchsorted(subject, np.arange(facts.num_entities + 1))
        self._of_pair = Ragged(facts.pair_start, np.arange(len(facts)))

    def pairs_of(self, entity: NDArray[np.int64]) -> Ragged:
        """The pairs that have each of n entities as their subject: n rows, perhaps empty ones."""
        return Ragged(self._start, np.arange(self._start[-1])).take(entity)

    def facts_of(self, pair: NDArray[np.int64]) -> Ragged:
        """The facts of each pair."""
        return self._of_pair.take(pair)

    def cells_of(self, entity: NDArray[np.int64]) -> Ragged:
        """The cells of each of n entities under all of its names: n rows, each without repetition."""
        pairs = self.pairs_of(entity)
        facts = self.facts.pair_start[pairs.flat]  # one fact stands for its pair
        cells = self.cells.of_fact.take(facts)
        row = np.repeat(np.repeat(np.arange(len(entity)), pairs.length), cells.length)
        mixed = np.unique(row * len(self.cells) + cells.flat)
        row, cell = np.divmod(mixed, len(self.cells))
        return Ragged(offsets(np.bincount(row, minlength=len(entity))), cell)
