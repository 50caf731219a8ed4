"""What several writes come to: each is checked against the table as those before it leave it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from hmn.errors import DataError
from hmn.facts.changing import ChangingTable
from hmn.facts.ids import canonical_id, inverse_of
from hmn.facts.lookup import relation_key
from hmn.facts.names import names_beyond
from hmn.facts.table import FactTable
from hmn.qa.changes.changes import FactChange
from hmn.qa.factoid_qa import FactoidQA
from hmn.serve.writes.operations import Operation, Triple

SHOWN = 3
"""Number of facts that a message shows."""
ROWS_AT_A_TIME = 20_000
"""Number of facts that a model takes in one call."""


class NetChange:
    """The difference that writes make to a table, which itself is not changed until ``apply``.

    Its writes do what the same calls of ``add_facts``, ``remove_facts`` and ``replace_facts`` would do one
    after the other. A model takes all of them at once, so a hundred thousand small writes are replayed in
    seconds.

    Args:
        table: The table of the model.
    """

    def __init__(self, table: FactTable) -> None:
        self._table = table
        if isinstance(table, ChangingTable):
            self._both_ways = table.has_inverses
        else:
            self._both_ways = {inverse_of(relation) for relation in table.relations} == set(table.relations)
        self._count = len(table)
        # facts are known by canonical ids, the relation without its label
        self._keys: dict[str, str] = {}  # of relations, by their ids
        self._spelled: dict[str, str] = {}  # relations as writes spell them, by key
        self._there: dict[Triple, bool] = {}  # whether the table has a fact
        self._wanted: dict[Triple, bool] = {}  # whether it is to have it
        self._of_pair: dict[tuple[str, str], dict[Triple, None]] = {}  # facts that may be there, in the end
        self._looked_up: set[tuple[str, str]] = set()  # pairs whose facts in the table are among these
        self._names: dict[str, list[str]] = {}
        self._of_entity: dict[str, Triple] = {}  # a fact of each entity with names
        self._of_relation: dict[str, Triple] = {}  # and of each relation
        self._undo: list[tuple[Triple, bool | None]] = []

    def look_up(self, facts: Iterable[Triple]) -> None:
        """Look many facts up in the table at once, which takes less time than one by one."""
        keys = dict.fromkeys(key for key in map(self._key, facts) if key not in self._there)
        if keys:
            cells = self._table.cells_of(*zip(*keys, strict=True))
            for key, is_there in zip(keys, (cells >= 0).tolist(), strict=True):
                self._set_there(key, is_there)

    def take(self, operations: Sequence[Operation]) -> FactChange:
        """Take a write, all of it or nothing, and say what it changes.

        Raises:
            DataError: A fact to remove is not there, or no fact would be left. Nothing is taken then.
        """
        count, self._undo = self._count, []
        try:
            changes = [self._take(operation) for operation in operations]
        except BaseException:
            for key, before in reversed(self._undo):
                if before is None:
                    del self._wanted[key]
                else:
                    self._wanted[key] = before
                if self._has(key):
                    self._of_pair.setdefault(key[:2], {})[key] = None
            self._count = count
            raise
        for operation in operations:
            if operation.kind != "remove":
                self._take_words(operation)
        return FactChange(*(sum(part) for part in zip(*changes, strict=True)))

    def apply(self, model: FactoidQA) -> None:
        """Change the model whose table it is. If this raises, the model may have taken a part."""
        added = {key: None for key, wanted in self._wanted.items() if wanted and not self._there[key]}
        removed = [key for key, wanted in self._wanted.items() if not wanted and self._there[key]]
        for key in self._bare(added):  # with a fact that is there, or one that goes again at once
            added[key] = None
            if not self._has(key) and not self._there[key]:
                removed.append(key)
        if self._both_ways:  # an inverse comes with its fact, which has the spelling of the relation
            order = {key: place for place, key in enumerate(added)}
            added = {key: None for key, place in order.items() if order.get(_inverse(key), place) >= place}
        rows = list(added)
        for first in range(0, len(rows), ROWS_AT_A_TIME):
            part = [(s, self._spelled.get(r, r), o) for s, r, o in rows[first : first + ROWS_AT_A_TIME]]
            entities = {entity for row in part for entity in (row[0], row[2])}
            names = {entity: self._names[entity] for entity in entities & self._names.keys()}
            model.add_facts(FactTable.from_triples(part, names))
        if removed:
            model.remove_facts(FactTable.from_triples(removed), ignore_missing=True)

    def _take(self, operation: Operation) -> FactChange:
        self.look_up(operation.facts)
        keys = [self._key(fact) for fact in operation.facts]
        if operation.kind == "remove":
            return self._remove(keys, operation)
        added = [key for key in dict.fromkeys(keys) if not self._has(key)]
        for key in added:
            self._want(key, True)
        removed: list[Triple] = []
        if operation.kind == "replace":
            kept = set(keys)
            for pair in dict.fromkeys(key[:2] for key in keys):
                removed += [key for key in self._facts_of(pair) if key not in kept]
            for key in removed:
                self._want(key, False)
        return FactChange(len(added), len(removed), len(keys) - len(added))

    def _remove(self, keys: list[Triple], operation: Operation) -> FactChange:
        missing = [row for row, key in enumerate(keys) if not self._has(key)]
        if missing and not operation.ignore_missing:
            shown = "; ".join(str(operation.facts[row]) for row in missing[:SHOWN])
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise DataError(
                f"the table does not have {shown}{more}, expected facts that are there: "
                "leave them out, or give ignore_missing"
            )
        there = [key for key in keys if self._has(key)]
        for key in there:
            self._want(key, False)
        if there and not self._count:
            raise DataError(
                "no fact would be left in the table, expected at least one that stays: "
                "add the new facts first, or train another model"
            )
        return FactChange(0, len(there), len(missing))

    def _take_words(self, operation: Operation) -> None:
        """Keep the spelling of relations, and names, behind those that the entities have been given."""
        relations = {fact[1]: self._key(fact) for fact in operation.facts}
        if self._both_ways:
            relations |= {inverse_of(relation): _inverse(key) for relation, key in relations.items()}
        for relation, key in sorted(relations.items()):
            self._spelled.setdefault(key[1], relation)
            self._of_relation.setdefault(key[1], key)
        for entity, names in operation.names.items():
            held = self._names.setdefault(entity, [])
            held += names_beyond(held, names)
        for fact in operation.facts if operation.names else ():
            key = self._key(fact)
            for entity in (key[0], key[2]):
                if entity in operation.names:
                    self._of_entity[entity] = key

    def _bare(self, added: Iterable[Triple]) -> list[Triple]:
        """A fact for each name and each new relation that comes with none of the facts to add."""
        entities = {entity for key in added for entity in (key[0], key[2])}
        bare = [self._of_entity[entity] for entity in self._names.keys() - entities]
        relations = self._spelled.keys() - {key[1] for key in added}
        if relations:
            relations -= set(map(relation_key, self._table.relations))
        return bare + [self._of_relation[relation] for relation in relations]

    def _key(self, fact: Triple) -> Triple:
        subject, relation, object_ = fact
        known = self._keys.get(relation)
        if known is None:
            known = self._keys[relation] = relation_key(relation)
        return subject, known, object_

    def _set_there(self, key: Triple, is_there: bool) -> None:
        """Note whether the table has a fact; it has its inverse as well, or not either."""
        for one in (key, _inverse(key)) if self._both_ways else (key,):
            self._there[one] = is_there
            if is_there:
                self._of_pair.setdefault(one[:2], {})[one] = None

    def _has(self, key: Triple) -> bool:
        """Whether a fact that was looked up is there after the writes so far."""
        wanted = self._wanted.get(key)
        return self._there[key] if wanted is None else wanted

    def _want(self, key: Triple, wanted: bool) -> None:
        """Let a fact be there or not, and its inverse with it."""
        for one in (key, _inverse(key)) if self._both_ways else (key,):
            if self._has(one) != wanted:
                self._count += 1 if wanted else -1
            self._undo.append((one, self._wanted.get(one)))
            self._wanted[one] = wanted
            if wanted:
                self._of_pair.setdefault(one[:2], {})[one] = None

    def _facts_of(self, pair: tuple[str, str]) -> list[Triple]:
        """The facts that a pair of subject and relation has after the writes so far."""
        if pair not in self._looked_up:
            self._looked_up.add(pair)
            table, subject = self._table, self._table.entity_number(pair[0])
            if subject >= 0:
                for number in table.pairs_of(np.array([subject])).flat.tolist():
                    cells = table.cells_of_pair(number)
                    if relation_key(table.relations[table.relation[cells[0]]]) == pair[1]:
                        for cell in cells.tolist():
                            object_ = canonical_id(table.entity_id(int(table.object[cell])))
                            self._set_there((pair[0], pair[1], object_), True)
        known = self._of_pair.get(pair, {})
        gone = [key for key in known if not self._has(key)]
        for key in gone:  # so that a pair which is replaced again and again stays short
            if not self._there[key]:
                del known[key]
        return [key for key in known if self._has(key)]


def _inverse(key: Triple) -> Triple:
    return key[2], inverse_of(key[1]), key[0]
