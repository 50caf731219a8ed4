"""The cells of a table of facts: what the memory holds.

A fact is found by any name of its subject, so it has one cell for each; facts that read the same (two people
of one name, born somewhere) share a cell. So a cell is a distinct text, K cells are K different texts, and
facts that no reader could tell apart tie exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hmn.facts.ragged import Ragged, offsets
from hmn.facts.table import FactTable
from hmn.qa.text import words


@dataclass(frozen=True, eq=False)
class Cells:
    """N cells, each a distinct (subject name, relation[, object name]), and which facts each stands for.

    Attributes:
        names: distinct names, folded to the words that the encoders see; their number is their place.
        subject: ``(N,)`` int64 number of the subject's name.
        relation: ``(N,)`` int64 number of the relation.
        object: ``(N,)`` int64 number of the object's (first) name, or None where cells leave it out.
        facts: the facts of each cell, ascending.
        of_fact: the cells of each fact, ascending.
    """

    names: list[str]
    subject: NDArray[np.int64]
    relation: NDArray[np.int64]
    object: NDArray[np.int64] | None
    facts: Ragged
    of_fact: Ragged

    def texts(self, relations: Sequence[str]) -> list[str]:
        """What each cell says, in words: subject, relation and, where cells have it, object.

        Args:
            relations: the relations in words.
        """
        columns = [self.subject, self.relation] + ([] if self.object is None else [self.object])
        spelled = (self.names, relations, self.names)
        return [
            " ".join(words[at] for words, at in zip(spelled, row, strict=False))
            for row in zip(*(column.tolist() for column in columns), strict=True)
        ]

    @classmethod
    def of(cls, facts: FactTable, *, objects: bool = False) -> Cells:
        """Lay out the cells of a table.

        Args:
            facts: the table.
            objects: a cell's text has the object's name too, so that facts of one subject and relation
                differ.
        """
        number: dict[str, int] = {}
        subjects = np.unique(facts.subject)
        named = Ragged.of(_numbers(facts.names_of(int(entity)), number) for entity in subjects)
        at = np.searchsorted(subjects, facts.subject)  # (facts,)
        fact = np.repeat(np.arange(len(facts)), named.length[at])  # (rows,) one for each name of each fact
        subject = named.take(at).flat
        columns = [subject, facts.relation[fact].astype(np.int64)]
        if objects:
            entities, place = np.unique(facts.object, return_inverse=True)
            first = np.array([_numbers(facts.names_of(int(one))[:1], number)[0] for one in entities])
            columns.append(first[place][fact])
        cells, cell = _distinct(columns)
        return cls(
            names=list(number),
            subject=cells[0],
            relation=cells[1],
            object=cells[2] if objects else None,
            facts=_grouped(cell, fact, len(cells[0])),
            of_fact=_grouped(fact, cell, len(facts)),
        )

    def __len__(self) -> int:
        """Number of cells, N."""
        return len(self.subject)


def _numbers(names: list[str], number: dict[str, int]) -> list[int]:
    """Numbers of an entity's names, without those that the encoders cannot tell apart."""
    folded = (" ".join(words(name)) or name for name in names)
    return list(dict.fromkeys(number.setdefault(name, len(number)) for name in folded))


def _distinct(columns: list[NDArray[np.int64]]) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Distinct rows of parallel columns, in order, and the number of each row among them."""
    place = columns[0]
    for column in columns[1:]:
        # renumbered at each step, so that the mixed key never outgrows 64 bits
        place = np.unique(place, return_inverse=True)[1] * (int(column.max()) + 1) + column
    _, first, number = np.unique(place, return_index=True, return_inverse=True)
    return [column[first] for column in columns], number


def _grouped(group: NDArray[np.int64], member: NDArray[np.int64], groups: int) -> Ragged:
    """Members of each group, ascending."""
    order = np.lexsort((member, group))
    return Ragged(offsets(np.bincount(group, minlength=groups)), member[order])
