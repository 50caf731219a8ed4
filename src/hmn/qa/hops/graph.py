"""The facts as a graph: what leads on from an entity, and in which cells it is found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hmn.facts.ragged import Ragged, offsets
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells


class Graph:
    """Looks up the pairs (subject, relation) of entities, their facts and their cells.

    Args:
        facts: the table.
        cells: the cells of the table.
    """

    def __init__(self, facts: FactTable, cells: Cells) -> None:
        self.facts, self.cells = facts, cells

    def relation_of(self, pair: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the relation of each pair, which have facts."""
        return self.facts.relation[self._first_facts(pair)].astype(np.int64)

    def cells_of(self, entity: NDArray[np.int64]) -> Ragged:
        """The cells of each of n entities under all of its names: n rows, each without repetition."""
        pairs = self.facts.pairs_of(entity)
        row = np.repeat(np.arange(len(entity)), pairs.length)
        if self.cells.object is None:
            cells = self.cells.of_fact.take(self._first_facts(pairs.flat))
        else:
            held = self.facts.cells_of_pairs(pairs.flat)
            row, cells = np.repeat(row, held.length), self.cells.of_fact.take(held.flat)
        row = np.repeat(row, cells.length)
        row, cell = np.divmod(np.unique(row * len(self.cells) + cells.flat), len(self.cells))
        return Ragged(offsets(np.bincount(row, minlength=len(entity))), cell)

    def cell_of(self, entity: NDArray[np.int64]) -> NDArray[np.int64]:
        """``(n,)`` one cell of each of n entities; -1 for those without any."""
        pairs = self.facts.pairs_of(entity)
        known = np.flatnonzero(pairs.length)
        cells = self.cells.of_fact.take(self._first_facts(pairs.flat[pairs.start[known]]))
        found = np.full(len(entity), -1)
        found[known] = cells.flat[cells.start[:-1]]
        return found

    def _first_facts(self, pair: NDArray[np.int64]) -> NDArray[np.int64]:
        """One fact of each pair, which has the same cells as the others, unless cells name objects."""
        held = self.facts.cells_of_pairs(pair)
        return held.flat[held.start[:-1]]
