"""Questions as the paper reads them, by the sum of their words' vectors; and artificial questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hmn.facts.questions import QuestionSet
from hmn.facts.ragged import Ragged
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.training.targets import Targets
from hmn.qa.words.letters import words


class Vocabulary:
    """Numbers the words of texts.

    Args:
        texts: texts that are trained on.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._number: dict[str, int] = {}
        for text in texts:
            for word in words(text):
                self._number.setdefault(word, len(self._number))

    def __len__(self) -> int:
        """Number of words."""
        return len(self._number)

    def read(self, texts: Iterable[str]) -> Ragged:
        """The words of each text, without those that training never saw."""
        return Ragged.of(
            [self._number[word] for word in words(text) if word in self._number] for text in texts
        )


class WordSum(nn.Module):
    """A question is the sum of its words' vectors, which are all that is learned.

    Args:
        count: number of words.
        features: features per vector, the same as those of the memory's keys.
        scale: standard deviation of the initial vectors, which are drawn by PyTorch's global generator.
    """

    def __init__(self, count: int, features: int, scale: float) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(count, features, mode="sum", sparse=True)
        nn.init.normal_(self.bag.weight, std=scale)

    def forward(self, asked: Ragged) -> Tensor:
        """Queries ``(B, D)`` of B rows of words; zeros for a row without words."""
        device = self.bag.weight.device
        word, start = (torch.from_numpy(part).to(device) for part in (asked.flat, asked.start[:-1]))
        query: Tensor = self.bag(word, start)
        return query


@dataclass(frozen=True, eq=False)
class Asked:
    """Q questions, ready to be asked.

    Attributes:
        text: texts of the questions.
        word: their words, Q rows.
        target: their right cells: those of the exact fact, as in the paper. Other facts with the same subject
            and relation are wrong.
    """

    text: Sequence[str]
    word: Ragged
    target: Targets

    @classmethod
    def of(
        cls, text: Sequence[str], fact: Sequence[int], vocabulary: Vocabulary, facts: FactTable, cells: Cells
    ) -> Asked:
        """Prepare questions that ask for the given facts."""
        right = cells.of_fact.take(np.asarray(fact, np.int64))
        nothing = Ragged(np.zeros(len(text) + 1, np.int64), np.zeros(0, np.int64))
        return cls(text, vocabulary.read(text), Targets(facts, cells, right, nothing))

    def __len__(self) -> int:
        """Number of questions, Q."""
        return len(self.text)


def artificial_questions(facts: FactTable, train: QuestionSet) -> tuple[list[str], list[int]]:
    """A question for each fact that no training question asks for, and the number of that fact.

    It has the words of the subject's first name and all words of the relation (domain, type, property), such
    as ``ada lovelace people person place of birth``, and is the same in every epoch. Facts with the same
    subject and relation get the same words, each with its own fact as the right one, as in natural
    questions.
    """
    without = np.setdiff1d(np.arange(len(facts)), train.cell).tolist()
    text = [
        f"{facts.names_of(int(facts.subject[fact]))[0]} {facts.relation_text(int(facts.relation[fact]))}"
        for fact in without
    ]
    return text, without
