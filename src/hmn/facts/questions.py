"""Questions with the fact that answers them, or only with the right answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hmn.errors import DataError
from hmn.facts.files.formats import read_rows
from hmn.facts.files.layout import Layout, Row
from hmn.facts.files.source import KEPT_MESSAGES, Skipped, Source
from hmn.facts.ids import INVERSE, backwards, is_text
from hmn.facts.ragged import offsets, spans
from hmn.facts.table import FactTable
from hmn.facts.topic import NO_TOPIC, split_topic

QuestionFiles = Path | str | Sequence[Path | str]
"""One file of questions, several, or a text with commas between the paths of several."""

WITH_FACT = Layout(("subject", "relation", "object", "question"))
"""Columns of a file of questions with their facts."""
WITH_ANSWERS = Layout(("question", "answers"), has_list=True)
"""Columns of a file of questions with their answers alone."""
_OTHER_MARKS = re.compile(r"[;,؛،、]")
"""Pattern of what people put between answers in place of ``|``, and which may also be part of a name."""
MOST_UNKNOWN = 0.05
"""Share of a file's questions that may have no known answer. A file with more is about other facts."""


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
        skipped: bad lines that were skipped while the files were read.
        topic: ``(Q,)`` int32 entity that each question names in ``[brackets]``, -1 if none.
        unknown: answers that were left out because they are the object of no fact. A question may be left
            without any: it cannot be trained on, and counts as wrong when the model is evaluated.
        notes: what to know about how the files were read, such as rows that came again.
    """

    text: list[str]
    cell: NDArray[np.int64]
    answer_start: NDArray[np.int64]
    answer: NDArray[np.int32]
    skipped: Skipped = field(default_factory=Skipped)
    topic: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    unknown: Skipped = field(default_factory=Skipped)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Give no question a topic, if there are none."""
        if not len(self.topic):
            object.__setattr__(self, "topic", np.full(len(self.text), NO_TOPIC, np.int32))

    @classmethod
    def read(
        cls,
        path: QuestionFiles,
        facts: FactTable,
        *,
        separator: str | None = None,
        encoding: str | None = None,
        skip_bad: bool = False,
    ) -> QuestionSet:
        """Read (subject, relation, object, question) or (question, answers) rows.

        Without a header, four columns are the former (in the order of SimpleQuestions), two the latter.
        Answers are ids or names of entities, with ``|`` between them; in JSON lines and Parquet they may be a
        list. A name stands for every entity that has it and is the object of a fact, but an id comes first.
        Answers that are the object of no fact are left out and counted. Up to 5 % of a file's questions may
        be left without any answer.

        A question with answers alone may give its topic in brackets, as in ``who directed [Inception]``; see
        ``hmn.facts.topic.split_topic``.

        Args:
            path: the file, a list of files, or the paths of several with commas between them; see
                ``hmn.facts.files.formats.read_rows`` for the formats.
            facts: the table that the questions are about.
            separator: the text between columns, for files that have it; that of others is recognised.
            encoding: the encoding of files that are not UTF-8.
            skip_bad: count bad lines and go on, instead of raising at the first one.

        Raises:
            DataError: the file cannot be read or holds no question; or a line is bad
                (``file:line: reason``): its fact is not in the table, or more than 5 % of the questions have
                no answer that is in a fact. With ``skip_bad``, these questions are then skipped.
        """
        sets = []
        for file in _files(path):
            source = Source(file, skip_bad, encoding=encoding)
            table = read_rows(source, [WITH_FACT, WITH_ANSWERS], separator=separator)
            look_up = _with_facts if table.layout == WITH_FACT else _with_answers
            sets.append(look_up(source, facts, table.rows))
        return cls.joined(sets)

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

    @classmethod
    def of_cells(
        cls,
        facts: FactTable,
        text: list[str],
        cell: NDArray[np.int64],
        skipped: Skipped | None = None,
        notes: Sequence[str] = (),
    ) -> QuestionSet:
        """Make a set of questions ``(Q,)`` and the cells ``(Q,)`` of their facts."""
        right = facts.cells_of_pairs(facts.pair[cell])
        answer = facts.object[right.flat]
        ascending = np.lexsort((answer, np.repeat(np.arange(right.rows), right.length)))
        answers = answer[ascending]
        return cls(text, cell, right.start, answers, skipped or Skipped(), notes=tuple(notes))

    @classmethod
    def joined(cls, sets: Sequence[QuestionSet]) -> QuestionSet:
        """All questions of several sets about one table, in order.

        Raises:
            DataError: there is no set.
        """
        if not sets:
            raise DataError("got no questions, expected one set or file of questions at least: give one")
        if len(sets) == 1:
            return sets[0]
        return cls(
            [text for each in sets for text in each.text],
            np.concatenate([each.cell for each in sets]),
            offsets(np.concatenate([np.diff(each.answer_start) for each in sets])),
            np.concatenate([each.answer for each in sets]),
            _summed([each.skipped for each in sets]),
            np.concatenate([each.topic for each in sets]),
            _summed([each.unknown for each in sets]),
            tuple(dict.fromkeys(note for each in sets for note in each.notes)),
        )

    def __len__(self) -> int:
        """Number of questions, Q."""
        return len(self.text)

    def fits(self, facts: FactTable) -> bool:
        """Whether every fact and answer is in a table; a set about another table may fit by chance."""
        entities = np.concatenate([self.answer, self.topic])
        cells_fit = facts.holds(self.cell[self.cell >= 0])
        return cells_fit and (not len(entities) or int(entities.max()) < facts.num_entities)

    def answers(self, question: int) -> NDArray[np.int32]:
        """Entity numbers of the right answers to a question, ascending; none if no fact has them."""
        return self.answer[self.answer_start[question] : self.answer_start[question + 1]]

    def right_cells(self, facts: FactTable, question: int) -> NDArray[np.int64]:
        """Cells that answer a question correctly, ascending; none if it has no answers.

        If its fact is known, all cells with that subject and relation; otherwise, all cells whose object is a
        right answer.
        """
        cell = self.cell[question]
        if cell >= 0:
            return facts.cells_of_pair(int(facts.pair[cell]))
        cells = [facts.cells_with_object(int(entity)) for entity in self.answers(question)]
        return np.sort(np.concatenate([*cells, np.zeros(0, np.int64)]))

    @property
    def unanswerable(self) -> NDArray[np.int64]:
        """Numbers of the questions that have no answer, ascending."""
        return np.flatnonzero(np.diff(self.answer_start) == 0)

    def answerable(self) -> QuestionSet:
        """The questions that have answers.

        Raises:
            DataError: there is none.
        """
        numbers = np.delete(np.arange(len(self)), self.unanswerable)
        if not len(numbers):
            raise DataError("no question has an answer, expected questions about the table: check the facts")
        return self if len(numbers) == len(self) else self.take(numbers)

    def renumbered(self, cell: NDArray[np.int64], entity: NDArray[np.int64]) -> QuestionSet:
        """The questions about the same facts and answers in a table that numbers them otherwise.

        Args:
            cell: ``(cells,)`` number of each cell in that table.
            entity: ``(E,)`` number of each entity in it; answers that it lacks are left out.
        """
        number = entity[self.answer]
        row = np.repeat(np.arange(len(self)), np.diff(self.answer_start))
        order = np.lexsort((number, row))
        order = order[number[order] >= 0]
        start, answer = offsets(np.bincount(row[order], minlength=len(self))), number[order].astype(np.int32)
        cells = np.where(self.cell >= 0, cell[self.cell], -1)
        topic = np.where(self.topic >= 0, entity[self.topic], NO_TOPIC).astype(np.int32)
        return replace(self, cell=cells, answer_start=start, answer=answer, topic=topic)

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
        cell, answer, topic = self.cell[numbers], self.answer[places], self.topic[numbers]
        return replace(self, text=text, cell=cell, answer_start=start, answer=answer, topic=topic)


