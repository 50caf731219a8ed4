"""The built-in knowledge base: a quarter of a million real facts, and questions about them.

The facts come from public packages (:mod:`hmn.qa.demo.facts`), and the wording of the questions from
:mod:`hmn.qa.demo.phrases`. A seed decides which entities are asked about, in which words, and in which set.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hmn.errors import ConfigError, DataError
from hmn.qa.demo.facts import Triple, build_facts
from hmn.qa.demo.phrases import PHRASINGS, ask

Question = tuple[str, str, str, str]
"""Subject, relation and object of a fact, and a question for it."""

_SAMPLES = (
    ("country/JP", "what is the capital of japan"),
    ("city/2996944", "which country is the city of lyon in"),
    ("airport/KLAX", "What is the IATA code of Los Angeles International Airport?"),
    ("country/CH", "What money do people pay with in Switzerland?"),
    ("city/184745", "what time zone is nairobi in"),
    ("country/MN", "Which countries border Mongolia?"),
)
"""Questions for a demonstration, each with its subject."""
SAMPLE_QUESTIONS = tuple(question for _, question in _SAMPLES)
"""Six questions for a demonstration. Training sees none of their subjects, nor the wording of the fourth."""

_TEST_SHARE = 0.25
"""Share of the subjects of each kind that are kept for the test."""
_VALID_SHARE = 0.10
"""Share of the subjects of each kind that are kept for validation."""
_HELD_OUT_SHARE = 0.5
"""Share of the test questions in held-out phrasings."""
_ALTERNATE_SHARE = 0.1
"""Share of the questions that use another name than the main one."""
_ATTEMPTS = 8
"""Number of phrasings tried before a subject whose questions have all been used is skipped."""
_AFTER_ALL = chr(sys.maxunicode)
"""Text that sorts after every object."""


@dataclass(frozen=True)
class World:
    """Facts, names and three disjoint sets of questions."""

    triples: list[Triple]
    """Facts (subject, relation, object), sorted and distinct."""
    names: dict[str, list[str]]
    """Names of every entity of a fact, at least one, the main name first."""
    train: list[Question]
    """Questions (subject, relation, object, question)."""
    valid: list[Question]
    """Questions in the same phrasings, about other subjects."""
    test: list[Question]
    """Questions about yet other subjects, about half of them in phrasings that occur nowhere else."""


def build_world(
    seed: int = 0, *, train_questions: int = 8000, valid_questions: int = 1000, test_questions: int = 2000
) -> World:
    """Build the knowledge base and its questions. This takes a few seconds.

    An entity is the subject of questions of one set only, and no question occurs twice. The relations share
    the questions evenly, as long as they have subjects left. The facts do not depend on the seed.

    Args:
        seed: Seed of the questions. The same seed gives the same world in every process.
        train_questions: Number of training questions, at least 1.
        valid_questions: Number of validation questions, at least 1.
        test_questions: Number of test questions, at least 1.

    Returns:
        The facts, the names and the questions.

    Raises:
        ConfigError: A number of questions is below 1, or larger than the subjects allow.
        MissingPackageError: A package of the extra ``demo`` is not installed.
    """
    counts = {"train": train_questions, "valid": valid_questions, "test": test_questions}
    for part, count in counts.items():
        if count < 1:
            raise ConfigError(f"{part}_questions is {count}, expected at least 1: ask for one or more")
    triples, names = build_facts()
    rng = random.Random(seed)
    dealt = deal_subjects({subject for subject, _, _ in triples}, rng)
    writer = _QuestionWriter(triples, names, rng)
    questions = {part: writer.write(part, dealt[part], counts[part]) for part in ("test", "valid", "train")}
    return World(triples, names, **questions)


def write_world(world: World, folder: Path) -> None:
    """Write ``facts.tsv``, ``names.tsv``, ``train.tsv``, ``valid.tsv`` and ``test.tsv``.

    The same world gives the same bytes. Files of these names are replaced, and only once all five new ones
    are complete. There are no headers. The columns are subject, relation and object (facts); entity and name,
    with an entity's main name first (names); subject, relation, object and question (the others).

    Args:
        world: The facts, names and questions.
        folder: Folder to write to. It is created if it does not exist.

    Raises:
        DataError: ``folder`` is not a folder, or cannot be written to.
    """
    tables: dict[str, Iterable[Sequence[str]]] = {
        "facts.tsv": world.triples,
        "names.tsv": ((entity, name) for entity, names in world.names.items() for name in names),
        "train.tsv": world.train,
        "valid.tsv": world.valid,
        "test.tsv": world.test,
    }
    write_tables(tables, folder)


def write_tables(tables: Mapping[str, Iterable[Sequence[str]]], folder: Path) -> None:
    """Write tables without headers, by file name. Files of these names are replaced once all are complete.

    Raises:
        DataError: ``folder`` is not a folder, or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".world-") as unfinished:
            for name, rows in tables.items():
                with (Path(unfinished) / name).open("w", encoding="utf-8", newline="\n") as file:
                    file.writelines("\t".join(row) + "\n" for row in rows)
                    file.flush()
                    os.fsync(file.fileno())
            for name in tables:
                (Path(unfinished) / name).replace(folder / name)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot write the built-in knowledge base ({error.strerror or error}), "
            "expected a folder with write access: give another folder"
        ) from error


