"""Artificial questions, so that training reads every name and every relation of the table.

Bordes et al. (2015) and Chandar et al. (2016) add artificial questions for facts that have no natural ones.
Here they are drawn again at every step. A natural question is asked about another subject with the same
relation; or the words of a relation are put next to the name of a subject. For several hops, a question is
asked about what another one asks for, whose words replace the name of the subject. Jia and Liang (2016)
recombine questions in this way.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hmn.facts.questions import QuestionSet
from hmn.facts.ragged import Ragged, offsets
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.text import Texts

WORDS_KEPT = 0.5
"""Probability that a word of a relation is used in an artificial question."""
IN_WORDS = 0.5
"""Probability that the first step of a joined question is said in the words of its relation."""


class Drawn(NamedTuple):
    """B questions, some of which are artificial.

    Attributes:
        words: their words.
        pair: ``(B,)`` the pair (subject, relation) that each artificial one asks for; -1 for others.
        then: ``(B,)`` the relation that is asked for next, of the objects of the pair; -1 for none.
    """

    words: Ragged
    pair: NDArray[np.int64]
    then: NDArray[np.int64]


class ArtificialQuestions:
    """Draws artificial questions from natural ones.

    Args:
        questions: Q training questions.
        facts: The table.
        cells: Its cells, whose names are put into the questions.
        texts: The Q questions, then the names of the cells, then the relations in words.
        other_subject: Probability that a question is asked about another subject, if its own was found in it.
        relation_words: Probability that a question is replaced by the words of a random fact.
        joined: Probability that a question is asked about what another question asks for.

    Attributes:
        mention: ``(Q, 2)`` positions of the first word of the subject's name and the word after its last; -1
            if the name was not found.
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
        joined: float = 0.0,
    ) -> None:
        self._other_subject, self._relation_words, self._joined = other_subject, relation_words, joined
        self._facts, self._cells = facts, cells
        self._count, self._word = len(questions), texts.word
        # a name is found in any of its spellings
        self._plain = Ragged(texts.word.start, texts.alike[texts.word.flat])
        self._gold = questions.cell
        self.mention = np.array([self._find(number) for number in range(self._count)]).reshape(-1, 2)
        by_relation = np.argsort(facts.relation, kind="stable")
        count = np.bincount(facts.relation, minlength=len(facts.relations))
        self._with_relation = Ragged(offsets(count), by_relation)
        self._asking: dict[int, list[int]] = defaultdict(list)
        for number in np.flatnonzero(self.mention[:, 0] >= 0).tolist():
            self._asking[int(facts.relation[self._gold[number]])].append(number)

    def _find(self, number: int) -> tuple[int, int]:
        """Find the longest name of its subject in a question; see ``mention``."""
        if self._gold[number] < 0:
            return -1, -1
        asked = self._plain.row(number).tolist()
        names = self._cells.subject[self._cells.of_fact.row(int(self._gold[number]))]
        best = (-1, -1)
        for name in names:
            words = self._plain.row(self._count + int(name)).tolist()
            for first in range(len(asked) - len(words) + 1):
                if asked[first : first + len(words)] == words and len(words) > best[1] - best[0]:
                    best = (first, first + len(words))
        return best

    def draw(self, numbers: NDArray[np.int64], rng: np.random.Generator) -> Drawn:
        """Replace some questions of a batch by artificial ones.

        Args:
            numbers: ``(B,)`` numbers of the questions.
            rng: Draws which questions are replaced, by which facts and in which words.
        """
        pair, then = np.full(len(numbers), -1), np.full(len(numbers), -1)
        # one number per question decides whether it is replaced, two more choose a fact and a name
        drawn, share = rng.random(len(numbers)), rng.random((len(numbers), 2))
        other_subject = self._relation_words + self._other_subject
        rows = []
        for row, number in enumerate(numbers):
            asked = self._word.row(int(number))
            first, _ = self.mention[number]
            if drawn[row] < self._relation_words:
                fact = int(share[row, 0] * len(self._facts))
                pair[row] = self._facts.pair[fact]
                asked = self._in_words(fact, self._name(fact, share[row, 1]), rng)
            elif first >= 0 and drawn[row] < other_subject:
                relation = int(self._facts.relation[self._gold[number]])
                fact = self._fact_with(relation, share[row, 0])
                pair[row] = self._facts.pair[fact]
                asked = self._about(int(number), self._name(fact, share[row, 1]))
            elif first >= 0 and drawn[row] < other_subject + self._joined:
                relation = int(self._facts.relation[self._gold[number]])
                before = self._leading_to(relation, share[row, 0], rng)
                if before >= 0:
                    pair[row], then[row] = self._facts.pair[before], relation
                    name = self._name(before, share[row, 1])
                    asked = self._about(int(number), self._first_step(before, name, rng))
            rows.append(asked)
        return Drawn(Ragged.of(rows), pair, then)

    def _fact_with(self, relation: int, share: float) -> int:
        """One of the facts with a relation; ``share``, from 0 to 1, chooses among them."""
        facts = self._with_relation.row(relation)
        return int(facts[int(share * len(facts))])

    def _leading_to(self, relation: int, share: float, rng: np.random.Generator) -> int:
        """A fact whose object has a relation, for a step before it; -1 if none was found."""
        facts = self._facts
        after = self._fact_with(relation, share)
        leading = facts.cells_with_object(int(facts.subject[after]))
        # there and back again is no question
        leading = leading[facts.subject[leading] != facts.object[after]]
        if not len(leading):
            return -1
        kinds = np.unique(facts.relation[leading])  # each counts the same, however many facts it has
        leading = leading[facts.relation[leading] == rng.choice(kinds)]
        return int(rng.choice(leading))

    def _first_step(self, fact: int, name: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """A fact in the words of a question with its relation, or of the relation itself."""
        others = self._asking.get(int(self._facts.relation[fact]))
        if others is None or rng.random() < IN_WORDS:
            return self._in_words(fact, name, rng)
        return self._about(int(rng.choice(others)), name)

    def _about(self, number: int, name: NDArray[np.int64]) -> NDArray[np.int64]:
        """A question with other words in place of the name that it mentions."""
        asked, (first, end) = self._word.row(number), self.mention[number]
        return np.concatenate([asked[:first], name, asked[end:]])

    def _name(self, fact: int, share: float) -> NDArray[np.int64]:
        """Words of one of the names of a fact's subject; ``share``, from 0 to 1, chooses among them."""
        cells = self._cells.of_fact.row(fact)
        return self._word.row(self._count + int(self._cells.subject[cells[int(share * len(cells))]]))

    def _in_words(self, fact: int, name: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Some words of a fact's relation, before or after the name."""
        relation = self._word.row(self._count + len(self._cells.names) + int(self._facts.relation[fact]))
        kept = rng.random(len(relation)) < WORDS_KEPT
        kept[rng.integers(len(relation))] = True
        parts = [relation[kept], name]
        return np.concatenate(parts if rng.random() < 0.5 else parts[::-1])
