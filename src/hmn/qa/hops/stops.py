"""Decides where chains end: after each hop, with what was read in it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hmn.qa.hops.beam import Beam
from hmn.qa.hops.encoder import HopEncoder, HopQueries
from hmn.qa.hops.graph import Graph


class Stops:
    """The probability of each hop to be the last, as far as the chains of B questions have come.

    Args:
        encoder: the encoder of questions.
        asked: what they ask.
        relations: ``(relations, R)`` vectors of the relations.
        graph: the facts.

    Attributes:
        reached: ``(B,)`` probability that a further hop is read.
    """

    def __init__(self, encoder: HopEncoder, asked: HopQueries, relations: Tensor, graph: Graph) -> None:
        self._encoder, self._asked, self._graph = encoder, asked, graph
        self._relations = relations.detach()
        self._last: list[Tensor] = []
        self.reached = torch.ones_like(asked.back[:, 0])

    def decide(self, beam: Beam) -> None:
        """Decide for every question whether it ends after the hop that led to a beam."""
        logit = self._encoder.stop(self._asked, len(self._last), self._read(beam))
        self._last.append(self.reached * torch.sigmoid(logit))
        self.reached = self.reached * torch.sigmoid(-logit)

    def all(self) -> Tensor:
        """``(B, T)`` the probabilities of all T hops, whose last one ends all chains; each row sums to 1."""
        return torch.stack([*self._last, self.reached], dim=1)

    def _read(self, beam: Beam) -> Tensor:
        """``(B, R)`` mean vectors of the relations that the last hop read; 0 where it read nothing."""
        assert beam.edges is not None
        question = torch.from_numpy(beam.question[beam.edges.place]).to(self.reached.device)
        relation = self._graph.facts.relation[beam.edges.fact].astype(np.int64)
        weight = beam.edges.weight.detach()
        total = torch.zeros_like(self.reached).index_add(0, question, weight)
        share = (weight / total.clamp(min=torch.finfo(total.dtype).tiny)[question]).unsqueeze(1)
        vectors = self._relations[torch.from_numpy(relation).to(share.device)]
        return total.new_zeros(len(total), vectors.shape[1]).index_add(0, question, share * vectors)
