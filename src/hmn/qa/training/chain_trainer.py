"""Training in several hops from answers alone: the loss sums over all chains that end at a right answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.errors import ConfigError
from hmn.facts.questions import QuestionSet
from hmn.facts.ragged import Ragged, offsets
from hmn.qa.hops.beam import Beam
from hmn.qa.hops.network import HopNetwork
from hmn.qa.training.artificial_questions import Drawn
from hmn.qa.training.targets import mask_of
from hmn.qa.training.trainer import Trainer

SMALLEST_MASS = 1e-8
"""Added to the weight of right answers, so that a question whose answers are not reached yet has a loss."""


class ChainTrainer(Trainer):
    """Trains a network of several hops.

    The loss is -log of the weight that all chains bring to the right answers, whatever their lengths. Where
    a question names its topic, only chains that begin there count.

    Args:
        network: the network.
        questions: the training questions.
        args: as ``Trainer`` takes them.

    Raises:
        ConfigError: importance weights are asked for.
    """

    network: HopNetwork

    def __init__(self, network: HopNetwork, questions: QuestionSet, *args: Any) -> None:
        super().__init__(network, questions, *args)
        if self.config.importance_weights:
            raise ConfigError(
                "importance_weights is True with several hops, whose loss lacks them, expected False: "
                "leave --importance-weights out"
            )
        facts = network.chains.graph.facts
        known = questions.cell >= 0
        self._topic = np.where(known, facts.subject[questions.cell], questions.topic).astype(np.int64)
        self._answers = Ragged(questions.answer_start, questions.answer.astype(np.int64))

    def _loss(self, batch: np.ndarray[Any, np.dtype[np.int64]], step: int) -> tuple[Tensor, Tensor]:
        """Loss on a batch of questions, and the cells that were scored for it, ascending."""
        # 1. Some questions are replaced by artificial ones.
        # 2. The first hop attends to the reader's candidates and to the cells of the known topics.
        # 3. Every further hop follows the beam; the weight at the right answers is summed over the hops.
        rng = np.random.default_rng([self.config.seed, 1, step])
        questions = self.artificial.draw(batch, rng)
        topic, answers = self._asked(batch, questions)
        asked = self.network.input_module.hops(self.texts.bags_of(questions.words), self.network.hops)
        own = self._own_cells(topic)
        drawn, score = self.network.attend(asked.first, torch.from_numpy(own.flat), self._generator(step))
        self.query_log.note(asked.first, drawn.cell, score, mask_of(own, drawn.cell))
        beam = self._first(drawn.cell.cpu().numpy(), score.softmax(dim=1), topic, own)
        relations = self.network.relations()
        stops, found = self.network.stops(asked, relations), [_mass(beam, answers)]
        for hop in range(1, self.network.hops):
            stops.decide(beam)
            beam, _ = self.network.chains.follow(beam, hop, asked, relations, search=False)
            found.append(_mass(beam, answers))
        mass = (stops.all() * torch.stack(found, dim=1)).sum(dim=1)
        return -(mass + SMALLEST_MASS).log().mean(), drawn.cell

    def _asked(self, batch: NDArray[np.int64], drawn: Drawn) -> tuple[NDArray[np.int64], Ragged]:
        """Topic ``(B,)`` and right answers of each question; artificial ones ask for a pair, or from it."""
        facts = self.network.chains.graph.facts
        topic, answers = self._topic[batch], [self._answers.row(int(number)) for number in batch]
        for row in np.flatnonzero(drawn.pair >= 0):
            held = facts.cells_of_pair(int(drawn.pair[row]))
            reached = np.unique(facts.object[held])
            topic[row] = facts.subject[held[0]]
            if drawn.then[row] >= 0:
                pairs = facts.pairs_of(reached.astype(np.int64)).flat
                firsts = facts.pair_start[pairs]
                pairs = pairs[facts.relation[firsts] == drawn.then[row]]
                reached = np.setdiff1d(facts.object[facts.cells_of_pairs(pairs).flat], topic[row])
            answers[row] = reached.astype(np.int64)
        return topic, Ragged.of(answers)

    def _own_cells(self, topic: NDArray[np.int64]) -> Ragged:
        """Cells of each question's topic; none where it is not known."""
        known = np.flatnonzero(topic >= 0)
        cells = self.network.chains.graph.cells_of(topic[known])
        length = np.zeros(len(topic), np.int64)
        length[known] = cells.length
        return Ragged(offsets(length), cells.flat)

    def _first(self, cell: NDArray[np.int64], weight: Tensor, topic: NDArray[np.int64], own: Ragged) -> Beam:
        """The beam after the first hop, from weights ``(B, C)`` of the candidates ``(C,)``."""
        chains = self.network.chains
        row = np.repeat(np.arange(len(topic)), own.length)
        place = np.searchsorted(cell, own.flat)
        beam = chains.about(topic, row, own.flat, weight[torch.from_numpy(row), torch.from_numpy(place)])
        asking = np.flatnonzero(topic < 0)
        if not len(asking):
            return beam
        best = weight[torch.from_numpy(asking)].topk(min(chains.k, len(cell)), dim=1)
        found, question = cell[best.indices.cpu().numpy()].ravel(), np.repeat(asking, best.indices.shape[1])
        return beam.joined(chains.first(question, found, best.values.flatten()))


def _mass(beam: Beam, answers: Ragged) -> Tensor:
    """Weight ``(B,)`` that a beam has at the right answers of each question, which ascend."""
    right = np.repeat(np.arange(answers.rows), answers.length)
    entities = 1 + max(int(column.max(initial=0)) for column in (beam.entity, answers.flat))
    wanted = right * entities + answers.flat
    reached = beam.question * entities + beam.entity
    place = np.minimum(np.searchsorted(wanted, reached), len(wanted) - 1)
    hit = np.flatnonzero(wanted[place] == reached)
    held, question = (torch.from_numpy(index).to(beam.weight.device) for index in (hit, beam.question[hit]))
    return beam.weight.new_zeros(answers.rows).index_add(0, question, beam.weight[held])
