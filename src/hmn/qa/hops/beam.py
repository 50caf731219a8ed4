"""The entities that chains of facts have reached, with their weights and with the facts that led there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.qa.hops.graph import Graph


@dataclass(frozen=True, eq=False)
class Edges:
    """Facts that lead from the entries of one beam to the next one's.

    Attributes:
        source: ``(m,)`` entry that each begins at; -1 in the first hop.
        fact: ``(m,)`` the facts.
        place: ``(m,)`` entry that each leads to.
        weight: ``(m,)`` weight that each brings there.
    """

    source: NDArray[np.int64]
    fact: NDArray[np.int64]
    place: NDArray[np.int64]
    weight: Tensor


@dataclass(frozen=True, eq=False)
class Beam:
    """Entities reached after some hops, each once per question and start, by question.

    Attributes:
        question: ``(n,)`` number of the question.
        start: ``(n,)`` entity that the chain began at.
        entity: ``(n,)`` entity that it has reached.
        weight: ``(n,)`` weight of all chains that lead there.
        edges: the facts of the last hop; None if there was no hop yet.
    """

    question: NDArray[np.int64]
    start: NDArray[np.int64]
    entity: NDArray[np.int64]
    weight: Tensor
    edges: Edges | None = None

    @classmethod
    def at(cls, topic: NDArray[np.int64], device: torch.device) -> Beam:
        """A beam at the topic entity of each of B questions; none for questions whose topic is -1."""
        question = np.flatnonzero(topic >= 0)
        known = topic[question].astype(np.int64)
        return cls(question, known, known, torch.ones(len(question), device=device))

    @classmethod
    def along(
        cls,
        graph: Graph,
        question: NDArray[np.int64],
        start: NDArray[np.int64],
        source: NDArray[np.int64],
        fact: NDArray[np.int64],
        weight: Tensor,
    ) -> Beam:
        """The beam that facts lead to: weights are summed where they meet.

        Args:
            graph: the facts.
            question, start, source, fact: ``(m,)`` question, first entity, entry before, and fact of each.
            weight: ``(m,)`` weights.
        """
        entities, reached = graph.facts.num_entities, graph.facts.object[fact].astype(np.int64)
        begun, number = np.unique(question * entities + start, return_inverse=True)
        distinct, place = np.unique(number * entities + reached, return_inverse=True)
        on_device = torch.from_numpy(place).to(weight.device)
        summed = weight.new_zeros(len(distinct)).index_add(0, on_device, weight)
        number, reached = np.divmod(distinct, entities)
        question, start = np.divmod(begun[number], entities)
        return cls(question, start, reached, summed, Edges(source, fact, place, weight))

    def __len__(self) -> int:
        """Number of entries, n."""
        return len(self.question)

    def strongest(self, most: int, least: float) -> NDArray[np.int64]:
        """Entries of largest weight, ascending.

        Args:
            most: upper limit of entries per question.
            least: weight that an entry needs, as a share of the largest of its question. NaN is kept, so that
                whoever uses the weights sees it.
        """
        weight = self.weight.detach().cpu().numpy()
        weight = weight / self.peaks[self.question]
        order = np.lexsort((-weight, self.question))
        question = self.question[order]
        rank = np.arange(len(order)) - np.searchsorted(question, question)
        return np.sort(order[(rank < most) & ~(weight[order] < least)])

    @cached_property
    def peaks(self) -> NDArray[np.float64]:
        """Largest weight of each question, by its number; tiny instead of 0."""
        peaks = np.full(self.question.max(initial=-1) + 1, np.finfo(np.float32).tiny, np.float64)
        np.maximum.at(peaks, self.question, self.weight.detach().cpu().numpy())
        return peaks

    @cached_property
    def best_edge(self) -> NDArray[np.int64]:
        """``(n,)`` the edge that brings each entry the most weight."""
        assert self.edges is not None
        order = np.lexsort((self.edges.weight.detach().cpu().numpy(), self.edges.place))
        place = self.edges.place[order]
        edge: NDArray[np.int64] = order[np.diff(place, append=len(self)) > 0]
        return edge

    def joined(self, other: Beam) -> Beam:
        """This beam and another of the same hop, whose questions are others."""
        assert self.edges is not None and other.edges is not None
        edges = Edges(
            np.concatenate([self.edges.source, other.edges.source]),
            np.concatenate([self.edges.fact, other.edges.fact]),
            np.concatenate([self.edges.place, other.edges.place + len(self)]),
            torch.cat([self.edges.weight, other.edges.weight]),
        )
        return Beam(
            np.concatenate([self.question, other.question]),
            np.concatenate([self.start, other.start]),
            np.concatenate([self.entity, other.entity]),
            torch.cat([self.weight, other.weight]),
            edges,
        )
