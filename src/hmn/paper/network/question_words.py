"""Questions as the paper reads them: the sum of their words' vectors; and the artificial ones."""

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
from hmn.qa.text import words
from hmn.qa.training.targets import Targets


class Vocabulary:
    """Numbers the words of texts.

    Args:
        texts: those that are trained on.
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
        """The words of each text; those that training never saw are left out."""
        return Ragged.of(
            [self._number[word] for word in words(text) if word in self._number] for text in texts
        )


class WordSum(nn.Module):
    """A question is the sum of its words' vectors, which are all that is learned.

    Args:
        count: words.
        features: of a vector, those of the memory's keys.
        scale: standard deviation of the first vectors, which are drawn from PyTorch's random numbers.
    """

    def __init__(self, count: int, features: int, scale: float) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(count, features, mode="sum", sparse=True)
        nn.init.normal_(self.bag.weight, std=scale)

    def forward(self, asked: Ragged) -> Tensor:
        """Queries ``(B, D)`` of B rows of words; zeros for a row without any."""
        device = self.bag.weight.device
        word, start = (torch.from_numpy(part).to(device) for part in (asked.flat, asked.start[:-1]))
        query: Tensor = self.bag(word, start)
        return query


@dataclass(frozen=True, eq=False)
class Asked:
    """Q questions, ready to be asked.

    Attributes:
        text: the questions.
        word: their words, Q rows.
        target: their right cells: those of the exact fact, as in the paper. Other facts of the same subject
            and relation are wrong.
    """

    text: Sequence[str]
    word: Ragged
    target: Targets

    @classmethod
    def of(
        cls, text: Sequence[str], fact: Sequence[int], vocabulary: Vocabulary, facts: FactTable, cells: Cells
    ) -> Asked:
        """Make questions ready that ask for the given facts."""
        right = cells.of_fact.take(np.asarray(fact, np.int64))
        nothing = Ragged(np.zeros(len(text) + 1, np.int64), np.zeros(0, np.int64))
        return cls(text, vocabulary.read(text), Targets(facts, cells, right, nothing))

    def __len__(self) -> int:
        """Number of questions, Q."""
        return len(self.text)


def artificial_questions(facts: FactTable, train: QuestionSet) -> tuple[list[str], list[int]]:
    """One question for each fact that no training question asks for, and which fact it asks for.

    It consists of the first name of the fact's subject and of all words of its relation (domain, type,
    property), ``ada lovelace people person place of birth``; the order does not matter to a sum. It is the
    same in every epoch. Facts of one subject and relation get the same words, each with its own fact as the
    right one, as natural questions do.
    """
    without = np.setdiff1d(np.arange(len(facts)), train.cell).tolist()
    text = [
        f"{facts.names_of(int(facts.subject[fact]))[0]} {facts.relation_text(int(facts.relation[fact]))}"
        for fact in without
    ]
    return text, without
