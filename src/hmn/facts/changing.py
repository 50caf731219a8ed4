"""A table of facts that come and go: the numbers of what is there never change."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hmn.errors import DataError
from hmn.facts.files.source import Skipped
from hmn.facts.growing import ChangingRagged, Column
from hmn.facts.ids import canonical_id, inverse_of, readable_id
from hmn.facts.lookup import folded, relation_key, relation_known
from hmn.facts.names import Names, names_beyond
from hmn.facts.numbering import NumberedFacts, ranks, sorted_numbers
from hmn.facts.ragged import Ragged
from hmn.facts.table import FactTable


class Added(NamedTuple):
    """What a change has added to a table.

    Attributes:
        cells: ``(n,)`` cells of the facts that are new, or there again.
        renamed: Entities that were there and have more names now.
    """

    cells: NDArray[np.int64]
    renamed: list[int]


class ChangingTable(FactTable):
    """A table whose facts come and go, read like any other.

    New entities, relations, (subject, relation) pairs and facts get the next numbers. So numbers are in no
    order of the alphabet, but the facts of a pair are, by their objects' ids. A removed fact keeps its cell
    and has it again when it comes back; ``len`` does not count it, and no list has it.

    Args:
        facts: The table as it is at first. It is not changed.

    Attributes:
        subject, relation, object, pair: As of a ``FactTable``; removed facts still have their rows in them.
        has_inverses: Whether the first table had the inverse of each of its relations.
    """

    def __init__(self, facts: FactTable) -> None:
        self._base = facts
        self._subject, self._relation = Column(facts.subject), Column(facts.relation)
        self._object, self._pair = Column(facts.object), Column(facts.pair)
        self._of_pair = ChangingRagged(Ragged(facts.pair_start, np.arange(len(facts))))
        self._of_subject = ChangingRagged(facts.pairs_of(np.arange(facts.num_entities)))
        self._of_object: ChangingRagged | None = None  # made when it is first needed
        self._relations = list(facts.relations)
        self.has_inverses = {inverse_of(relation) for relation in facts.relations} == set(facts.relations)
        self._relation_numbers = {
            relation_key(relation): number for number, relation in enumerate(facts.relations)
        }
        # what came later: entities, names, pairs and facts
        self._ids: list[str] = []
        self._entity_numbers: dict[str, int] = {}
        self._new_names: dict[int, list[str]] = {}  # all names of entities whose names are not the base's
        self._named: dict[str, set[int]] = {}  # these entities by folded name
        self._new_pairs: dict[tuple[int, int], int] = {}  # by subject and relation
        self._new_cells: dict[tuple[int, int], int] = {}  # by pair and object
        self._gone: set[int] = set()

    def __len__(self) -> int:
        """Number of facts, those that were removed not counted."""
        return self.num_cells - len(self._gone)

    @property
    def subject(self) -> NDArray[np.int32]:
        """``(cells,)`` numbers of the subjects, those of removed facts too."""
        return self._subject.numbers

    @property
    def relation(self) -> NDArray[np.int32]:
        """``(cells,)`` numbers of the relations, those of removed facts too."""
        return self._relation.numbers

    @property
    def object(self) -> NDArray[np.int32]:
        """``(cells,)`` numbers of the objects, those of removed facts too."""
        return self._object.numbers

    @property
    def pair(self) -> NDArray[np.int64]:
        """``(cells,)`` numbers of the pairs, those of removed facts too."""
        return self._pair.numbers

    @property
    def pair_start(self) -> NDArray[np.int64]:
        """There is none: the facts of a pair do not follow one another here."""
        raise DataError("a table that changes has no pair_start, expected cells_of_pairs: call that instead")

    @property
    def relations(self) -> list[str]:
        """Ids of the relations, by number."""
        return self._relations

    @property
    def entities(self) -> pa.Array:
        """Ids of the entities, by number. Each call makes the array: see ``entity_id``."""
        return pa.concat_arrays([self._base.entities, pa.array(self._ids, pa.large_string())])

    @property
    def names(self) -> Names:
        """Names of the entities. Each call makes them: see ``names_of``."""
        return self._names_by(np.arange(self.num_entities), self.num_entities)

    @property
    def skipped(self) -> Skipped:
        """Bad lines of the first table's files."""
        return self._base.skipped

    @property
    def repeated(self) -> Skipped:
        """Facts that came again in the first table's files."""
        return self._base.repeated

    @property
    def num_entities(self) -> int:
        """Number of entities; none is ever taken away."""
        return self._base.num_entities + len(self._ids)

    def holds(self, cells: NDArray[np.int64]) -> bool:
        """Whether there is a fact in each of some cells."""
        return super().holds(cells) and self._gone.isdisjoint(cells.tolist())

    @property
    def cells_by_object(self) -> Ragged:
        """Cells by their objects; see ``FactTable.cells_by_object``."""
        return self._by_object.take(np.arange(self.num_entities))

    def entity_id(self, entity: int) -> str:
        """The id of an entity."""
        later = entity - self._base.num_entities
        return self._ids[later] if later >= 0 else self._base.entity_id(entity)

    def names_of(self, entity: int) -> list[str]:
        """All names of an entity, the one to show first; see ``FactTable.names_of``."""
        names = self._new_names.get(entity)
        if names is None and entity < self._base.num_entities:
            return self._base.names_of(entity)
        return names or [readable_id(self.entity_id(entity))]

    def cells_of_pair(self, pair: int) -> NDArray[np.int64]:
        """Cells of the facts of a pair, by the ids of their objects."""
        return self._of_pair.row(pair)

    def cells_of_pairs(self, pairs: NDArray[np.int64]) -> Ragged:
        """Cells of the facts of several pairs."""
        return self._of_pair.take(pairs)

    def pairs_of(self, entities: NDArray[np.int64]) -> Ragged:
        """Pairs that have each of some entities as their subject, those without facts not among them."""
        return self._of_subject.take(entities)

    def cells_with_object(self, entity: int) -> NDArray[np.int64]:
        """Cells whose object is an entity, ascending; perhaps none."""
        if not 0 <= entity < self.num_entities:
            raise DataError(f"entity is {entity}, expected 0 to {self.num_entities - 1}")
        return self._by_object.row(entity)

    def in_order(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ranks of pairs by the ids of their subjects and relations; see ``FactTable.in_order``."""
        return ranks([self._first_of(int(pair)) for pair in pairs])

    def entities_in_order(self, entities: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ranks of entities by their ids; see ``FactTable.entities_in_order``."""
        return ranks([self.entity_id(entity) for entity in entities.tolist()])

    def entity_number(self, entity: str) -> int:
        """The number of an entity by its id; -1 if it was never in the table."""
        number = self._base.entity_number(entity)
        return number if number >= 0 else self._entity_numbers.get(canonical_id(entity), -1)

    def cell_of(self, subject: str, relation: str, object: str) -> int:
        """The cell of a fact by its ids; -1 if it is not in the table."""
        return int(self.cells_of([subject], [relation], [object])[0])

    def cells_of(
        self, subjects: Sequence[str], relations: Sequence[str], objects: Sequence[str]
    ) -> NDArray[np.int64]:
        """The cells of many facts by their ids; -1 for facts that are not there."""
        if not len(subjects) == len(relations) == len(objects):
            return self._base.cells_of(subjects, relations, objects)  # which refuses it
        numbers = {entity: self.entity_number(entity) for entity in {*subjects, *objects}}
        cells = np.full(len(subjects), -1, np.int64)
        for row, (subject, relation, object_) in enumerate(zip(subjects, relations, objects, strict=True)):
            number = relation_known(self._relation_numbers, relation)
            cell = self._find(numbers[subject], number, numbers[object_])
            cells[row] = -1 if cell in self._gone else cell
        return cells

    def find_entities(self, text: str) -> NDArray[np.int32]:
        """Entities, ascending, that have ``text`` as their id or name."""
        wanted = folded(text)
        found = {*self._base.find_entities(text).tolist(), *self._named.get(wanted, ())}
        found = {entity for entity in found if wanted in map(folded, self.names_of(entity))}
        return np.array(sorted(found | ({self.entity_number(text)} - {-1})), np.int32)

    def add(self, facts: FactTable) -> Added:
        """Add the facts and names of a table; facts that are there already change nothing.

        Names are put behind those that an entity has.
        """
        renamed: list[int] = []
        ids, names = facts.entities.to_pylist(), facts.names
        text, start, later = names.text.to_pylist(), names.start.tolist(), len(self._ids)
        at_once = len(ids) > self._base.num_entities // 100  # this goes through all ids of the base
        known = self._base._by_id.entity_numbers(ids) if at_once else map(self._base.entity_number, ids)
        entity = [
            self._add_entity(ids[number], int(first), text[start[number] : start[number + 1]], renamed)
            for number, first in enumerate(known)
        ]
        for rows in [self._of_subject] if self._of_object is None else [self._of_subject, self._of_object]:
            rows.add_rows(len(self._ids) - later)
        relation = [self._add_relation(relation) for relation in facts.relations]
        columns = zip(facts.subject.tolist(), facts.relation.tolist(), facts.object.tolist(), strict=True)
        return Added(self._add_facts((entity[s], relation[r], entity[o]) for s, r, o in columns), renamed)

    def remove(self, cells: NDArray[np.int64]) -> None:
        """Remove the facts of cells that have one."""
        for cell in cells.tolist():
            pair = self._pair[cell]
            self._gone.add(cell)
            self._of_pair.discard(pair, cell)
            if not len(self._of_pair.row(pair)):
                self._of_subject.discard(self._subject[cell], pair)
            if self._of_object is not None:
                self._of_object.discard(self._object[cell], cell)

    def inverses_of(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cells of the inverses of facts, of those that are there."""
        found = []
        for cell in cells.tolist():
            inverse = relation_key(inverse_of(self._relations[self._relation[cell]]))
            backwards = self._relation_numbers.get(inverse, -1)
            found.append(self._find(self._object[cell], backwards, self._subject[cell]))
        return np.array([cell for cell in found if cell >= 0 and cell not in self._gone], np.int64)

    def settled(self) -> Settled:
        """The facts that there are, as an ordinary table, and the numbers that it gives them."""
        live = np.setdiff1d(np.arange(self.num_cells), np.fromiter(self._gone, np.int64))
        columns: list[NDArray[Any]] = [self.subject[live], self.relation[live], self.object[live]]
        used = np.unique(np.concatenate([columns[0], columns[2]]))
        entities, entity = sorted_numbers(
            used, self.entities.take(pa.array(used)).to_pylist(), self.num_entities
        )
        spelled = np.unique(columns[1])
        ids = [self._relations[number] for number in spelled]
        relations, relation = sorted_numbers(spelled, ids, len(self._relations))
        columns = [entity[columns[0]], relation[columns[1]], entity[columns[2]]]
        order = np.lexsort(columns[::-1])
        facts = NumberedFacts(entities, relations, *(column[order].astype(np.int32) for column in columns))
        cell = np.full(self.num_cells, -1, np.int64)
        cell[live[order]] = np.arange(len(live))
        names = self._names_by(entity, len(entities))
        return Settled(FactTable.of(facts, names, self.skipped), cell, entity, relation)

    @property
    def _by_object(self) -> ChangingRagged:
        """Cells by their objects, ascending."""
        if self._of_object is None:
            rows = ChangingRagged(self._base.cells_by_object)
            rows.add_rows(len(self._ids))
            later = np.arange(len(self._base), self.num_cells)
            rows.insert_many(self.object[later], later)
            for cell in self._gone:
                rows.discard(self._object[cell], cell)
            self._of_object = rows
        return self._of_object

    def _first_of(self, pair: int) -> tuple[str, str]:
        """Ids of subject and relation of a pair that has a fact."""
        cell = int(self._of_pair.row(pair)[0])
        return self.entity_id(self._subject[cell]), self._relations[self._relation[cell]]

    def _find(self, subject: int, relation: int, object_: int) -> int:
        """The cell of a fact by its numbers, even if the fact was removed; -1 if it never was there."""
        if min(subject, relation, object_) < 0:
            return -1
        pair = self._find_pair(subject, relation)
        cell = self._new_cells.get((pair, object_), -1)
        is_old = max(subject, object_) < self._base.num_entities and relation < len(self._base.relations)
        return self._base.cell_of_numbers(subject, relation, object_) if cell < 0 and is_old else cell

    def _find_pair(self, subject: int, relation: int) -> int:
        pair = self._new_pairs.get((subject, relation), -1)
        is_old = subject < self._base.num_entities and relation < len(self._base.relations)
        return self._base.pair_of_numbers(subject, relation) if pair < 0 and is_old else pair

    def _add_entity(self, entity: str, base: int, names: list[str], renamed: list[int]) -> int:
        """The number of an entity (``base`` if not -1), which gets what names it does not have yet."""
        number = base if base >= 0 else self._entity_numbers.get(entity, -1)
        is_new = number < 0
        if is_new:
            number = self._entity_numbers[entity] = self.num_entities
            self._ids.append(entity)
        elif not names:
            return number
        has = [] if is_new else self.own_names(number)
        more = names_beyond(has, names)
        if not is_new and more:
            renamed.append(number)
        if is_new or more:
            self._new_names[number] = has + more
            for name in self.names_of(number):
                self._named.setdefault(folded(name), set()).add(number)
        return number

    def own_names(self, entity: int) -> list[str]:
        """The names of an entity, perhaps none; ``names_of`` gives its id then."""
        names = self._new_names.get(entity)
        return self._base.own_names(entity) if names is None else names

    def _add_relation(self, relation: str) -> int:
        number = self._relation_numbers.setdefault(relation_key(relation), len(self._relations))
        if number == len(self._relations):
            self._relations.append(relation)
        return number

    def _add_facts(self, facts: Iterable[tuple[int, int, int]]) -> NDArray[np.int64]:
        """The cells of the facts among some, by their numbers, that are new or there again."""
        count, pairs = self.num_cells, self._of_pair.rows
        cells, new = list[int](), list[tuple[int, int, int, int]]()
        for subject, relation, object_ in facts:
            cell = self._find(subject, relation, object_)
            if cell >= 0 and cell not in self._gone:
                continue
            if cell >= 0:
                self._gone.remove(cell)
            else:
                pair = self._find_pair(subject, relation)
                if pair < 0:
                    pair = self._new_pairs[subject, relation] = pairs
                    pairs += 1
                cell = self._new_cells[pair, object_] = count + len(new)
                new.append((subject, relation, object_, pair))
            cells.append(cell)
        if new:
            columns = (self._subject, self._relation, self._object, self._pair)
            for column, numbers in zip(columns, zip(*new, strict=True), strict=True):
                column.append(numbers)
        self._of_pair.add_rows(pairs - self._of_pair.rows)
        return self._listed(np.array(cells, np.int64))

    def _listed(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Put cells, whose columns are there, into the rows of their pairs, subjects and objects."""
        pair, first, of_pair, count = np.unique(
            self.pair[cells], return_index=True, return_inverse=True, return_counts=True
        )
        is_empty = self._of_pair.length[pair] == 0
        self._of_subject.insert_many(self.subject[cells[first[is_empty]]], pair[is_empty])
        alone = (is_empty & (count == 1))[of_pair]
        self._of_pair.insert_many(pair[of_pair[alone]], cells[alone])
        for cell in cells[~alone].tolist():  # beside others, by the ids of the objects
            beside, object_ = self._of_pair.row(self._pair[cell]), self.entity_id(self._object[cell])
            place = bisect_left(beside, object_, key=lambda other: self.entity_id(self._object[other]))
            self._of_pair.insert(self._pair[cell], cell, place)
        if self._of_object is not None:
            self._of_object.insert_many(self.object[cells], cells)
        return cells

    def _names_by(self, number: NDArray[np.int64], entities: int) -> Names:
        """The names of the entities ``number`` (E,) under their new numbers; -1 leaves an entity out."""
        base = self._base.names
        kept = number[base.owner] >= 0
        if self._new_names:
            kept &= ~np.isin(base.owner, np.fromiter(self._new_names, np.int64, len(self._new_names)))
        new_names = ((entity, names) for entity, names in self._new_names.items() if number[entity] >= 0)
        later = [(entity, name) for entity, names in new_names for name in names]
        owner = np.concatenate([base.owner[kept], np.array([entity for entity, _ in later], np.int64)])
        new = number[owner].astype(np.int32)
        order = np.argsort(new, kind="stable")
        more = pa.array([name for _, name in later], pa.large_string())
        text = pa.concat_arrays([base.text.filter(pa.array(kept)), more]).take(pa.array(order))
        return Names(new[order], text, entities)


class Settled(NamedTuple):
    """A table that changed, as an ordinary one.

    Attributes:
        facts: The table.
        cell: ``(cells,)`` the cell that each cell of before has in it; -1 for removed facts.
        entity: ``(E,)`` the number that each entity has in it; -1 for those without a fact.
        relation: ``(R,)`` the number that each relation has in it; -1 for those without a fact.
    """

    facts: FactTable
    cell: NDArray[np.int64]
    entity: NDArray[np.int64]
    relation: NDArray[np.int64]
