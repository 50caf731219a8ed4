"""Questions with the fact that answers them, or only with the right answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hmn.errors import DataError
from hmn.facts.files.formats import read_rows
from hmn.facts.files.layout import Layout, Row
from hmn.facts.files.source import Skipped, Source
from hmn.facts.ids import is_text
from hmn.facts.ragged import offsets, spans
from hmn.facts.table import FactTable

WITH_FACT = Layout(("subject", "relation", "object", "question"))
"""Columns of a file of questions with their facts."""
WITH_ANSWERS = Layout(("question", "answers"), has_list=True)
"""Columns of a file of questions with their answers alone."""


@dataclass(frozen=True, eq=False)
class QuestionSet:
    """Q questions about a table of facts.

    Attributes:
        text: the questions.
        cell: ``(Q,)`` int64 cell of the fact that each question asks for, -1 if only its answers are known.
        answer_start: ``(Q + 1,)`` int64; the answers of question ``q`` are
            ``answer[answer_start[q]:answer_start[q + 1]]``.
        answer: ``(A,)`` int32 entity numbers of the right answers, ascending within a question. If the
            fact is known, these are the objects of all facts with its subject and relation.
        skipped: bad lines that were skipped while the file was read.
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
        """Read (subject, relation, object, question) or (question, answers) rows.

        Without a header, four columns are the former (in the order of SimpleQuestions), two the latter.
        Answers are ids or names of entities, with ``|`` between them; in JSON lines and Parquet they may be a
        list. A name stands for every entity that has it and is the object of a fact.

        Args:
            path: the file; see ``hmn.facts.files.formats.read_rows`` for the formats.
            facts: the table that the questions are about.
            separator: the character between columns, if the suffix does not decide it.
            skip_bad: count bad lines and go on, instead of raising at the first one.

        Raises:
            DataError: the file cannot be read or holds no question; or a line is bad
                (``file:line: reason``): its fact is not in the table, no fact has its answer as object, …
        """
        source = Source(path, skip_bad)
        table = read_rows(source, [WITH_FACT, WITH_ANSWERS], separator=separator)
        look_up = _with_facts if table.layout == WITH_FACT else _with_answers
        return look_up(source, facts, table.rows)

    @classmethod
    def from_rows(cls, facts: FactTable, rows: Iterable[Sequence[str | Sequence[str]]]) -> QuestionSet:
        """Make a set of (subject, relation, object, question) rows or of (question, answer or answers) rows.

        Raises:
            DataError: there is no row, or one is bad as in ``read`` (``rows:number from 1: reason``).
        """
        if isinstance(rows, (str, bytes)) or not isinstance(rows, Iterable):
            raise DataError(f"rows is {rows!r:.80}, expected rows of ({WITH_FACT}) or ({WITH_ANSWERS})")
        rows = list(rows)
        width = len(rows[0]) if rows and isinstance(rows[0], Sized) else 4
        look_up = _with_facts if width == 4 else _with_answers
        return look_up(Source("rows"), facts, list(_checked_rows(rows, width)))

    def __len__(self) -> int:
        """Number of questions, Q."""
        return len(self.text)

    def fits(self, facts: FactTable) -> bool:
        """Whether every fact and answer is in a table; a set about another table may fit by chance."""
        cells_fit = not len(self.cell) or int(self.cell.max()) < len(facts)
        return cells_fit and (not len(self.answer) or int(self.answer.max()) < facts.num_entities)

    def answers(self, question: int) -> NDArray[np.int32]:
        """Entity numbers of the right answers to a question, ascending."""
        return self.answer[self.answer_start[question] : self.answer_start[question + 1]]

    def right_cells(self, facts: FactTable, question: int) -> NDArray[np.int64]:
        """Cells that answer a question correctly, ascending, at least one.

        If its fact is known, all cells with that subject and relation; otherwise, all cells whose object is a
        right answer.
        """
        cell = self.cell[question]
        if cell >= 0:
            return facts.cells_of_pair(int(facts.pair[cell]))
        cells = [facts.cells_with_object(int(entity)) for entity in self.answers(question)]
        return np.sort(np.concatenate(cells))

    def take(self, numbers: NDArray[np.int64]) -> QuestionSet:
        """The questions with the given numbers, in that order.

        Raises:
            DataError: they are not whole numbers from 0 to the number of questions.
        """
        numbers = np.asarray(numbers)
        whole = numbers.ndim == 1 and (numbers.dtype.kind in "iu" or not len(numbers))
        if not whole or not ((numbers >= 0) & (numbers < len(self))).all():
            raise DataError(f"numbers are {numbers!r:.80}, expected whole numbers from 0 to {len(self) - 1}")
        numbers = numbers.astype(np.int64)
        start, places = spans(self.answer_start[numbers], self.answer_start[numbers + 1])
        text = [self.text[number] for number in numbers]
        return QuestionSet(text, self.cell[numbers], start, self.answer[places], self.skipped)


