"""Walks from entity to entity along the facts: what questions that take several facts ask for.

A step is the last part of a relation's id, such as ``capital``. It leads from the subject of a fact to its
object, and with ``~`` in front from the object to the subjects. The same step may leave from entities of
several kinds, as cities, airports and regions all have a ``country``.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from hmn.errors import ConfigError
from hmn.facts.ids import inverse_of
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.demo.facts import Triple
from hmn.qa.demo.world import bare, kind_of

Steps = tuple[str, ...]
"""Steps of a walk, in order."""

MOST_REACHED = 50
"""Maximum number of entities that a walk may reach at any step. Nobody asks for a list that is longer."""
ALTERNATE_SHARE = 0.1
"""Share of the questions that use another name of their topic than the main one."""
ROUNDS = 3
"""Maximum number of questions of one form about one topic."""
ATTEMPTS = 8
"""Number of texts tried before a topic is skipped, if all are in use."""
MISSES = 100
"""Number of topics in a row without a question after which a form has run out."""


class HopQuestion(NamedTuple):
    """A question that takes several facts."""

    text: str
    """The question, with the name of its topic in ``[brackets]``."""
    topic: str
    """Entity that the question is about."""
    answers: tuple[str, ...]
    """All right answers, sorted, at least one. The topic is none of them."""
    steps: Steps
    """Steps from the topic to the answers."""


class Form(NamedTuple):
    """A way to ask."""

    kind: str
    """Kind of the topic, such as ``city``."""
    steps: Steps
    """Steps from the topic to the answers."""
    say: Callable[[str], str]
    """Puts a name into one of the form's wordings, chosen at random."""


class Walks:
    """Follows the facts from entity to entity.

    Args:
        triples: Facts (subject, relation, object).
        names: Names of every entity, the main name first.
    """

    def __init__(self, triples: Iterable[Triple], names: Mapping[str, Sequence[str]]) -> None:
        self._names = names
        self._next: dict[str, dict[str, list[str]]] = defaultdict(dict)
        for subject, relation, value in triples:
            step = relation.partition("/")[2]
            self._next[step].setdefault(subject, []).append(value)
            self._next[inverse_of(step)].setdefault(value, []).append(subject)
        self._bearers: dict[str, list[str]] = defaultdict(list)
        for entity, texts in names.items():
            for text in texts:
                self._bearers[text.casefold()].append(entity)

    def leads_to(self) -> dict[tuple[str, str], set[str]]:
        """Kinds of the entities that each step leads to, by the kind that it leaves from and the step."""
        kinds: dict[tuple[str, str], set[str]] = defaultdict(set)
        for step, reached in self._next.items():
            for entity, values in reached.items():
                kinds[kind_of(entity), step].update(map(kind_of, values))
        return kinds

    def single(self) -> set[str]:
        """Steps that never lead to more than one entity."""
        return {step for step, reached in self._next.items() if max(map(len, reached.values())) == 1}

    def reached(self, topic: str, steps: Steps) -> set[str]:
        """Entities that a walk ends at. It never returns to its topic."""
        entities = {topic}
        for step in steps:
            reached = self._next[step]
            entities = {value for entity in entities for value in reached.get(entity, ())}
            entities.discard(topic)
            if len(entities) > MOST_REACHED:
                return set()
        return entities

    def clear_name(self, topic: str, steps: Steps, rng: random.Random) -> str | None:
        """A name by which a question can ask for the end of a walk without doubt; None if there is none.

        Another entity with that name must not be able to take the same steps.
        """
        name, *others = self._names[topic]
        if others and rng.random() < ALTERNATE_SHARE:
            name = rng.choice(others)
        bearers = {*self._bearers[name.casefold()]} - {topic}
        return None if any(self._walkable(bearer, steps) for bearer in bearers) else name

    def _walkable(self, entity: str, steps: Steps) -> bool:
        """Whether a walk from an entity ends anywhere, however many entities it reaches."""
        if not steps:
            return True
        return any(self._walkable(value, steps[1:]) for value in self._next[steps[0]].get(entity, ()))

    def write(
        self,
        forms: Sequence[Form],
        topics: Mapping[str, list[str]],
        count: int,
        asked: set[str],
        rng: random.Random,
    ) -> list[HopQuestion]:
        """Write questions about some topics. The forms take turns until they run out.

        Args:
            forms: Ways to ask.
            topics: Entities to ask about, by kind.
            count: Number of questions.
            asked: Texts that are in use, to which the new ones are added.
            rng: Source of all choices.

        Raises:
            ConfigError: The topics do not suffice for this number of questions.
        """
        order = rng.sample(range(len(forms)), len(forms))
        supply = [self._questions(forms[number], topics, asked, rng) for number in order]
        questions = list(islice(_in_turn(supply), count))
        if len(questions) < count:
            raise ConfigError(
                f"{count} questions are wanted, but the built-in facts give only {len(questions)}: "
                f"ask for {len(questions)} or fewer"
            )
        rng.shuffle(questions)
        return questions

    def _questions(
        self, form: Form, topics: Mapping[str, list[str]], asked: set[str], rng: random.Random
    ) -> Iterator[HopQuestion]:
        """Ask for the end of a form's walk from each topic, in a text that was not used before."""
        reached = self._next[form.steps[0]]
        able = [topic for topic in topics.get(form.kind, ()) if topic in reached]
        start, misses = rng.randrange(len(able) or 1), 0
        for topic in (able[start:] + able[:start]) * ROUNDS:
            answers = self.reached(topic, form.steps)
            name = self.clear_name(topic, form.steps, rng) if answers else None
            texts = (form.say(f"[{name}]") for _ in range(ATTEMPTS)) if name is not None else ()
            text = next((text for text in texts if bare(text) not in asked), None)
            if text is not None:
                asked.add(bare(text))
                yield HopQuestion(text, topic, tuple(sorted(answers)), form.steps)
            misses = 0 if text is not None else misses + 1
            if misses == MISSES:
                return


def _in_turn(supply: Sequence[Iterator[HopQuestion]]) -> Iterator[HopQuestion]:
    """Take one question from each form in turn, until all have run out."""
    while supply:
        left = []
        for form in supply:
            if (question := next(form, None)) is not None:
                left.append(form)
                yield question
        supply = left


def question_set(facts: FactTable, questions: Sequence[HopQuestion]) -> QuestionSet:
    """The questions with their answers and topics, as training and evaluation take them.

    Args:
        facts: The built-in facts, with their inverses, since some answers are the object of these only.
        questions: Questions about them.

    Raises:
        DataError: An answer is not in the table.
    """
    topic = np.array([facts.entity_number(question.topic) for question in questions], np.int32)
    rows = [(without_brackets(question.text), question.answers) for question in questions]
    return replace(QuestionSet.from_rows(facts, rows), topic=topic)


def without_brackets(text: str) -> str:
    """A question without the brackets around its topic, whose name may hold others."""
    before, _, rest = text.partition("[")
    name, _, after = rest.rpartition("]")
    return before + name + after