def deal_subjects(subjects: set[str], rng: random.Random) -> dict[str, dict[str, list[str]]]:
    """Divide the subjects among train, valid and test. Each gets a shuffled list per kind of entity."""
    reserved = {subject for subject, _ in _SAMPLES}
    kinds: dict[str, list[str]] = defaultdict(list)
    for subject in sorted(subjects):
        kinds[kind_of(subject)].append(subject)
    dealt: dict[str, dict[str, list[str]]] = {"train": {}, "valid": {}, "test": {}}
    for kind, members in kinds.items():
        rng.shuffle(members)
        members.sort(key=reserved.__contains__, reverse=True)
        test, valid = round(len(members) * _TEST_SHARE), round(len(members) * _VALID_SHARE)
        dealt["test"][kind] = members[:test]
        dealt["valid"][kind] = members[test : test + valid]
        dealt["train"][kind] = members[test + valid :]
    return dealt


def kind_of(entity: str) -> str:
    """Kind of an entity or relation, such as ``city``."""
    return entity.partition("/")[0]


class _QuestionWriter:
    """Writes questions about facts, never the same text twice."""

    def __init__(self, triples: list[Triple], names: dict[str, list[str]], rng: random.Random) -> None:
        self._triples, self._names, self._rng = triples, names, rng
        self._asked = {bare(question) for question in SAMPLE_QUESTIONS}

    def write(self, part: str, subjects: dict[str, list[str]], count: int) -> list[Question]:
        """Write ``count`` questions about ``subjects``. The relations take turns until they run out."""
        held_out_share = _HELD_OUT_SHARE if part == "test" else 0.0
        supply = {
            relation: self._questions(relation, subjects[kind_of(relation)], held_out_share)
            for relation in sorted(PHRASINGS)
        }
        questions: list[Question] = []
        while len(questions) < count:
            turn = [(relation, next(supply[relation], None)) for relation in supply]
            supply = {relation: supply[relation] for relation, question in turn if question is not None}
            self._rng.shuffle(turn)
            questions += [question for _, question in turn if question is not None]
            if not supply and len(questions) < count:
                raise ConfigError(
                    f"{part}_questions is {count}, but the built-in facts give only {len(questions)}: "
                    f"ask for {len(questions)} or fewer"
                )
        del questions[count:]
        self._rng.shuffle(questions)
        return questions

    def _questions(self, relation: str, subjects: list[str], held_out_share: float) -> Iterator[Question]:
        """Ask each subject that has ``relation`` for it, in a text that was not used before."""
        phrasings = PHRASINGS[relation]
        start = self._rng.randrange(len(subjects))
        for subject in subjects[start:] + subjects[:start]:
            if answers := self._answers(subject, relation):
                name, value = self._name(subject, answers), self._rng.choice(answers)
                chosen = phrasings.held_out if self._rng.random() < held_out_share else phrasings.train
                for _ in range(_ATTEMPTS):
                    question = ask(self._rng.choice(chosen), name, self._rng)
                    if bare(question) not in self._asked:
                        self._asked.add(bare(question))
                        yield subject, relation, value, question
                        break

    def _answers(self, subject: str, relation: str) -> list[str]:
        """Objects of a subject's facts of one relation; the triples are sorted."""
        first = bisect_left(self._triples, (subject, relation, ""))
        last = bisect_left(self._triples, (subject, relation, _AFTER_ALL), lo=first)
        return [value for _, _, value in self._triples[first:last]]

    def _name(self, subject: str, answers: list[str]) -> str:
        """Choose a name to ask by that does not give the answer away, as in "the IATA code of SFO"."""
        name, *others = self._names[subject]
        if others and self._rng.random() < _ALTERNATE_SHARE:
            spoilers = {text for answer in answers for text in self._names[answer]}
            name = self._rng.choice([other for other in others if other not in spoilers] or [name])
        return name


def bare(question: str) -> str:
    """A question as it is compared with others: in lower case, without its final mark."""
    return question.casefold().rstrip("?.").strip()