def _checked_rows(rows: Sequence[Sequence[str | Sequence[str]]], width: int) -> Iterator[Row]:
    """Number rows given in Python from 1, like the lines of a file; several answers follow one another."""
    for number, row in enumerate(rows, 1):
        if isinstance(row, str) or not isinstance(row, Sequence):
            raise DataError(f"rows:{number}: got {row!r:.200}, expected a tuple or list of texts")
        has_list = (
            width == 2 and len(row) == 2 and isinstance(row[1], Sequence) and not isinstance(row[1], str)
        )
        cells = [row[0], *row[1]] if has_list else list(row)
        texts = [cell for cell in cells if isinstance(cell, str)]
        if len(row) != width or width not in {2, 4} or len(texts) != len(cells):
            raise DataError(
                f"rows:{number}: got {row!r:.200}, expected ({WITH_FACT}) or ({WITH_ANSWERS}) in all rows"
            )
        if not all(map(is_text, texts)) or len(texts) < 2:
            raise DataError(f"rows:{number}: empty field: got {row!r:.200}, expected text in each")
        yield number, texts


def _with_facts(source: Source, facts: FactTable, rows: Iterable[Row]) -> QuestionSet:
    """Look up the facts of (subject, relation, object, question) rows, all at once."""
    numbered = list(rows)
    columns = list(zip(*(cells for _, cells in numbered), strict=True)) or [()] * 4
    cell = facts.cells_of(*columns[:3])
    for row in np.flatnonzero(cell < 0):
        line, cells = numbered[row]
        source.bad(line, f"the fact ({', '.join(cells[:3])}) is not in the table of facts")
    good = np.flatnonzero(cell >= 0)
    if not len(good):
        raise DataError(
            f"{source.path}: it holds no question, expected rows of {WITH_FACT}: check its columns"
        )
    pair = facts.pair[cell[good]]
    start, places = spans(facts.pair_start[pair], facts.pair_start[pair + 1])
    text = [columns[3][row].strip() for row in good]
    return QuestionSet(text, cell[good], start, facts.object[places], source.skipped)


def _with_answers(source: Source, facts: FactTable, rows: Iterable[Row]) -> QuestionSet:
    """Look up the entities of (question, answer, …) rows."""
    entities_of: dict[str, NDArray[np.int32]] = {}
    texts: list[str] = []
    answers: list[NDArray[np.int32]] = []
    for line, (text, *names) in rows:
        for name in names:
            if name not in entities_of:
                entities_of[name] = _objects(facts, name)
        unknown = next((name for name in names if not len(entities_of[name])), None)
        if unknown is not None:
            source.bad(line, f"no fact has the answer {unknown[:80]!r} as its object")
            continue
        texts.append(text.strip())
        answers.append(np.unique(np.concatenate([entities_of[name] for name in names])))
    if not texts:
        raise DataError(
            f"{source.path}: it holds no question, expected rows of {WITH_ANSWERS}: check its columns"
        )
    start = offsets([len(entities) for entities in answers])
    cell = np.full(len(texts), -1, np.int64)
    return QuestionSet(texts, cell, start, np.concatenate(answers), source.skipped)


def _objects(facts: FactTable, text: str) -> NDArray[np.int32]:
    """Entities with a name or id that are the object of some fact."""
    entities = facts.find_entities(text)
    return entities[[len(facts.cells_with_object(int(entity))) > 0 for entity in entities]]
