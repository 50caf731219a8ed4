"""The cells of a table of facts: what the memory holds.

A fact can be found by any name of its subject, so it has one cell per name. Facts that read the same, such as
the births of two people of one name, share a cell. So each cell is a distinct text, K cells are K different
texts, and facts that no reader could distinguish tie exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.errors import ShapeError
from hmn.facts.growing import Rows
from hmn.facts.ragged import Ragged, offsets
from hmn.facts.table import FactTable
from hmn.qa.words.splitting import AUTO, Splitting
from hmn.qa.words.splitting import splitting as splitting_of
from hmn.store.rows import row_numbers


@dataclass(frozen=True, eq=False)
class Cells:
    """N cells, each a distinct (subject name, relation[, object name]), and the facts that each stands for.

    Attributes:
        names: Distinct names, as the words that the encoders see; a name's number is its position here.
        subject: ``(N,)`` int64 number of the subject's name.
        relation: ``(N,)`` int64 number of the relation.
        object: ``(N,)`` int64 number of the object's main name, or None if cells leave objects out.
        facts: Facts of each cell, ascending.
        of_fact: Cells of each fact, ascending.
        splitting: How names are split into words.
    """

    names: list[str]
    subject: NDArray[np.int64]
    relation: NDArray[np.int64]
    object: NDArray[np.int64] | None
    facts: Rows
    of_fact: Rows
    splitting: Splitting

    def texts(self, relations: Sequence[str], cells: NDArray[np.int64] | None = None) -> list[str]:
        """Cells in words: subject, relation and, if cells have it, object.

        Args:
            relations: The relations in words.
            cells: The cells; all if not given.
        """
        columns = [self.subject, self.relation] + ([] if self.object is None else [self.object])
        if cells is not None:
            columns = [column[cells] for column in columns]
        spelled = (self.names, relations, self.names)
        return [
            " ".join(words[number] for words, number in zip(spelled, row, strict=False))
            for row in zip(*(column.tolist() for column in columns), strict=True)
        ]

    @classmethod
    def of(cls, facts: FactTable, *, objects: bool = False, splitting: str = AUTO) -> Cells:
        """Lay out the cells of a table.

        Args:
            facts: The table.
            objects: Put the object's name into a cell's text too, so that facts of one subject and relation
                differ.
            splitting: How names are split into words, by its name in the settings.
        """
        split = splitting_of(splitting)
        number: dict[str, int] = {}
        subjects = np.unique(facts.subject)
        named = Ragged.of(_numbers(facts.names_of(int(entity)), number, split) for entity in subjects)
        position = np.searchsorted(subjects, facts.subject)  # (facts,)
        # one row per fact and name of its subject
        fact = np.repeat(np.arange(len(facts)), named.length[position])  # (rows,)
        subject = named.take(position).flat  # (rows,)
        columns = [subject, facts.relation[fact].astype(np.int64)]
        if objects:
            entities, of_fact = np.unique(facts.object, return_inverse=True)
            main = np.array(
                [_numbers(facts.names_of(int(entity))[:1], number, split)[0] for entity in entities]
            )
            columns.append(main[of_fact][fact])
        cells, cell = distinct_rows(columns)
        return cls(
            names=list(number),
            subject=cells[0],
            relation=cells[1],
            object=cells[2] if objects else None,
            facts=_grouped(cell, fact, len(cells[0])),
            of_fact=_grouped(fact, cell, len(facts)),
            splitting=split,
        )

    def __len__(self) -> int:
        """Number of cells, N."""
        return len(self.subject)

    def packed(self) -> dict[str, Tensor]:
        """The cells as tensors to save; none if a name has several lines, so that they are laid out again."""
        if any("\n" in name for name in self.names):
            return {}
        names = "\n".join(self.names).encode("utf-8", "surrogatepass")
        all_facts = self.of_fact.take(np.arange(self.of_fact.rows))
        columns = {"subject": self.subject, "relation": self.relation, "cell": all_facts.flat}
        if self.object is not None:
            columns["object"] = self.object
        columns["cells_of_fact"] = all_facts.length
        packed = {name: torch.from_numpy(column.astype(np.int32)) for name, column in columns.items()}
        return {**packed, "names": torch.frombuffer(bytearray(names), dtype=torch.uint8)}

    @classmethod
    def unpacked(
        cls, saved: Mapping[str, Tensor], facts: FactTable, *, objects: bool, splitting: str
    ) -> Cells:
        """The cells of a table, which ``packed`` gave; see ``of`` for the arguments.

        Raises:
            ShapeError: a tensor is missing, or does not fit the table.
        """
        text = saved.get("names", torch.empty(0))
        if text.dtype != torch.uint8:
            raise ShapeError(f"names is {tuple(text.shape)} of {text.dtype}, expected bytes of text")
        try:
            names = bytes(text.numpy()).decode("utf-8", "surrogatepass").split("\n")
        except UnicodeDecodeError as error:
            raise ShapeError(f"names is no text in UTF-8 ({error})") from None
        limits = {"subject": len(names), "relation": len(facts.relations), "object": len(names)}
        columns = {
            name: row_numbers(saved, name, limit).numpy()
            for name, limit in limits.items()
            if name != "object" or objects
        }
        count = len(columns["subject"])
        cell = row_numbers(saved, "cell", count).numpy()
        length = row_numbers(saved, "cells_of_fact", len(cell) + 1).numpy()
        if {len(column) for column in columns.values()} != {count} or len(length) != len(facts):
            raise ShapeError(f"there are {len(length)} facts of {count} cells, expected those of the table")
        if int(length.sum()) != len(cell) or not length.all() or not np.bincount(cell, minlength=count).all():
            raise ShapeError("a fact has no cell or a cell no fact, expected the cells of each fact")
        grouped = _grouped(cell, np.repeat(np.arange(len(facts)), length), count)
        object_, of_fact = columns.get("object"), Ragged(offsets(length), cell)
        split = splitting_of(splitting)
        return cls(names, columns["subject"], columns["relation"], object_, grouped, of_fact, split)


def _numbers(names: list[str], number: dict[str, int], splitting: Splitting) -> list[int]:
    """Numbers of an entity's names, in which names that read the same to the encoders are one."""
    return list(
        dict.fromkeys(number.setdefault(name, len(number)) for name in folded_names(names, splitting))
    )


def folded_names(names: list[str], splitting: Splitting) -> list[str]:
    """Names as the words that the encoders see, each once."""
    return list(dict.fromkeys(" ".join(splitting.words(name)) or name for name in names))


def distinct_rows(columns: list[NDArray[np.int64]]) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Distinct rows of parallel columns, in order, and the number of each row among them."""
    mixed = columns[0]
    for column in columns[1:]:
        # renumber at each step, so that the mixed key never outgrows 64 bits
        mixed = np.unique(mixed, return_inverse=True)[1] * (int(column.max()) + 1) + column
    _, first, number = np.unique(mixed, return_index=True, return_inverse=True)
    return [column[first] for column in columns], number


def _grouped(group: NDArray[np.int64], member: NDArray[np.int64], groups: int) -> Ragged:
    """Members of each group, ascending."""
    order = np.lexsort((member, group))
    return Ragged(offsets(np.bincount(group, minlength=groups)), member[order])
