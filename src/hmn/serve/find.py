"""Facts of a table by subject, relation, object or text, a page at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hmn.errors import DataError
from hmn.facts.ids import INVERSE, canonical_id, is_text, one_form, relation_text
from hmn.facts.lookup import folded, relation_key
from hmn.facts.table import Fact, FactTable

MOST_FACTS = 1_000
"""Upper limit of the facts of a page."""


class Page(NamedTuple):
    """Some facts of a table.

    Attributes:
        version: The version of the table.
        facts: The facts, in the order in which they came into the table.
        next: What to give as ``after`` for the next page; None on the last one.
    """

    version: int
    facts: list[Fact]
    next: int | None

    def as_dict(self) -> dict[str, Any]:
        """The page for JSON."""
        return {
            "version": self.version,
            "facts": [fact._asdict() for fact in self.facts],
            "next": self.next,
        }


def find_facts(
    table: FactTable,
    *,
    subject: str | None = None,
    relation: str | None = None,
    object: str | None = None,
    text: str | None = None,
    after: int | None = None,
    limit: int = 100,
    version: int = 0,
) -> Page:
    """Find the facts that fit all that is given.

    Args:
        table: The table.
        subject: Id or name of the subject; names ignore case and spacing.
        relation: Id of the relation, or the words that it reads as. Without it, inverses that the table made
            itself are left out.
        object: Id or name of the object.
        text: Part of an id or a name of the subject or object, or of the relation's words; case is ignored.
        after: ``next`` of the page before. It is good for as long as the model is open.
        limit: Upper limit of the facts.
        version: Version of the table, which the page repeats.

    Raises:
        DataError: A value is not a text, or a number is out of range.
    """
    for name, value in {"subject": subject, "relation": relation, "object": object, "text": text}.items():
        if value is not None and not is_text(value):
            raise DataError(f"{name} is {value!r:.80}, expected a text that is not blank, or none")
    if type(limit) is not int or not 1 <= limit <= MOST_FACTS:
        raise DataError(f"limit is {limit!r:.80}, expected a whole number from 1 to {MOST_FACTS}")
    if after is not None and (type(after) is not int or after < 0):
        raise DataError(f"after is {after!r:.80}, expected what the page before has as next, or none")
    cells = _candidates(table, subject, object)
    cells = cells if after is None else cells[cells > after]
    wanted = _own_relations(table) if relation is None else _relations(table, relation)
    cells = cells[wanted[table.relation[cells]]]
    if text is not None:
        cells = cells[_with_text(table, cells, text)]
    shown = cells[:limit]
    return Page(version, table.facts(shown), int(shown[-1]) if len(cells) > len(shown) else None)


def _candidates(table: FactTable, subject: str | None, object_: str | None) -> NDArray[np.int64]:
    """Cells of the facts that there are with a subject and an object, ascending."""
    if subject is None and object_ is not None:
        found = [table.cells_with_object(entity) for entity in table.find_entities(object_).tolist()]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *found]))
    cells = live_cells(table) if subject is None else _cells_about(table, table.find_entities(subject))
    return cells if object_ is None else cells[np.isin(table.object[cells], table.find_entities(object_))]


def live_cells(table: FactTable) -> NDArray[np.int64]:
    """Cells of the facts that there are, without those that were removed, ascending."""
    return _cells_about(table, np.arange(table.num_entities))


def _cells_about(table: FactTable, subjects: NDArray[Any]) -> NDArray[np.int64]:
    """Cells of the facts of some subjects, ascending."""
    return np.sort(table.cells_of_pairs(table.pairs_of(subjects.astype(np.int64)).flat).flat)


def _own_relations(table: FactTable) -> NDArray[np.bool_]:
    """``(R,)`` whether each relation is the table's own, not the inverse of one."""
    return np.array([not relation.startswith(INVERSE) for relation in table.relations], np.bool_)


def _relations(table: FactTable, relation: str) -> NDArray[np.bool_]:
    """``(R,)`` whether each relation has an id, or reads as it."""
    key, words = relation_key(canonical_id(relation)), folded(relation)
    found = [relation_key(own) == key or folded(relation_text(own)) == words for own in table.relations]
    return np.array(found, np.bool_)


def _with_text(table: FactTable, cells: NDArray[np.int64], text: str) -> NDArray[np.bool_]:
    """``(n,)`` whether each of some facts has a text in its ids, names or relation."""
    part = one_form(text)
    entity = _holds(table.entities, part)
    names = table.names
    entity[names.owner[_holds(names.text, part)]] = True
    words = [f"{relation}\n{relation_text(relation)}" for relation in table.relations]
    relation = _holds(pa.array(words, pa.large_string()), part)
    found: NDArray[np.bool_] = entity[table.subject[cells]] | entity[table.object[cells]]
    return found | relation[table.relation[cells]]


def _holds(texts: pa.Array, part: str) -> NDArray[np.bool_]:
    """``(n,)`` whether each text has a part, in upper or lower case."""
    found: NDArray[np.bool_] = pc.match_substring(texts, part, ignore_case=True).to_numpy(
        zero_copy_only=False
    )
    return found.copy()
