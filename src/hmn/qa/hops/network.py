"""The network that answers in several hops, from questions to the chains of facts that were read."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.network import MemoryNetwork
from hmn.nn.parts import CellMemory, Reader
from hmn.qa.answer import Answer
from hmn.qa.hops.answers import HopAnswers
from hmn.qa.hops.beam import Beam
from hmn.qa.hops.encoder import HopEncoder, HopQueries
from hmn.qa.hops.reader import ChainReader, Chains
from hmn.qa.text import WordBags


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
    output_module: HopAnswers

    def __init__(
        self,
        input_module: HopEncoder,
        indexed: IndexedMemory[CellMemory],
        reader: Reader,
        output_module: HopAnswers,
        chains: ChainReader,
        hops: int,
    ) -> None:
        super().__init__(input_module, indexed, reader, output_module)
        self.chains, self.hops = chains, hops

    def forward(self, inputs: object, k: int) -> list[list[Answer]]:
        """Answer a batch of questions; ``inputs`` are ``WordBags``, or a pair of them and topics ``(B,)``."""
        bags, topic = (
            inputs if isinstance(inputs, tuple) and not isinstance(inputs, WordBags) else (inputs, None)
        )
        assert isinstance(bags, WordBags)
        return self.output_module(self.read(bags, topic, k))  # type: ignore[arg-type]

    def read(self, bags: WordBags, topic: NDArray[np.int64] | None, k: int, *, search: bool = True) -> Chains:
        """Read the chains that B questions ask for.

        Args:
            bags: the questions.
            topic: ``(B,)`` entity that each is about, -1 where it is to be found.
            k: number of cells that the first hop reads where it finds the topic.
            search: let every entity of a hop search the memory; see ``ChainReader.follow``.
        """
        asked = self.input_module.hops(bags, self.hops)
        topic = np.full(len(bags.length), -1) if topic is None else topic
        relations = self.chains.relations()
        beam, reads = self._first(asked, topic, relations, k, search)
        beams, costs = [beam], [reads]
        for hop in range(1, self.hops):
            beam, reads = self.chains.follow(beam, hop, asked, relations, search=search)
            beams.append(beam)
            costs.append(reads)
        return Chains(tuple(beams), asked.stops, np.stack(costs, axis=1))

    def _first(
        self, asked: HopQueries, topic: NDArray[np.int64], relations: Tensor, k: int, search: bool
    ) -> tuple[Beam, NDArray[np.float64]]:
        """The beam after the first hop, and the reads ``(B,)`` for it."""
        at_topic = Beam.at(topic, asked.first.device)
        beam, reads = self.chains.follow(at_topic, 0, asked, relations, search=search)
        asking = np.flatnonzero(topic < 0)
        if not len(asking):
            return beam, reads
        found = self.reader.read(asked.first[torch.from_numpy(asking).to(asked.first.device)], k)
        reads[asking] = found.reads.double().cpu().numpy()
        cell = found.cell.cpu().numpy()
        row, place = np.nonzero(cell >= 0)
        weight = found.weight[torch.from_numpy(row), torch.from_numpy(place)]
        return beam.joined(self.chains.first(asking[row], cell[row, place], weight)), reads