def _files(path: QuestionFiles) -> Sequence[Path | str]:
    """The files that a setting names. A text with commas may also be the path of one file that exists."""
    if isinstance(path, str) and "," in path and not _exists(path):
        return [part.strip() for part in path.split(",") if part.strip()]
    return path if isinstance(path, Sequence) and not isinstance(path, (str, bytes)) else [path]


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # the paths of several files may be too long for the name of one
        return False


def _summed(skipped: Sequence[Skipped]) -> Skipped:
    """Several counts in one, with the first messages."""
    messages = [message for each in skipped for message in each.messages]
    return Skipped(sum(each.total for each in skipped), tuple(messages[:KEPT_MESSAGES]))


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
    numbered = _noted(source, rows)
    columns = list(zip(*(cells for _, cells in numbered), strict=True)) or [()] * 4
    cell = facts.cells_of(*columns[:3])
    for row in np.flatnonzero(cell < 0):
        line, cells = numbered[row]
        subject, relation, object_ = cells[:3]
        reason = f"the fact ({', '.join(cells[:3])}) is not in the table of facts"
        forward = (backwards(relation.strip()) or relation).strip().removeprefix(INVERSE)
        if facts.cell_of(object_, forward, subject) >= 0:
            reason += f"; ({object_}, {forward}, {subject}) is, and inverse (--inverse) adds its inverse"
        source.bad(line, reason)
    good = np.flatnonzero(cell >= 0)
    if not len(good):
        raise DataError(
            f"{source.path}: it holds no question, expected rows of {WITH_FACT}: check its columns"
        )
    text = [columns[3][row].strip() for row in good]
    return QuestionSet.of_cells(facts, text, cell[good], source.skipped, source.notes)


