"""Questions that no fact of the table answers, made from others by putting something else for the name."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hmn.facts.questions import QuestionSet
from hmn.qa.cells import Cells
from hmn.qa.made_questions.made_up_words import MadeUpWords

TRIES = 20
"""Number of names that are drawn until one fits."""
REPLACED = 0.4
"""Share of the words outside the name that made-up words replace."""
WHOLE = 0.5
"""Share of the questions in which made-up words replace all words outside the name."""


class Strangers(NamedTuple):
    """Questions whose answer is not in the table.

    Attributes:
        other: questions about other names, of which the table does not have the relation.
        unheard: questions about names that the table does not have: the first words of one of its names and
            the last words of another.
        nested: questions with another question in place of the name, which take two facts.
    """

    other: list[str]
    unheard: list[str]
    nested: list[str]


class Garbled(NamedTuple):
    """G questions with made-up words in them.

    Attributes:
        texts: the questions.
        number: ``(G,)`` numbers of the questions that they were made from.
        is_whole: ``(G,)`` whether all words outside the name are made up. The others may be understood still.
    """

    texts: list[str]
    number: NDArray[np.int64]
    is_whole: NDArray[np.bool_]


def strangers(questions: QuestionSet, numbers: NDArray[np.int64], cells: Cells, seed: int) -> Strangers:
    """Put something else in place of the names; questions without the name of their fact are left out.

    Args:
        questions: the questions, with their facts.
        numbers: numbers of those that are taken.
        cells: the cells of the table.
        seed: seed of the names.
    """
    rng = np.random.default_rng([seed, 6])
    said = set(zip(cells.subject.tolist(), cells.relation.tolist(), strict=True))
    there = set(cells.names)

    def draw() -> int:
        return int(cells.subject[rng.integers(len(cells))])

    found = Strangers([], [], [])
    numbers = numbers[questions.cell[numbers] >= 0]
    for number, inner in zip(numbers.tolist(), rng.permutation(numbers).tolist(), strict=True):
        words = cells.splitting.words(questions.text[number])
        first, last, relation = _named(words, questions, number, cells)
        if first == last:
            continue
        drawn = [draw() for _ in range(TRIES)]
        other = next((cells.names[name] for name in drawn if (name, relation) not in said), None)
        mixed = (_mixed(cells.names[one], cells.names[two]) for one, two in pairwise(drawn))
        unheard = next((name for name in mixed if name not in there), None)
        asked = " ".join(cells.splitting.words(questions.text[inner]))
        for name, texts in zip((other, unheard, asked), found, strict=True):
            if name is not None:
                texts.append(" ".join([*words[:first], name, *words[last:]]))
    return found


def garbled(questions: QuestionSet, numbers: NDArray[np.int64], cells: Cells, seed: int) -> Garbled:
    """Put made-up words in place of words outside the name.

    Args:
        questions: the questions, with their facts.
        numbers: numbers of those that are taken.
        cells: the cells of the table.
        seed: seed of the words.
    """
    rng = Random(f"garbled {seed}")
    split = {number: cells.splitting.words(questions.text[number]) for number in numbers.tolist()}
    made_up = MadeUpWords(word for words in split.values() for word in words if word.isalpha())
    texts: list[str] = []
    kept: list[int] = []
    is_whole: list[bool] = []
    for number, words in split.items():
        if questions.cell[number] < 0:
            continue
        first, last, _ = _named(words, questions, number, cells)
        others = [place for place in range(len(words)) if not first <= place < last]
        if first == last or not others:
            continue
        chosen = set(others)
        if rng.random() >= WHOLE:
            chosen = {place for place in others if rng.random() < REPLACED} or {rng.choice(others)}
        new = [made_up.draw(rng) or word if place in chosen else word for place, word in enumerate(words)]
        changed = [new[place] != words[place] for place in others]
        if any(changed):  # few words may allow no made-up one
            texts.append(" ".join(new))
            kept.append(number)
            is_whole.append(all(changed))
    return Garbled(texts, np.array(kept, np.int64), np.array(is_whole, np.bool_))


def _named(words: list[str], questions: QuestionSet, number: int, cells: Cells) -> tuple[int, int, int]:
    """Where the longest name of its subject begins and ends in a question, or 0, 0; and the relation."""
    own = cells.of_fact.row(int(questions.cell[number]))
    best = (0, 0)
    for cell in own.tolist():
        name = cells.names[int(cells.subject[cell])].split(" ")
        for first in range(len(words) - len(name) + 1):
            if len(name) > best[1] - best[0] and words[first : first + len(name)] == name:
                best = first, first + len(name)
    return *best, int(cells.relation[own[0]])


def _mixed(one: str, other: str) -> str:
    """The first half of the words of one name, and the last half of another's."""
    head, tail = one.split(" "), other.split(" ")
    return " ".join([*head[: -(-len(head) // 2)], *tail[len(tail) // 2 :]])
