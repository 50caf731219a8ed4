"""Finding facts by their ids, and entities by id or by name."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hmn.errors import DataError
from hmn.facts.ids import backwards, canonical_id, is_text, one_form, readable_id, without_label
from hmn.facts.names import Names
from hmn.facts.ragged import Ragged, offsets, spans

AnyInt = TypeVar("AnyInt", bound=np.integer[Any])


class FactLookup:
    """Finds the cells of facts; a cell is the row of a fact in canonical order.

    Args:
        entities: pyarrow large_string array of E ids, sorted.
        relations: R ids, sorted.
        subject, relation, object: ``(N,)`` int32 numbers of entities and relations, sorted by the three.
    """

    def __init__(
        self,
        entities: pa.Array,
        relations: Sequence[str],
        subject: NDArray[np.int32],
        relation: NDArray[np.int32],
        object: NDArray[np.int32],
    ) -> None:
        self.entities, self.relations = entities, relations
        self.subject, self.relation, self.object = subject, relation, object

    def entity_number(self, entity: str) -> int:
        """The number of an entity by its id, in any spelling; -1 if it is not in the table."""
        wanted = _id(entity)
        number = _place(self.entities, wanted, key=lambda value: value.as_py())
        return number if number >= 0 else self._otherwise(entity, wanted)

    def _otherwise(self, entity: str, wanted: str) -> int:
        """The number of an entity in a table of an older version, where ids are as their file spells them."""
        number = self._by_form.get(wanted, -1)
        if number >= 0 or entity == wanted:
            return number
        return _place(self.entities, entity.strip(), key=lambda value: value.as_py())

    @cached_property
    def _by_form(self) -> dict[str, int]:
        """Numbers of entities whose ids are not in one form, by that form; none in a new table."""
        import pyarrow.compute as pc

        numbers = np.flatnonzero(~pc.string_is_ascii(self.entities).to_numpy(zero_copy_only=False))
        ids = self.entities.take(pa.array(numbers)).to_pylist()
        forms = zip(map(one_form, ids), ids, numbers.tolist(), strict=True)
        return {form: number for form, entity, number in forms if form != entity}

    def relation_number(self, relation: str) -> int:
        """The number of a relation by its id, in any spelling, with or without label; -1 if there is none."""
        number = _place(self.relations, _id(relation))
        return number if number >= 0 else relation_known(self._by_key, relation)

    @cached_property
    def _by_key(self) -> dict[str, int]:
        """Numbers of relations by their ids without labels."""
        return {relation_key(relation): number for number, relation in enumerate(self.relations)}

    def cell_of(self, subject: str, relation: str, object: str) -> int:
        """The cell of a fact by its ids; -1 if it is not in the table."""
        row = self.entity_number(subject), self.relation_number(relation), self.entity_number(object)
        return int(self._cells(*(np.array([number]) for number in row))[0])

    def cells_of(
        self, subjects: Sequence[str], relations: Sequence[str], objects: Sequence[str]
    ) -> NDArray[np.int64]:
        """The cells ``(len(subjects),)`` of many facts by their ids; -1 for facts that are not there."""
        counts = {len(subjects), len(relations), len(objects)}
        if len(counts) > 1:
            got = f"{len(subjects)} subjects, {len(relations)} relations and {len(objects)} objects"
            raise DataError(f"got {got}, expected as many of each: one row per fact")
        return self._cells(
            self.entity_numbers(subjects),
            self._relation_numbers(relations),
            self.entity_numbers(objects),
        )

    def entity_numbers(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The numbers of many entities by their ids; -1 for those that are not in the table."""
        texts = [_id(text) for text in ids]
        try:
            wanted = pa.array(texts, pa.large_string())
        except UnicodeEncodeError:  # a lone surrogate, which no table holds
            wanted = pa.array([text if is_text(text) else None for text in texts], pa.large_string())
        import pyarrow.compute as pc  # a saved table is read without it

        places = pc.fill_null(pc.index_in(wanted, value_set=self.entities), -1)
        numbers: NDArray[np.int64] = places.to_numpy(zero_copy_only=False).astype(np.int64)
        for row in np.flatnonzero(numbers < 0).tolist():
            numbers[row] = self._otherwise(ids[row], texts[row])
        return numbers

    def _relation_numbers(self, relations: Sequence[str]) -> NDArray[np.int64]:
        known = {
            relation: self.relation_number(relation) for relation in dict.fromkeys(map(_text, relations))
        }
        return np.array([known[relation] for relation in relations], np.int64)

    @cached_property
    def pair(self) -> NDArray[np.int64]:
        """``(N,)`` the number of each cell's (subject, relation) pair, from 0, ascending."""
        is_new = (np.diff(self.subject) != 0) | (np.diff(self.relation) != 0)
        return frozen(offsets(is_new))

    @cached_property
    def pair_start(self) -> NDArray[np.int64]:
        """``(P + 1,)`` where the cells of each pair start."""
        return frozen(np.searchsorted(self.pair, np.arange(self.pair[-1] + 2)).astype(np.int64))

    def pairs_of(self, entities: NDArray[np.int64]) -> Ragged:
        """Pairs that have each of some entities as their subject, ascending; perhaps none."""
        start, pairs = spans(self._subject_start[entities], self._subject_start[entities + 1])
        return Ragged(start, pairs)

    @cached_property
    def _subject_start(self) -> NDArray[np.int64]:
        """``(E + 1,)`` where the pairs of each subject start."""
        subject = self.subject[self.pair_start[:-1]]
        return np.searchsorted(subject, np.arange(len(self.entities) + 1)).astype(np.int64)

    def pair_of_numbers(self, subject: int, relation: int) -> int:
        """The pair of a subject and a relation; -1 if there is none."""
        return _one(self._pair_key, subject * len(self.relations) + relation)

    def cell_of_numbers(self, subject: int, relation: int, object: int) -> int:
        """The cell of a fact by its numbers; -1 if it is not in the table."""
        pair = self.pair_of_numbers(subject, relation)
        return -1 if pair < 0 else _one(self._row_key, pair * len(self.entities) + object)

    def cells_with_object(self, entity: int) -> NDArray[np.int64]:
        """Cells whose object is an entity, ascending; perhaps none."""
        _check_entity(entity, len(self.entities))
        return self.cells_by_object.row(entity).astype(np.int64)

    @cached_property
    def cells_by_object(self) -> Ragged:
        """Cells, in 32 bits, by their objects: one row per entity, ascending."""
        cells: NDArray[Any] = np.argsort(self.object, kind="stable").astype(np.int32)
        return Ragged(offsets(np.bincount(self.object, minlength=len(self.entities))), cells)

    def _cells(
        self, subject: NDArray[np.int64], relation: NDArray[np.int64], object: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Find rows by their three numbers; -1 where a number is -1 or there is no such row."""
        pair = _search(self._pair_key, subject * len(self.relations) + relation)
        cell = _search(self._row_key, pair * len(self.entities) + object)
        is_known = (subject >= 0) & (relation >= 0) & (object >= 0)
        return np.where(is_known, cell, -1)

    # Rows are sorted, so each key ascends, and a binary search finds it.
    @cached_property
    def _pair_key(self) -> NDArray[np.int64]:
        """``(P,)`` subject and relation of each pair in one number."""
        first = self.pair_start[:-1]
        return self.subject[first].astype(np.int64) * len(self.relations) + self.relation[first]

    @cached_property
    def _row_key(self) -> NDArray[np.int64]:
        """``(N,)`` pair and object of each row in one number."""
        return self.pair * len(self.entities) + self.object


class NameLookup:
    """Finds entities by name; an entity without a name goes by its id, in words where possible.

    Args:
        entities: pyarrow large_string array of E ids.
        names: the names of the entities.
    """

    def __init__(self, entities: pa.Array, names: Names) -> None:
        self.entities, self.names = entities, names

    def names_of(self, entity: int) -> list[str]:
        """All names of an entity, at least one."""
        _check_entity(entity, len(self.entities))
        return self.names.of(entity) or [readable_id(self.entities[entity].as_py())]

    def entities_named(self, name: str) -> set[int]:
        """Numbers of the entities with a name, which ``folded`` compares."""
        wanted = folded(name)
        hashes, owners = self._by_hash
        start = np.searchsorted(hashes, hash(wanted), side="left")
        end = np.searchsorted(hashes, hash(wanted), side="right")
        candidates = map(int, np.unique(owners[start:end]))
        # Different names may share a hash.
        return {entity for entity in candidates if wanted in map(folded, self.names_of(entity))}

    @cached_property
    def _by_hash(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Hashes of all folded names, ascending, and the entity of each."""
        nameless = np.flatnonzero(np.diff(self.names.start) == 0)
        ids = self.entities.take(pa.array(nameless)).to_pylist()
        texts = self.names.text.to_pylist() + [readable_id(entity) for entity in ids]
        hashes = np.fromiter((hash(folded(text)) for text in texts), np.int64, len(texts))
        order = np.argsort(hashes, kind="stable")
        owners = np.concatenate([self.names.owner, nameless.astype(np.int32)])
        return hashes[order], owners[order]


def frozen(numbers: NDArray[AnyInt]) -> NDArray[AnyInt]:
    """The same array, made read-only."""
    numbers.flags.writeable = False
    return numbers


def _check_entity(entity: int, entities: int) -> None:
    """Refuse a number that is no entity's; ``entity_number`` gives -1 where there is none.

    Raises:
        DataError: says which numbers there are.
    """
    if not 0 <= entity < entities:
        raise DataError(f"entity is {entity}, expected 0 to {entities - 1}: ask entity_number for it")


def relation_key(relation: str) -> str:
    """What a relation is known by: its id without label, in one form."""
    return one_form(without_label(relation))


def _search(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of numbers in ascending keys, -1 for numbers that are not among them."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


def _one(keys: NDArray[np.int64], wanted: int) -> int:
    """The place of a number in ascending keys, -1 if it is not there."""
    place = int(np.searchsorted(keys, wanted))
    return place if place < len(keys) and keys[place] == wanted else -1


def relation_known(numbers: Mapping[str, int], relation: str) -> int:
    """The number of a relation among those by their ids without labels; -1 if it is not there.

    Wikidata's ``R19`` is the inverse of ``P19``, unless there is a relation of this name.
    """
    key = relation_key(canonical_id(relation))
    number = numbers.get(key, -1)
    return numbers.get(backwards(key) or key, -1) if number < 0 else number


def _place(ids: Any, wanted: str, key: Callable[[Any], str] = str) -> int:
    """The place of an id in a sorted sequence, -1 if it is not there."""
    place = bisect_left(ids, wanted, key=key)
    return place if place < len(ids) and key(ids[place]) == wanted else -1


def _id(text: object) -> str:
    """An id in the spelling of tables; refuses anything but text."""
    return canonical_id(_text(text))


def _text(text: object) -> str:
    """An id as it is; refuses anything but text."""
    if not isinstance(text, str):
        raise DataError(f"an id is {text!r:.80}, expected text: decode bytes, and leave out missing ids")
    return text


def folded(text: str) -> str:
    """A name without the differences that do not matter: case, spacing, and how Unicode spells a letter."""
    if text.isascii():
        return " ".join(text.casefold().split())
    return one_form(one_form(text).casefold())
