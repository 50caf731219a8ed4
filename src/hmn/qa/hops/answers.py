"""The output module of several hops: from chains of facts to sets of entities that answer a question."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hmn.errors import NonFiniteError
from hmn.facts.table import FactTable
from hmn.qa.answer import MOST_SHOWN, Answer
from hmn.qa.cells import distinct_rows
from hmn.qa.hops.reader import Chains

TIE = 1e-6
"""Relative difference up to which two weights are equal: they are sums in different orders."""


@dataclass(frozen=True, eq=False)
class Reading:
    """One reading of a question: entities that are reached from one start over the same relations.

    Attributes:
        probability: weight of all of them.
        entity: ``(n,)`` the entities, the heaviest first.
        weight: ``(n,)`` their weights, over all chains that lead to each.
        facts: ``(n, hops)`` the heaviest chain that leads to each.
    """

    probability: float
    entity: NDArray[np.int64]
    weight: NDArray[np.float64]
    facts: NDArray[np.int64]


class HopAnswers:
    """Turns chains of facts into answers, with the chain that supports each of them.

    An entity belongs to the reading of its heaviest chain. So each entity is in one answer, and the
    probabilities of all answers sum to at most 1.

    Args:
        facts: the table.
    """

    def __init__(self, facts: FactTable) -> None:
        self.facts = facts

    def __call__(self, chains: Chains) -> list[list[Answer]]:
        """Answers to each question, best first."""
        return self.shown(self.readings(chains))

    def shown(self, readings: list[list[Reading]]) -> list[list[Answer]]:
        """Readings of questions as answers."""
        return [[self._answer(reading) for reading in found] for found in readings]

    def readings(self, chains: Chains) -> list[list[Reading]]:
        """Readings of each question, the most probable first."""
        ends = _ends(chains)
        if not np.isfinite(ends.weight).all():
            raise NonFiniteError("attention: a chain's weight is NaN, expected finite keys and queries")
        ends = self._by_entity(ends)
        question, entity, weight, facts = ends.question, ends.entity, ends.weight, ends.facts
        group = self._groups(question, facts)
        probability = np.bincount(group, weight).astype(np.float64)[group]
        # what ties goes by ids, so that numbers do not matter: a model that is saved may have others
        begun = self.facts.entities_in_order(self.facts.subject[facts[:, 0]].astype(np.int64))
        by_id = self.facts.entities_in_order(entity)
        order = np.lexsort((by_id, -_level(weight), group, begun, -_level(probability), question))
        bounds = np.flatnonzero(np.diff(group[order], prepend=-1, append=-1))
        found: list[list[Reading]] = [[] for _ in range(len(chains.stops))]
        for first, end in pairwise(bounds):
            rows = order[first:end]
            chain = facts[rows][:, facts[rows[0]] >= 0]
            reading = Reading(float(probability[rows[0]]), entity[rows], weight[rows], chain)
            found[question[rows[0]]].append(reading)
        return found

    def _by_entity(self, ends: Ends) -> Ends:
        """Each entity once per question, with the weight of all its chains and the heaviest of them."""
        entities = self.facts.num_entities
        distinct, place = np.unique(ends.question * entities + ends.entity, return_inverse=True)
        weight = np.bincount(place, ends.weight, minlength=len(distinct)).astype(np.float64)
        order = np.lexsort((ends.weight, place))
        last = order[np.diff(place[order], append=len(distinct)) > 0]
        question, entity = np.divmod(distinct, entities)
        return Ends(question, entity, weight, ends.facts[last])

    def _groups(self, question: NDArray[np.int64], facts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the reading that each chain of facts ``(n, T)`` belongs to."""
        if not len(question):
            return question
        relation = np.where(facts >= 0, self.facts.relation[facts].astype(np.int64) + 1, 0)
        columns = [question, self.facts.subject[facts[:, 0]].astype(np.int64), *relation.T]
        return distinct_rows(columns)[1]

    def _answer(self, reading: Reading) -> Answer:
        shown = reading.facts[:MOST_SHOWN]
        facts, hops = self.facts.facts(shown.ravel()), shown.shape[1]
        chains = [facts[first : first + hops] for first in range(0, len(facts), hops)]
        return Answer(
            [chain[-1].object_name for chain in chains],
            reading.probability,
            [chain[-1] for chain in chains],
            len(reading.entity),
            chains,
            reading.weight[:MOST_SHOWN].tolist(),
        )


@dataclass(frozen=True, eq=False)
class Ends:
    """Where chains end: question, entity, weight and the facts ``(n, T)`` of each, -1 after its last."""

    question: NDArray[np.int64]
    entity: NDArray[np.int64]
    weight: NDArray[np.float64]
    facts: NDArray[np.int64]


def _ends(chains: Chains) -> Ends:
    """The ends of all chains, after whichever hop is the last."""
    hops, stops = len(chains.beams), chains.stops.detach().double().cpu().numpy()
    parts = []
    for hop, beam in enumerate(chains.beams):
        facts = np.full((len(beam), hops), -1)
        entry = np.arange(len(beam))
        for back in range(hop, -1, -1):
            reached = chains.beams[back]
            assert reached.edges is not None
            edge = reached.best_edge[entry]
            facts[:, back] = reached.edges.fact[edge]
            entry = reached.edges.source[edge]
        weight = beam.weight.detach().double().cpu().numpy()
        if chains.scaled:
            total = np.bincount(beam.question, weight, minlength=len(stops))
            weight = weight / np.maximum(total, np.finfo(np.float64).tiny)[beam.question]
        weight = weight * stops[beam.question, hop]
        parts.append((beam.question, beam.entity, weight, facts))
    return Ends(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _level(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights rounded so that those which tie are equal."""
    with np.errstate(divide="ignore"):
        return np.where(weight > 0, np.round(np.log(weight) / TIE) * TIE, -np.inf)
