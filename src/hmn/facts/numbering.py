"""From rows of ids in any order to one canonical order: numbers by the alphabet, rows sorted and distinct."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hmn.errors import DataError
from hmn.facts.files.layout import Layout, Row
from hmn.facts.files.source import KEPT_MESSAGES as KEPT
from hmn.facts.files.source import Skipped, Source
from hmn.facts.files.texts import fixed_width, is_ascending, large, places_in
from hmn.facts.ids import backwards, canonical_id, inverse_of, is_text, several_entities

FACT = Layout(("subject", "relation", "object"))
"""Columns of a file of facts."""

_ITEM = re.compile(r"Q\d+")
"""Pattern of an entity of Wikidata."""
FEW = 100
"""Upper limit of the ids that are numbered without pyarrow."""

Numbers = NDArray[np.int32]


class NumberedFacts(NamedTuple):
    """Facts whose ids are numbers of two lists.

    Attributes:
        entities, relations: the ids; sorted and distinct in a canonical table.
        subject, relation, object: ``(N,)`` int32 places in these lists.
    """

    entities: list[str]
    relations: list[str]
    subject: Numbers
    relation: Numbers
    object: Numbers


def checked_triples(triples: object, source: Source) -> Iterator[Row]:
    """Number triples from 1, like the lines of a file.

    Raises:
        DataError: a triple is not three texts, none of them blank.
    """
    if isinstance(triples, (str, bytes)) or not isinstance(triples, Iterable):
        raise DataError(f"{source.path}: got {triples!r:.80}, expected rows of three texts: {FACT}")
    for number, triple in enumerate(triples, 1):
        cells = list(triple) if isinstance(triple, Iterable) and not isinstance(triple, str) else []
        if len(cells) != 3 or not all(is_text(cell) for cell in cells):
            raise DataError(f"{source.path}:{number}: got {triple!r:.200}, expected three texts: {FACT}")
        yield number, cells


def distinct_facts(rows: Iterable[Row], source: Source) -> tuple[NumberedFacts, Skipped]:
    """Bring rows of subject, relation and object into canonical order; also gives the repeats left out.

    Raises:
        DataError: there is no fact.
    """
    numbered, line = _gathered(rows)
    if not len(line):
        raise DataError(f"{source.path}: it holds no fact, expected rows of {FACT}: check its columns")
    facts, repeated = canonical(numbered)
    messages = [f"{source.path}:{line[row]}: an earlier line has the same fact" for row in repeated[:KEPT]]
    return facts, Skipped(len(repeated), tuple(messages))


def canonical(facts: NumberedFacts) -> tuple[NumberedFacts, NDArray[np.int64]]:
    """Sort ids and rows and drop repeated rows; also gives the numbers of the dropped rows, ascending.

    Of equal rows, the first is kept.
    """
    entities, entity_number = _sorted(facts.entities)
    relations, relation_number = _sorted(facts.relations)
    columns = [entity_number[facts.subject], relation_number[facts.relation], entity_number[facts.object]]
    order = np.lexsort(columns[::-1])
    columns = [column[order] for column in columns]
    repeated = np.zeros(len(order), np.bool_)
    repeated[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    if repeated.any():
        columns = [column[~repeated] for column in columns]
    subject, relation, object_ = columns
    return NumberedFacts(entities, relations, subject, relation, object_), np.sort(order[repeated])


def with_inverse(facts: NumberedFacts) -> NumberedFacts:
    """Add the inverse of every fact that does not have one yet; gives a canonical table."""
    backwards = facts.relation + np.int32(len(facts.relations))
    both = NumberedFacts(
        facts.entities,
        facts.relations + [inverse_of(relation) for relation in facts.relations],
        np.concatenate([facts.subject, facts.object]),
        np.concatenate([facts.relation, backwards]),
        np.concatenate([facts.object, facts.subject]),
    )
    return canonical(both)[0]


def ranks(keys: Sequence[Any]) -> NDArray[np.int64]:
    """Place of each key among all of them, in order; equal keys have the same."""
    place = {key: number for number, key in enumerate(sorted(set(keys)))}
    return np.array([place[key] for key in keys], np.int64)


def sorted_numbers(
    numbers: NDArray[np.integer[Any]], ids: list[str], count: int
) -> tuple[list[str], NDArray[np.int64]]:
    """Ids in order, and for each of ``count`` numbers the place of its id; -1 for those not among them."""
    order = sorted(range(len(ids)), key=ids.__getitem__)
    place = np.full(count, -1, np.int64)
    place[numbers[order]] = np.arange(len(ids))
    return [ids[number] for number in order], place


def from_columns(
    subject: pa.ChunkedArray, relation: pa.ChunkedArray, object: pa.ChunkedArray
) -> NumberedFacts:
    """Number three columns of dictionary-encoded text, without missing values."""
    (subjects, subject_ids), (relations, relation_ids), (objects, object_ids) = (
        _used_ids(column) for column in (subject, relation, object)
    )
    return NumberedFacts(
        subject_ids + object_ids, relation_ids, subjects, relations, objects + np.int32(len(subject_ids))
    )


def in_order(
    subject: pa.ChunkedArray, relation: pa.ChunkedArray, object: pa.ChunkedArray
) -> tuple[pa.Array, list[str], Numbers, Numbers, Numbers] | None:
    """Entities, relations and numbers of columns that a canonical table was written as; None for others.

    It takes a tenth of the time of bringing them into order.
    """
    if {subject.num_chunks, relation.num_chunks, object.num_chunks} != {1}:
        return None
    columns = [column.chunk(0) for column in (subject, relation, object)]
    ids, relations = columns[0].dictionary, columns[1].dictionary.to_pylist()
    spelled = fixed_width(ids) if ids.equals(columns[2].dictionary) else None
    if spelled is None or not is_ascending(spelled) or sorted(set(relations)) != relations:
        return None
    subjects, of_fact, objects = (column.indices.to_numpy().astype(np.int32) for column in columns)
    is_used = np.zeros(len(ids), bool)
    is_used[subjects] = is_used[objects] = True
    if not is_used.all() or not np.bincount(of_fact, minlength=len(relations)).all():
        return None
    if len(ids) ** 2 * len(relations) >= 1 << 63:
        return None
    place = (subjects.astype(np.int64) * len(relations) + of_fact) * len(ids) + objects
    if not (np.diff(place) > 0).all():
        return None
    return large(ids), relations, subjects, of_fact, objects


def _gathered(rows: Iterable[Row]) -> tuple[NumberedFacts, NDArray[np.int64]]:
    """Number ids in the order in which they come; also gives the line of each fact.

    A row of FB2M with several objects gives several facts.
    """
    entity_number: dict[str, int] = {}
    relation_number: dict[str, int] = {}
    subject, relation, object_, line = array("i"), array("i"), array("i"), array("q")
    for number, (subject_id, relation_id, object_ids) in rows:
        for object_id in several_entities(object_ids) if " " in object_ids else (object_ids,):
            subject.append(entity_number.setdefault(subject_id, len(entity_number)))
            relation.append(relation_number.setdefault(relation_id, len(relation_number)))
            object_.append(entity_number.setdefault(object_id, len(entity_number)))
            line.append(number)
    entities = [canonical_id(entity) for entity in entity_number]
    relations = [canonical_id(relation_id) for relation_id in relation_number]
    for number, relation_id in enumerate(relations):
        inverse = backwards(relation_id)
        if inverse is not None and _ITEM.fullmatch(entities[subject[relation.index(number)]]):
            relations[number] = inverse
    facts = NumberedFacts(
        entities,
        relations,
        np.frombuffer(subject, np.int32),
        np.frombuffer(relation, np.int32),
        np.frombuffer(object_, np.int32),
    )
    return facts, np.frombuffer(line, np.int64)


def _used_ids(column: pa.ChunkedArray) -> tuple[Numbers, list[str]]:
    """Split a dictionary-encoded column into numbers and the ids that are in use."""
    whole = column.unify_dictionaries().combine_chunks()
    used, numbers = np.unique(whole.indices.to_numpy(), return_inverse=True)
    return numbers.astype(np.int32), whole.dictionary.take(pa.array(used)).to_pylist()


def _sorted(ids: list[str]) -> tuple[list[str], Numbers]:
    """Sort ids and drop repeats; also gives the new number of each old one."""
    distinct = sorted(set(ids))
    if len(ids) <= FEW:  # where the calls of pyarrow would take longer
        place = {text: number for number, text in enumerate(distinct)}
        return distinct, np.array([place[text] for text in ids], np.int32)
    number = places_in(pa.array(ids, pa.large_string()), pa.array(distinct, pa.large_string()))
    return distinct, number.astype(np.int32)
