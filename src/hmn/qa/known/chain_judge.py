"""Judges whether the answers of a network of several hops are in the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.facts.questions import QuestionSet
from hmn.facts.ragged import Ragged
from hmn.qa.hops.answers import Reading
from hmn.qa.hops.network import Asked as Question
from hmn.qa.hops.network import HopNetwork
from hmn.qa.hops.reader import Chains, Without
from hmn.qa.known.evidence import SMALLEST, Asked
from hmn.qa.known.judge import Gathered, Judge

FIGURES = 5
"""Number of figures on the chains, beside those on their first cells."""


class ChainJudge(Judge):
    """Judges the answers of a network of several hops, by the first cell of the best chain and its weight.

    A hop's weight is the share of its relation among all relations, and an entity without the relation loses
    its weight. So the weight that reaches any answer says much already.

    Args:
        network: the network.
        args: as ``Judge`` takes them.
    """

    def __init__(self, network: HopNetwork, *args: Any) -> None:
        self.network = network
        super().__init__(network, *args)

    @property
    def size(self) -> int:
        """Number of figures of evidence per question, E."""
        return super().size + FIGURES

    def __call__(self, question: Question, chains: Chains, readings: list[list[Reading]]) -> Tensor:
        """Probability ``(B,)`` that the answers to questions are in the table."""
        query, words = self.encoder.encode(question.bags)
        known: Tensor = self.head(self._evidence(Asked(question.bags, words, query), chains, readings))
        found = torch.tensor([bool(ranked) for ranked in readings], device=known.device)
        return known.where(found, known.new_zeros(()))

    def _evidence(self, asked: Asked, chains: Chains, readings: list[list[Reading]]) -> Tensor:
        """Evidence ``(B, E)`` from the chains that were read."""
        best = np.array([int(ranked[0].facts[0, 0]) if ranked else -1 for ranked in readings])
        weights = [[reading.probability for reading in ranked] for ranked in readings]
        figures = [
            [
                np.log(max(sum(weight[:1]), SMALLEST)),
                np.log(max(sum(weight[1:2]), SMALLEST)),
                np.log(max(sum(weight), SMALLEST)),
                ranked[0].facts.shape[1] / 3 if ranked else 0.0,
                float(stop.max()),
            ]
            for weight, ranked, stop in zip(weights, readings, chains.stops, strict=True)
        ]
        cell = self._cells(asked.query, best)  # (B, 1)
        share = torch.tensor([[sum(weight[:1])] for weight in weights]).to(asked.query)  # (B, 1)
        of_cell = self.evidence(asked, cell, share)
        return torch.cat([of_cell, torch.tensor(figures).to(of_cell)], dim=1)

    def _cells(self, query: Tensor, fact: NDArray[np.int64]) -> Tensor:
        """The cell ``(B, 1)`` of each fact ``(B,)`` whose name fits the question best; -1 for none."""
        chosen = np.full(len(fact), -1)
        names = self.encoder.table.weight.shape[1]
        for row in np.flatnonzero(fact >= 0):
            cells = self.cells.of_fact.row(int(fact[row]))
            if len(cells) > 1:
                keys = self.evidence.memory.snapshot_of(torch.from_numpy(cells).to(query.device))[:, :names]
                chosen[row] = cells[int((keys @ query[row, :names]).argmax())]
            else:
                chosen[row] = cells[0]
        return torch.from_numpy(chosen).to(query.device).unsqueeze(1)

    def _gather(self, questions: QuestionSet, numbers: NDArray[np.int64], seed: int) -> Gathered:  # noqa: ARG002
        asked = self._asked([questions.text[number] for number in numbers])
        answers = [questions.answers(int(number)).astype(np.int64) for number in numbers]
        nothing = [np.zeros(0, np.int64)] * len(numbers)
        chains, readings = self._read(asked, None)
        right = [
            bool(ranked) and bool(np.isin(ranked[0].entity[0], own))
            for ranked, own in zip(readings, answers, strict=True)
        ]
        facts = self.network.output_module.facts
        begun = [
            facts.subject[ranked[0].facts[:1, 0]].astype(np.int64) if ranked else nothing[0]
            for ranked in readings
        ]
        known = self._evidence(asked, chains, readings)
        without_fact, without_subject = (
            self._evidence(asked, *self._read(asked, Without(Ragged.of(subject), Ragged.of(object_))))
            for subject, object_ in ((nothing, answers), (begun, nothing))
        )
        # questions within questions have an answer here, and other names may have the relations
        none = known.new_zeros(0, self.size)
        return Gathered(known, torch.tensor(right), without_fact, without_subject, *[none] * 3)

    def _read(self, asked: Asked, without: Without | None) -> tuple[Chains, list[list[Reading]]]:
        """The chains that questions ask for, whose topics are to be found."""
        k = min(self.k, len(self.network.memory))
        chains = self.network.read(Question(asked.bags), k, without=without)
        return chains, self.network.output_module.readings(chains)
