"""Artificial questions, so that every name and every relation of the table is read in training.

After Bordes et al. (2015) and Chandar et al. (2016), who add artificial questions for the facts that have no
natural one. Ours are drawn anew at every step, in two ways: a person's question is asked of another subject
that has the same relation; or the words of a relation are put beside the name of a subject.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hmn.facts.questions import QuestionSet
from hmn.facts.ragged import Ragged, offsets
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.text import Texts

WORDS_KEPT = 0.5


class ArtificialQuestions:
    """Draws artificial questions from natural ones.

    Args:
        questions: Q training questions.
        facts: the table.
        cells: its cells, whose names are put into the questions.
        texts: the Q questions and, behind them, the names of the cells and the relations in words, featurised
            together.
        other_subject: probability that a question is asked of another subject, where its own was found in it.
        relation_words: probability that a question is made of the words of any fact.
    """

    def __init__(
        self,
        questions: QuestionSet,
        facts: FactTable,
        cells: Cells,
        texts: Texts,
        *,
        other_subject: float,
        relation_words: float,
    ) -> None:
        self._other_subject, self._relation_words = other_subject, relation_words
        self._facts, self._cells = facts, cells
        self._count, self._word = len(questions), texts.word
        self._gold = questions.cell
        # (Q, 2): first word of the subject's name and the one behind its last, -1 where it was not found
        self.mention = np.array([self._find(number) for number in range(self._count)]).reshape(-1, 2)
        by_relation = np.argsort(facts.relation, kind="stable")
        count = np.bincount(facts.relation, minlength=len(facts.relations))
        self._with_relation = Ragged(offsets(count), by_relation)

    def _find(self, number: int) -> tuple[int, int]:
        """Find where the longest name of its subject stands in a question."""
        if self._gold[number] < 0:
            return -1, -1
        asked = self._word.row(number).tolist()
        names = self._cells.subject[self._cells.of_fact.row(int(self._gold[number]))]
        best = (-1, -1)
        for name in names:
            wanted = self._word.row(self._count + int(name)).tolist()
            for at in range(len(asked) - len(wanted) + 1):
                if asked[at : at + len(wanted)] == wanted and len(wanted) > best[1] - best[0]:
                    best = (at, at + len(wanted))
        return best

    def draw(self, numbers: NDArray[np.int64], rng: np.random.Generator) -> tuple[Ragged, NDArray[np.int64]]:
        """Replace some of a batch of questions by artificial ones.

        Args:
            numbers: ``(B,)`` questions.
            rng: draws which, by what facts and in which words.

        Returns:
            Words of the B questions, and ``(B,)`` pairs (subject, relation) that the artificial ones ask for;
            -1: the question is left as it is.
        """
        pair = np.full(len(numbers), -1)
        drawn, place = rng.random(len(numbers)), rng.random((len(numbers), 2))
        rows = []
        for row, number in enumerate(numbers):
            asked = self._word.row(int(number))
            first, end = self.mention[number]
            if drawn[row] < self._relation_words:
                fact = int(place[row, 0] * len(self._facts))
                pair[row] = self._facts.pair[fact]
                asked = self._worded(fact, self._name(fact, place[row, 1]), rng)
            elif first >= 0 and drawn[row] < self._relation_words + self._other_subject:
                same = self._with_relation.row(int(self._facts.relation[self._gold[number]]))
                fact = int(same[int(place[row, 0] * len(same))])
                pair[row] = self._facts.pair[fact]
                name = self._name(fact, place[row, 1])
                asked = np.concatenate([asked[:first], name, asked[end:]])
            rows.append(asked)
        return Ragged.of(rows), pair

    def _name(self, fact: int, place: float) -> NDArray[np.int64]:
        """Words of one of the names of a fact's subject; ``place``, 0 to 1, chooses."""
        held = self._cells.of_fact.row(fact)
        return self._word.row(self._count + int(self._cells.subject[held[int(place * len(held))]]))

    def _worded(self, fact: int, name: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Some words of a fact's relation, before or behind the name."""
        relation = self._word.row(self._count + len(self._cells.names) + int(self._facts.relation[fact]))
        kept = rng.random(len(relation)) < WORDS_KEPT
        kept[rng.integers(len(relation))] = True
        parts = [relation[kept], name]
        return np.concatenate(parts if rng.random() < 0.5 else parts[::-1])
