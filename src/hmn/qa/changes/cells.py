"""The cells of a table of facts that come and go: the numbers of what is there never change."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hmn.facts.growing import ChangingRagged, Column
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells, folded_names
from hmn.qa.words.splitting import Splitting

Text = tuple[int, int, int]
"""Numbers of the subject's name, the relation, and the object's name (-1 if cells leave objects out)."""


class ChangedCells(NamedTuple):
    """What a change did to the cells.

    Attributes:
        new: ``(n,)`` cells that stand for a fact now and did not before.
        empty: ``(n,)`` cells that stood for a fact before and do not now.
    """

    new: NDArray[np.int64]
    empty: NDArray[np.int64]


class ChangingCells(Cells):
    """Cells of a table that changes, read like any others.

    A cell that stands for no fact any more is free, and the next new cell takes its number.

    Args:
        cells: The cells at first. They are not changed.
        facts: Their table.
    """

    def __init__(self, cells: Cells, facts: FactTable) -> None:
        self._base, self._table = cells, facts
        self._names = list(cells.names)
        self._number = {name: number for number, name in enumerate(cells.names)}
        self._subject, self._relation = Column(cells.subject), Column(cells.relation)
        self._object = None if cells.object is None else Column(cells.object)
        self._facts, self._of_fact = ChangingRagged(cells.facts), ChangingRagged(cells.of_fact)
        self._later: dict[Text, int] = {}  # cells that came later, by their texts
        self._free: list[int] = []

    def __len__(self) -> int:
        """Number of cells, N, free ones among them."""
        return len(self._subject)

    @property
    def names(self) -> list[str]:
        """Distinct names, by number; see ``Cells``."""
        return self._names

    @property
    def subject(self) -> NDArray[np.int64]:
        """``(N,)`` number of the subject's name."""
        return self._subject.numbers

    @property
    def relation(self) -> NDArray[np.int64]:
        """``(N,)`` number of the relation."""
        return self._relation.numbers

    @property
    def object(self) -> NDArray[np.int64] | None:
        """``(N,)`` number of the object's main name, or None if cells leave objects out."""
        return None if self._object is None else self._object.numbers

    @property
    def facts(self) -> ChangingRagged:
        """Facts of each cell, ascending; none for a free cell."""
        return self._facts

    @property
    def of_fact(self) -> ChangingRagged:
        """Cells of each fact, ascending; none for a fact that was removed."""
        return self._of_fact

    @property
    def splitting(self) -> Splitting:
        """How names are split into words."""
        return self._base.splitting

    @property
    def taken(self) -> NDArray[np.int64]:
        """Cells that are not free, ascending."""
        return np.flatnonzero(self._facts.length)

    def place(self, facts: NDArray[np.int64], removed: NDArray[np.int64]) -> ChangedCells:
        """Give facts the cells that they belong in.

        Args:
            facts: Facts that are new, or whose entities have other names than before.
            removed: Facts that have no cell from now on.
        """
        touched: dict[int, bool] = {}  # cells, and whether they stood for a fact before
        known, named = self._of_fact.rows, dict[int, list[int]]()
        self._of_fact.add_rows(self._table.num_cells - known)
        new: list[tuple[int, int]] = []  # cells and facts that had none
        for fact in facts.tolist():
            if fact < known and self._of_fact.length[fact]:
                self._fill(new)
                self._move(fact, self._texts_of(fact, named), touched)
                continue
            for cell in dict.fromkeys(map(self._cell_of, self._texts_of(fact, named))):
                if cell not in touched:
                    touched[cell] = bool(self._facts.length[cell])
                new.append((cell, fact))
        self._fill(new)
        for fact in removed.tolist():
            self._move(fact, [], touched)
        full = {cell: bool(self._facts.length[cell]) for cell in touched}
        for cell, is_full in full.items():
            if not is_full:
                if self._later.get(self._text_of(cell)) == cell:
                    del self._later[self._text_of(cell)]
                self._free.append(cell)
        filled = [cell for cell, was in touched.items() if full[cell] and not was]
        empty = [cell for cell, was in touched.items() if was and not full[cell]]
        return ChangedCells(np.array(filled, np.int64), np.array(empty, np.int64))

    def _fill(self, new: list[tuple[int, int]]) -> None:
        """Let cells stand for facts, and take these pairs off the list."""
        cells, facts = np.array(new, np.int64).reshape(-1, 2).T
        self._facts.insert_many(cells, facts)
        self._of_fact.insert_many(facts, cells)
        new.clear()

    def _move(self, fact: int, texts: list[Text], touched: dict[int, bool]) -> None:
        """Make the cells with these texts stand for a fact, and no others."""
        before = set(self._of_fact.row(fact).tolist())
        wanted = dict.fromkeys(self._cell_of(text) for text in texts)
        for cell in wanted:
            if cell not in before:
                touched.setdefault(cell, bool(self._facts.length[cell]))
                self._facts.insert(cell, fact)
                self._of_fact.insert(fact, cell)
        for cell in before - wanted.keys():
            touched.setdefault(cell, True)
            self._facts.discard(cell, fact)
            self._of_fact.discard(fact, cell)

    def _texts_of(self, fact: int, named: dict[int, list[int]]) -> list[Text]:
        """The texts under which a fact is found: one for each name of its subject.

        Args:
            fact: The fact.
            named: The numbers of the names of entities, as far as they were looked up.
        """
        table = self._table
        subject, relation = int(table.subject[fact]), int(table.relation[fact])
        object_ = -1
        if self._object is not None:
            object_ = self._numbers(table.names_of(int(table.object[fact]))[:1])[0]
        if subject not in named:
            named[subject] = self._numbers(table.names_of(subject))
        return [(name, relation, object_) for name in named[subject]]

    def _numbers(self, names: list[str]) -> list[int]:
        """Numbers of names; new ones get the next."""
        numbers = []
        for name in folded_names(names, self.splitting):
            number = self._number.setdefault(name, len(self._names))
            if number == len(self._names):
                self._names.append(name)
            numbers.append(number)
        return numbers

    def _text_of(self, cell: int) -> Text:
        return self._subject[cell], self._relation[cell], -1 if self._object is None else self._object[cell]

    def _cell_of(self, text: Text) -> int:
        """The cell with a text; a new one if there is none."""
        cell = self._later.get(text, -1)
        cell = self._first_cell(text) if cell < 0 else cell
        if cell >= 0:
            return cell
        if self._free:
            cell = self._free.pop()
            self._subject[cell], self._relation[cell] = text[0], text[1]
            if self._object is not None:
                self._object[cell] = text[2]
        else:
            cell = self._facts.add_row()
            columns = (self._subject, self._relation, self._object)
            for column, number in zip(columns, text, strict=True):
                if column is not None:
                    column.push(number)
        self._later[text] = cell
        return cell

    def _first_cell(self, text: Text) -> int:
        """The cell with a text among the first ones, which are sorted; -1 if it is not or has become free."""
        if text[0] >= len(self._base.names):  # a name that came later
            return -1
        first, end = 0, len(self._base)
        columns = (self._base.subject, self._base.relation, self._base.object)
        for column, number in zip(columns, text, strict=True):
            if column is not None:
                part = column[first:end]
                first, end = (first + int(np.searchsorted(part, number, side)) for side in ("left", "right"))
        is_same = first < end and self._text_of(first) == text
        return first if is_same and self._facts.length[first] else -1
