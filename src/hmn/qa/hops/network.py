"""The network that answers in several hops, from questions to the chains of facts that were read."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.facts.topic import NO_TOPIC, split_topic
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.network import MemoryNetwork
from hmn.nn.parts import CellMemory, Reader
from hmn.qa.answer import Answer
from hmn.qa.config import ModelConfig
from hmn.qa.encoders.fact import FactEncoder
from hmn.qa.hops.answers import HopAnswers
from hmn.qa.hops.beam import Beam
from hmn.qa.hops.encoder import HopEncoder, HopQueries
from hmn.qa.hops.reader import ChainReader, Chains, Without
from hmn.qa.hops.stops import Stops
from hmn.qa.text import WordBags, bags_of
from hmn.qa.words.splitting import splitting

LEAST_REACHED = 0.01
"""Probability that a question needs a further hop, below which it is not read."""


class Asked(NamedTuple):
    """B questions as the network takes them.

    Attributes:
        bags: their words.
        topic: ``(B,)`` entity that each is about, -1 where it is to be found; None if that is so everywhere.
    """

    bags: WordBags
    topic: NDArray[np.int64] | None = None


class HopNetwork(MemoryNetwork[list[list[Answer]]]):
    """A memory network that reads chains of facts.

    Args:
        input_module: the encoder of questions.
        indexed: the memory with its index.
        reader: reads the first hop.
        output_module: turns chains into answers.
        chains: reads the hops after it.
        hops: number of hops, T; may be changed.
    """

    input_module: HopEncoder
    output_module: HopAnswers  # type: ignore[assignment]

    def __init__(
        self,
        input_module: HopEncoder,
        indexed: IndexedMemory[CellMemory],
        reader: Reader,
        output_module: HopAnswers,
        chains: ChainReader,
        hops: int,
    ) -> None:
        super().__init__(input_module, indexed, reader, output_module)  # type: ignore[arg-type]
        self.chains, self.hops = chains, hops

    def forward(self, inputs: object, k: int) -> list[list[Answer]]:
        """Answer a batch of questions: ``Asked``, or ``WordBags`` if all topics are to be found."""
        asked = Asked(inputs) if isinstance(inputs, WordBags) else inputs
        assert isinstance(asked, Asked)
        return self.output_module(self.read(asked, k))

    def read(
        self, questions: Asked, k: int, *, search: bool = True, without: Without | None = None
    ) -> Chains:
        """Read the chains that B questions ask for.

        Args:
            questions: the questions.
            k: number of cells that the first hop reads where it finds the topic.
            search: let every entity of a hop search the memory; see ``ChainReader.follow``.
            without: facts that are read as if they were not there.
        """
        asked = self.input_module.hops(questions.bags, self.hops)
        topic = questions.topic
        if topic is None:
            topic = np.full(len(questions.bags.length), NO_TOPIC)
        relations = self.relations()
        beam, reads = self._first(asked, topic, relations, k, search, without)
        beams, costs = [beam], [reads]
        stops = self.stops(asked, relations)
        for hop in range(1, self.hops):
            stops.decide(beam)
            going_on = (stops.reached >= LEAST_REACHED).cpu().numpy()
            beam, reads = self.chains.follow(
                beam, hop, asked, relations, search=search, going_on=going_on, without=without
            )
            beams.append(beam)
            costs.append(reads)
        by_words = self.input_module.end is None
        return Chains(tuple(beams), stops.all(), np.stack(costs, axis=1), scaled=by_words)

    def stops(self, asked: HopQueries, relations: Tensor) -> Stops:
        """Where the chains of some questions end, to be decided hop by hop."""
        return Stops(self.input_module, asked, relations, self.chains.graph)

    def relations(self) -> Tensor:
        """Vectors ``(relations, R)`` of all relations, as the cells have them."""
        assert isinstance(self.memory, EncodedMemory)
        assert isinstance(self.memory.encoder, FactEncoder)
        return self.memory.encoder.encode_relations(np.arange(len(self.chains.graph.facts.relations)))

    def _first(
        self,
        asked: HopQueries,
        topic: NDArray[np.int64],
        relations: Tensor,
        k: int,
        search: bool,
        without: Without | None,
    ) -> tuple[Beam, NDArray[np.float64]]:
        """The beam after the first hop, and the reads ``(B,)`` for it."""
        at_topic = Beam.at(topic, asked.first.device)
        beam, reads = self.chains.follow(at_topic, 0, asked, relations, search=search, without=without)
        asking = np.flatnonzero(topic < 0)
        if not len(asking):
            return beam, reads
        found = self.reader.read(asked.first[torch.from_numpy(asking).to(asked.first.device)], k)
        reads[asking] = found.reads.double().cpu().numpy()
        cell = found.cell.cpu().numpy()
        row, place = np.nonzero(cell >= 0)
        weight = found.weight[torch.from_numpy(row), torch.from_numpy(place)]
        return beam.joined(self.chains.first(asking[row], cell[row, place], weight, without)), reads


def about(asked: list[str], facts: FactTable, config: ModelConfig) -> Asked:
    """Questions in words as the network takes them; they may name their topics in brackets."""
    split = [split_topic(text, facts) for text in asked]
    bags = bags_of([text for text, _ in split], config.feature_bits, splitting(config.splitting))
    return Asked(bags, np.array([topic for _, topic in split]))


def reading(
    network: HopNetwork,
    questions: QuestionSet,
    config: ModelConfig,
    *,
    topics: bool = True,
    search: bool = True,
) -> Callable[[NDArray[np.int64]], Chains]:
    """A function that reads the chains of the questions with the given numbers.

    Args:
        network: the network.
        questions: the questions.
        config: settings of the model.
        topics: begin at the topics that questions name.
        search: let every entity search the memory; see ``ChainReader.follow``.
    """

    def read(numbers: NDArray[np.int64]) -> Chains:
        asked_texts = [questions.text[number] for number in numbers]
        bags = bags_of(asked_texts, config.feature_bits, splitting(config.splitting))
        topic = questions.topic[numbers].astype(np.int64) if topics else None
        asked = Asked(bags, topic)
        return network.read(asked, min(config.k, len(network.memory)), search=search)

    return read
