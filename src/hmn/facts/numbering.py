"""From rows of ids in any order to one canonical order: numbers by the alphabet, rows sorted and distinct."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hmn.facts.ids import canonical_id, inverse_of, several_entities

Numbers = NDArray[np.int32]


class NumberedFacts(NamedTuple):
    """Facts whose ids are numbers of two lists.

    Attributes:
        entities, relations: the ids; in a canonical table sorted and distinct, before that perhaps neither.
        subject, relation, object: ``(N,)`` int32 places in these lists.
    """

    entities: list[str]
    relations: list[str]
    subject: Numbers
    relation: Numbers
    object: Numbers


def gather(rows: Iterable[tuple[int, list[str]]]) -> tuple[NumberedFacts, NDArray[np.int64]]:
    """Number the ids of ``(line, [subject, relation, object])`` as they come; gives each fact's line too.

    A row of FB2M with several objects gives several facts.
    """
    entity: dict[str, int] = {}
    kind: dict[str, int] = {}
    subject, relation, object_, line = array("i"), array("i"), array("i"), array("q")
    for number, (subject_id, relation_id, object_id) in rows:
        for one in several_entities(object_id) if " " in object_id else (object_id,):
            subject.append(entity.setdefault(subject_id, len(entity)))
            relation.append(kind.setdefault(relation_id, len(kind)))
            object_.append(entity.setdefault(one, len(entity)))
            line.append(number)
    facts = NumberedFacts(
        [canonical_id(one) for one in entity],
        [canonical_id(one) for one in kind],
        np.frombuffer(subject, np.int32),
        np.frombuffer(relation, np.int32),
        np.frombuffer(object_, np.int32),
    )
    return facts, np.frombuffer(line, np.int64)


def canonical(facts: NumberedFacts) -> tuple[NumberedFacts, NDArray[np.int64]]:
    """Sort ids and rows and drop repeated rows; also gives the places, ascending, of the rows dropped.

    Of equal rows the first one stays.
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
    """Add every fact read backwards, unless it is there already; gives a canonical table."""
    backwards = facts.relation + np.int32(len(facts.relations))
    both = NumberedFacts(
        facts.entities,
        facts.relations + [inverse_of(relation) for relation in facts.relations],
        np.concatenate([facts.subject, facts.object]),
        np.concatenate([facts.relation, backwards]),
        np.concatenate([facts.object, facts.subject]),
    )
    return canonical(both)[0]


def from_columns(
    subject: pa.ChunkedArray, relation: pa.ChunkedArray, object: pa.ChunkedArray
) -> NumberedFacts:
    """Number three columns of dictionary-encoded text, none of them empty."""
    (subjects, subject_ids), (kinds, relation_ids), (objects, object_ids) = (
        _decoded(column) for column in (subject, relation, object)
    )
    return NumberedFacts(
        subject_ids + object_ids, relation_ids, subjects, kinds, objects + np.int32(len(subject_ids))
    )


def _decoded(column: pa.ChunkedArray) -> tuple[Numbers, list[str]]:
    """Split a dictionary-encoded column into numbers and the ids that are in use."""
    whole = column.unify_dictionaries().combine_chunks()
    used, numbers = np.unique(whole.indices.to_numpy(), return_inverse=True)
    return numbers.astype(np.int32), whole.dictionary.take(pa.array(used)).to_pylist()


def _sorted(ids: list[str]) -> tuple[list[str], Numbers]:
    """Sort ids and drop repeats; also gives the new number of each old one."""
    distinct = sorted(set(ids))
    number = pc.index_in(pa.array(ids, pa.large_string()), value_set=pa.array(distinct, pa.large_string()))
    return distinct, number.to_numpy().astype(np.int32)