def _with_answers(source: Source, facts: FactTable, rows: Iterable[Row]) -> QuestionSet:
    """Look up the entities of (question, answer, …) rows."""
    numbered = _noted(source, rows)
    given = {name for _, (_, *names) in numbered for name in names}
    entities = {name: _objects(facts, name) for name in given}
    unknown = [(line, name) for line, (_, *names) in numbered for name in names if not len(entities[name])]
    lost = {line for line, (_, *names) in numbered if not any(len(entities[name]) for name in names)}
    if len(lost) > MOST_UNKNOWN * len(numbered):
        _report(source, facts, unknown, lost, len(numbered))
        numbered = [(line, cells) for line, cells in numbered if line not in lost]
        unknown = [(line, name) for line, name in unknown if line not in lost]
    if not numbered:
        raise DataError(
            f"{source.path}: it holds no question, expected rows of {WITH_ANSWERS}: check its columns"
        )
    asked = [split_topic(text.strip(), facts) for _, (text, *_) in numbered]
    answers = [np.unique(np.concatenate([entities[name] for name in names])) for _, (_, *names) in numbered]
    messages = [
        f"{source.path}:{line}: {_why_unknown(facts, name)}" for line, name in unknown[:KEPT_MESSAGES]
    ]
    return QuestionSet(
        [text for text, _ in asked],
        np.full(len(asked), -1, np.int64),
        offsets([len(row) for row in answers]),
        np.concatenate(answers),
        source.skipped,
        np.array([topic for _, topic in asked], np.int32),
        Skipped(len(unknown), tuple(messages)),
        tuple(source.notes),
    )


def _noted(source: Source, rows: Iterable[Row]) -> list[Row]:
    """All rows; those that came again are noted."""
    numbered = list(rows)
    seen: set[tuple[str, ...]] = set()
    repeated = []
    for line, cells in numbered:
        row = tuple(cells)
        if row in seen:
            repeated.append(line)
        seen.add(row)
    if repeated:
        source.note(
            f"{source.path}: {len(repeated):,} questions came again and count each time: "
            f"{source.path}:{repeated[0]}: an earlier line is the same"
        )
    return numbered


def _report(
    source: Source, facts: FactTable, unknown: Sequence[tuple[int, str]], lost: set[int], total: int
) -> None:
    """Report the lines of questions that have no known answer, in a file with many of them.

    Raises:
        DataError: bad lines are not skipped. It names the first unknown answer.
    """
    first = dict(reversed(unknown))
    for line in sorted(lost):
        like = f"like all answers of {len(lost):,} of {total:,} questions"
        source.bad(line, f"{_why_unknown(facts, first[line])}, {like}")


def _why_unknown(facts: FactTable, name: str) -> str:
    """Say that an answer is the object of no fact, and what would help."""
    what = f"no fact has the answer {name[:80]!r} as its object"
    if len(facts.find_entities(name)):
        return f"{what}: it is a subject, which inverse (--inverse) makes an object too"
    parts = [part.strip() for part in _OTHER_MARKS.split(name)]
    if len(parts) > 1 and all(len(_objects(facts, part)) for part in parts):
        return f"{what}: between several answers, expected '|'"
    return what


def _objects(facts: FactTable, text: str) -> NDArray[np.int32]:
    """The entity with an id, or else those with a name, if they are the object of some fact."""
    by_id = facts.entity_number(text)
    if by_id >= 0 and len(facts.cells_with_object(by_id)):
        return np.array([by_id], np.int32)
    entities = facts.find_entities(text)
    return entities[[len(facts.cells_with_object(int(entity))) > 0 for entity in entities]]
