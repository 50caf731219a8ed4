"""The questions of a training: those that are given, those that are made from the table, or both."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hmn.errors import ConfigError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.config import ENCODER_LEARNING_RATE, TrainConfig
from hmn.qa.made_questions.language import FALLBACK, NO_LANGUAGE, Language, language_called, language_of
from hmn.qa.made_questions.writer import QuestionWriter

PER_FACT = 10
"""Number of questions made per fact, within ``FEWEST`` and ``MOST``."""
FEWEST = 5_000
"""Number of questions made from a small table."""
MOST = 10_000
"""Number of questions made from a large table."""
ENOUGH_GIVEN = 10_000
"""Number of given questions from which on none are made."""
ENOUGH_PER_RELATION = 100
"""Number of given questions per relation from which on none are made."""
GIVEN_SHARE = 0.25
"""Share of the training questions that few given ones make up, by being repeated."""
PLAIN = 20
"""Number of questions that are written for people to see."""
BARE = 0.5
"""Share of the questions in bare words, where nothing shows the language."""


class Lesson(NamedTuple):
    """What a model is trained on, and how.

    Attributes:
        questions: The questions.
        config: How to train, with all that depends on the questions decided.
        made: A sentence on the questions that were made; empty if none were.
        plain: Questions that read well, for people to see, if all were made.
    """

    questions: QuestionSet
    config: TrainConfig
    made: str
    plain: tuple[str, ...] = ()


def training_questions(
    given: QuestionSet | None, facts: FactTable, config: TrainConfig, hops: int = 1
) -> Lesson:
    """Put the questions of a training together.

    Args:
        given: The given questions, if any.
        facts: The table.
        config: How to train: ``made_questions``, ``question_language`` and the rest.
        hops: Number of facts that an answer takes at most. Made questions take one, so with several hops they
            come beside given ones only if they are asked for.

    Raises:
        ConfigError: There is no such language; or no questions are given and none are to be made.
    """
    if config.encoder_learning_rate is None:
        # made questions teach a pretrained encoder nothing about how people ask
        rate = 0.0 if given is None else ENCODER_LEARNING_RATE
        config = replace(config, encoder_learning_rate=rate)
    count = config.made_questions
    if count is None:
        enough = given is not None and (hops > 1 or _enough(given, facts))
        count = 0 if enough else _count(facts)
    if not count:
        if given is None:
            raise ConfigError(
                "made_questions is 0 and there are no other questions: give questions, or let some be made"
            )
        return Lesson(given, config, "")
    writer, phrase = question_writer(facts, config.question_language)
    made = writer.write(count, config.seed)
    if given is None:
        plain = tuple(writer.plain(PLAIN, config.seed))
        return Lesson(made, config, f"{count:,} questions made from the table, {phrase}", plain)
    repeats = max(1, round(GIVEN_SHARE / (1 - GIVEN_SHARE) * count / len(given)))
    repeated = given.take(np.tile(np.arange(len(given)), repeats))
    sentence = f"{count:,} questions made from the table, {phrase}; --made-questions 0 leaves them out"
    return Lesson(QuestionSet.joined([repeated, made]), config, sentence)


def question_writer(facts: FactTable, language: str | None = None) -> tuple[QuestionWriter, str]:
    """What makes questions from a table, and a phrase that says in which language.

    Args:
        facts: The table.
        language: Code of the language, such as ``de``; ``none`` for bare words of relation and name. If not
            given, the words of the table show it.

    Raises:
        ConfigError: There is no such language.
    """
    chosen, bare, phrase = _chosen(facts, language)
    return QuestionWriter(facts, chosen, bare), phrase


def _chosen(facts: FactTable, language: str | None) -> tuple[Language | None, float, str]:
    """The language, the share of bare words, and a phrase that says so."""
    if language == NO_LANGUAGE:
        return None, 1.0, "in the bare words of relations and names"
    if language is not None:
        return language_called(language), 0.0, f"in the language '{language}'"
    found = language_of(facts)
    if found is not None:
        return found, 0.0, f"in the language '{found.code}' (--question-language chooses another)"
    phrase = f"half in bare words and half in '{FALLBACK}', for want of signs of one (--question-language)"
    return language_called(FALLBACK), BARE, phrase


def _enough(given: QuestionSet, facts: FactTable) -> bool:
    """Whether there are enough given questions, so that none are made."""
    return len(given) >= min(ENOUGH_GIVEN, ENOUGH_PER_RELATION * len(facts.relations))


def _count(facts: FactTable) -> int:
    """Number of questions that are made from a table."""
    return min(max(PER_FACT * len(facts), FEWEST), MOST)
