"""The output module: from the cells that were read to answers with supporting facts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hmn.errors import NonFiniteError
from hmn.facts.ragged import spans
from hmn.facts.table import Fact, FactTable
from hmn.index.watch import SearchSeen
from hmn.qa.cells import Cells
from hmn.results import Read

MOST_SHOWN = 20
"""Maximum number of objects and facts per answer."""


@dataclass(frozen=True)
class Answer:
    """One reading of a question: a subject and relation, and the objects that they have.

    Attributes:
        answers: Names of the objects, at most 20.
        probability: Share of attention that the facts received, times the probability that the table holds
            the answer, if the model learned to tell.
        facts: The supporting facts, one for each of ``answers``.
        count: Number of facts with this subject and relation; of several hops, number of entities.
        chains: Of several hops, the facts that lead to each of ``answers``, one after another.
        probabilities: Of several hops, the share of attention that each of ``answers`` received.
    """

    answers: list[str]
    probability: float
    facts: list[Fact]
    count: int
    chains: list[list[Fact]] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)

    def scaled(self, share: float) -> Answer:
        """The same answer, with a share of its probability."""
        return replace(
            self,
            probability=self.probability * share,
            probabilities=[probability * share for probability in self.probabilities],
        )

    def as_dict(self) -> dict[str, Any]:
        """The answer for JSON."""
        chains = [[fact._asdict() for fact in chain] for chain in self.chains]
        return {
            "answers": self.answers,
            "probability": self.probability,
            "count": self.count,
            "facts": [fact._asdict() for fact in self.facts],
            **({"probabilities": self.probabilities, "chains": chains} if chains else {}),
        }


class Answers(list[Answer]):
    """Answers to a question, best first, and whether the table holds the right one.

    Args:
        answers: The answers, as if the table held the right one.
        known_probability: Probability that it does; None if the model did not learn to tell.
        threshold: Probability from which it counts as known.
        reads: Reads of memory and index for the question, in units of one key in single precision.

    Attributes:
        known: Whether the right answer is in the table, as far as the model can tell; None if it did not
            learn to tell.
        known_probability: Probability that it is.
    """

    def __init__(
        self,
        answers: Iterable[Answer] = (),
        known_probability: float | None = None,
        threshold: float = 0.0,
        reads: float | None = None,
    ) -> None:
        share = 1.0 if known_probability is None else known_probability
        super().__init__(answer.scaled(share) for answer in answers)
        self.known_probability, self.reads = known_probability, reads
        self.known = None if known_probability is None else known_probability >= threshold

    def best(self, k: int) -> Answers:
        """The ``k`` best answers, with all that is known of the question."""
        few = Answers(self[:k], reads=self.reads)
        few.known, few.known_probability = self.known, self.known_probability
        return few

    def as_dict(self) -> dict[str, Any]:
        """The answers for JSON."""
        return {
            "known": self.known,
            "known_probability": self.known_probability,
            "reads": self.reads,
            "answers": [answer.as_dict() for answer in self],
        }


class Attended(NamedTuple):
    """A cell that was read.

    Attributes:
        fact: The fact that it stands for, or the first of several that read the same.
        weight: Its share of attention.
        facts: Number of facts that it stands for.
    """

    fact: Fact
    weight: float
    facts: int


class Trace(NamedTuple):
    """Answers to a question, and how they were found.

    Attributes:
        answers: The answers.
        searches: What each search of the memory looked at; with several hops, one for each hop that was read.
        attended: The cells that were read, best first; of several hops, see the chains of the answers.
    """

    answers: Answers
    searches: list[SearchSeen]
    attended: list[Attended]


class AnswerModule:
    """Groups the facts of the cells that were read by subject and relation.

    A cell's weight is divided equally among its facts; a fact's weight is the sum over its cells.

    Args:
        facts: The table.
        cells: The cells of the table.
    """

    def __init__(self, facts: FactTable, cells: Cells) -> None:
        self.facts, self.cells = facts, cells

    def __call__(self, read: Read[Tensor | None], k: int | None = None) -> list[list[Answer]]:
        """The ``k`` best answers to each question, best first: at most one per cell that was read."""
        weights, cells = read.weight.double().cpu().numpy(), read.cell.cpu().numpy()  # (B, K)
        if not np.isfinite(weights).all():
            raise NonFiniteError("attention: a cell's weight is NaN, expected finite keys and queries")
        k = cells.shape[1] if k is None else k
        question, pairs, probability = self._best_pairs(weights, cells, k)
        held = self.facts.cells_of_pairs(pairs)
        start, shown = spans(held.start[:-1], np.minimum(held.start[1:], held.start[:-1] + MOST_SHOWN))
        facts = self.facts.facts(held.flat[shown])
        answers: list[list[Answer]] = [[] for _ in cells]
        columns = (question, probability, held.length, start[:-1], start[1:])
        for row, share, count, first, end in zip(*(column.tolist() for column in columns), strict=True):
            own = facts[first:end]
            answers[row].append(Answer([fact.object_name for fact in own], share, own, count))
        return answers

    def _best_pairs(
        self, weights: NDArray[np.float64], cells: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Questions ``(n,)``, ascending, the pairs of their ``k`` best answers, and the shares of these."""
        asking, place = (cells >= 0).nonzero()  # of each cell that was read
        held = self.cells.facts.take(cells[asking, place])
        share = np.repeat(weights[asking, place] / np.maximum(held.length, 1), held.length)
        # a question's facts of one pair are one answer, whichever cells they are from
        asked, pair = np.repeat(asking, held.length), self.facts.pair[held.flat]
        count = int(pair.max(initial=0)) + 1
        distinct, first, number = np.unique(asked * count + pair, return_index=True, return_inverse=True)
        question, pairs = np.divmod(distinct, count)
        probability = np.bincount(number, share)
        # rank by the best cell of each pair, as evaluation does, then by probability
        rank = np.repeat(np.arange(held.rows), held.length)[first]
        by_id, ties = np.zeros(len(pairs), np.int64), np.bincount(rank)[rank] > 1
        by_id[ties] = self.facts.in_order(pairs[ties])
        order = np.lexsort((by_id, -probability, rank, question))
        question = question[order]
        nth = np.arange(len(order)) - np.searchsorted(question, question)  # among those of its question
        best = nth < min(k, cells.shape[1])
        return question[best], pairs[order][best], probability[order][best]
