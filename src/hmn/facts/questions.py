"""Questions with the fact that answers them, or with the right answers alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hmn.errors import DataError
from hmn.facts.files.formats import read_rows
from hmn.facts.files.source import Problems, Skipped
from hmn.facts.table import FactTable

WITH_FACT = ("subject", "relation", "object", "question")
WITH_ANSWERS = ("question", "answers")


@dataclass(frozen=True, eq=False)
class QuestionSet:
    """Q questions about a table of facts.

    Attributes:
        text: the questions.
        cell: ``(Q,)`` int64 cell of the fact that each asks for, -1 where only its answers are known.
        answer_start: ``(Q + 1,)`` int64; the answers of question ``q`` are
            ``answer[answer_start[q]:answer_start[q + 1]]``.
        answer: ``(A,)`` int32 entity numbers of the right answers, ascending within a question. With a fact:
            the objects of all facts of the same subject and relation.
        skipped: bad rows that were passed over while the file was read.
    """

    text: list[str]
    cell: NDArray[np.int64]
    answer_start: NDArray[np.int64]
    answer: NDArray[np.int32]
    skipped: Skipped = field(default_factory=Skipped)

    @classmethod
    def read(
        cls, path: Path | str, facts: FactTable, *, separator: str | None = None, skip_bad: bool = False
    ) -> QuestionSet:
        """Read (subject, relation, object, question) or (question, answers) rows, as ``read_rows`` does.

        Without a header, four columns are the former (SimpleQuestions' own order), two the latter.
        Answers are ids or names of entities, with ``|`` between them, in JSON lines and Parquet also a list;
        a name stands for all entities that have it and are the object of a fact.

        Args:
            path: the file.
            facts: the table that the questions are about.
            separator: the character between columns, where the suffix does not tell it.
            skip_bad: count bad rows and go on, instead of raising at the first.

        Raises:
            DataError: the file cannot be read or holds no question; or a row is bad (``file:line: reason``),
                for instance because its fact is not in the table or no fact has its answer as object.
        """
        path = Path(path)
        problems = Problems(skip_bad)
        table = read_rows(path, [WITH_FACT, WITH_ANSWERS], problems, separator=separator, listed="answers")
        look_up = _with_facts if table.columns == WITH_FACT else _with_answers
        return look_up(path, facts, table.rows, problems)

    @classmethod
    def from_rows(cls, facts: FactTable, rows: Sequence[Sequence[str | Sequence[str]]]) -> QuestionSet:
        """Make a set of (subject, relation, object, question) rows or of (question, answer or answers) rows.

        Raises:
            DataError: there is no row, or one is bad as in ``read`` (``rows:number from 1: reason``).
        """
        width = len(rows[0]) if rows else 4
        taken: list[tuple[int, list[str]]] = []
        for number, row in enumerate(rows, 1):
            several = (
                width == 2 and len(row) == 2 and isinstance(row[1], Sequence) and not isinstance(row[1], str)
            )
            cells = [row[0], *row[1]] if several else list(row)
            texts = [cell for cell in cells if isinstance(cell, str)]
            if len(row) != width or width not in {2, 4} or len(texts) != len(cells):
                raise DataError(
                    f"rows:{number}: got {row!r}, expected {WITH_FACT} or {WITH_ANSWERS}, all alike"
                )
            if not all(map(str.strip, texts)) or len(texts) < 2:
                raise DataError(f"rows:{number}: empty field: got {row!r}")
            taken.append((number, texts))
        return (_with_facts if width == 4 else _with_answers)("rows", facts, taken, Problems())

    def __len__(self) -> int:
        """Number of questions, Q."""
        return len(self.text)

    def answers(self, question: int) -> NDArray[np.int32]:
        """Entity numbers of the right answers to a question, ascending."""
        return self.answer[self.answer_start[question] : self.answer_start[question + 1]]

    def right_cells(self, facts: FactTable, question: int) -> NDArray[np.int64]:
        """Cells that answer a question rightly, ascending, at least one.

        With a fact: all cells of its subject and relation; with answers alone: all cells whose object is one.
        """
        cell = self.cell[question]
        if cell >= 0:
            return facts.cells_of_pair(int(facts.pair[cell]))
        cells = [facts.cells_with_object(int(entity)) for entity in self.answers(question)]
        return np.sort(np.concatenate(cells))

    def take(self, numbers: NDArray[np.int64]) -> QuestionSet:
        """The questions with the given numbers, in their order."""
        start, answer = _gather(self.answer, self.answer_start[numbers], self.answer_start[numbers + 1])
        return QuestionSet([self.text[at] for at in numbers], self.cell[numbers], start, answer, self.skipped)


def _with_facts(
    place: Path | str, facts: FactTable, rows: Iterable[tuple[int, list[str]]], problems: Problems
) -> QuestionSet:
    """Look up the facts of (subject, relation, object, question) rows, all at once."""
    taken = list(rows)
    columns = list(zip(*(row for _, row in taken), strict=True)) or [()] * 4
    cells = facts.cells_of(*columns[:3])
    for at in np.flatnonzero(cells < 0):
        line, row = taken[at]
        problems.bad(place, line, f"the fact ({', '.join(row[:3])}) is not in the table of facts")
    good = np.flatnonzero(cells >= 0)
    if not len(good):
        raise DataError(f"{place}: no good question in it: expected rows of {', '.join(WITH_FACT)}")
    pair = facts.pair[cells[good]]
    start, answer = _gather(facts.object, facts.pair_start[pair], facts.pair_start[pair + 1])
    text = [columns[3][at].strip() for at in good]
    return QuestionSet(text, cells[good], start, answer, problems.skipped)


def _with_answers(
    place: Path | str, facts: FactTable, rows: Iterable[tuple[int, list[str]]], problems: Problems
) -> QuestionSet:
    """Look up the entities of (question, answer, …) rows."""
    known: dict[str, NDArray[np.int32]] = {}
    texts: list[str] = []
    answers: list[NDArray[np.int32]] = []
    for line, (text, *given) in rows:
        for one in given:
            if one not in known:
                known[one] = _objects(facts, one)
        missing = next((one for one in given if not len(known[one])), None)
        if missing is not None:
            problems.bad(place, line, f"no fact has the answer {missing[:80]!r} as its object")
            continue
        texts.append(text.strip())
        answers.append(np.unique(np.concatenate([known[one] for one in given])))
    if not texts:
        raise DataError(f"{place}: no good question in it: expected rows of {', '.join(WITH_ANSWERS)}")
    start = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(found) for found in answers])])
    return QuestionSet(
        texts, np.full(len(texts), -1, np.int64), start, np.concatenate(answers), problems.skipped
    )


def _objects(facts: FactTable, text: str) -> NDArray[np.int32]:
    """Entities of a name or id that are the object of some fact."""
    found = facts.find_entities(text)
    return found[[len(facts.cells_with_object(int(entity))) > 0 for entity in found]]


def _gather(
    values: NDArray[np.int32], start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Put slices of an array one after another; gives the offsets ``(len(start) + 1,)`` and the values."""
    length = end - start
    offset = np.concatenate([np.zeros(1, np.int64), np.cumsum(length)])
    place = np.repeat(start - offset[:-1], length) + np.arange(offset[-1])
    return offset, values[place]
