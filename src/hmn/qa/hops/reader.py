"""Reads chains of facts: what a hop finds asks the next one, each entity by a search of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.facts.ragged import Ragged, offsets
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.qa.hops.beam import Beam
from hmn.qa.hops.encoder import HopQueries
from hmn.qa.hops.graph import Graph

LEAST = 1e-4
"""Share of a question's largest weight below which a fact or an entity is not followed further."""


class Found(NamedTuple):
    """The pairs that were found for n entities.

    Attributes:
        row: ``(m,)`` number of the entity among the n, ascending.
        pair: ``(m,)`` a pair of that entity, each once per row.
        reads: ``(n,)`` reads per entity.
    """

    row: NDArray[np.int64]
    pair: NDArray[np.int64]
    reads: NDArray[np.float64]


class Chains(NamedTuple):
    """What B questions read in T hops.

    Attributes:
        beams: what each hop reached.
        stops: ``(B, T)`` probability of each hop to be the last.
        reads: ``(B, T)`` reads of each hop.
        scaled: scale the weights of each hop to a sum of 1: what was lost on the way, at entities without the
            relation, then says nothing about the number of hops.
    """

    beams: tuple[Beam, ...]
    stops: Tensor
    reads: NDArray[np.float64]
    scaled: bool = False


class Without(NamedTuple):
    """What B questions are read without, as if the table lacked it.

    Attributes:
        subject: entities per question, whose facts the first hop lacks.
        object: entities per question, to which no fact leads.
    """

    subject: Ragged
    object: Ragged

    def left(
        self, question: NDArray[np.int64], subject: NDArray[Any] | None, objects: NDArray[Any]
    ) -> NDArray[np.bool_]:
        """Mask ``(m,)`` of facts of questions that are left, by their objects and, if given, subjects."""
        left = ~_held(self.object, question, objects)
        return left if subject is None else left & ~_held(self.subject, question, subject)


class ChainReader:
    """Follows chains of facts from hop to hop.

    Args:
        indexed: the memory with its index. Its keys begin with the block of names.
        graph: the facts.
        names: features of the block of names, L.
        k: cells that are read per entity.
        beam: entities that are followed per question.
    """

    def __init__(
        self,
        indexed: IndexedMemory[EncodedMemory | Memory],
        graph: Graph,
        names: int,
        *,
        k: int,
        beam: int,
    ) -> None:
        self.indexed, self.graph = indexed, graph
        self.names, self.k, self.beam = names, k, beam

    def first(
        self,
        question: NDArray[np.int64],
        cell: NDArray[np.int64],
        weight: Tensor,
        without: Without | None = None,
    ) -> Beam:
        """The beam that the cells of the first hop lead to.

        Args:
            question: ``(m,)`` number of the question that read each cell.
            cell: ``(m,)`` the cells.
            weight: ``(m,)`` their weights; the facts of a cell share its weight.
            without: facts that are not there; the cells that are left share the weight of the others.
        """
        held = self.graph.cells.facts.take(cell)
        row, fact = np.repeat(np.arange(len(cell)), held.length), held.flat
        if without is not None:
            facts = self.graph.facts
            left = without.left(question[row], facts.subject[fact], facts.object[fact])
            row, fact = row[left], fact[left]
            weight = _shared_out(weight, question, np.isin(np.arange(len(cell)), row))
        return self._along_facts(question, row, fact, weight)

    def about(
        self, topic: NDArray[np.int64], question: NDArray[np.int64], cell: NDArray[np.int64], weight: Tensor
    ) -> Beam:
        """As ``first``, with only those facts of the cells that are about the question's topic ``(B,)``."""
        held = self.graph.cells.facts.take(cell)
        row = np.repeat(np.arange(len(cell)), held.length)
        own = self.graph.facts.subject[held.flat] == topic[question[row]]
        return self._along_facts(question, row[own], held.flat[own], weight)

    def _along_facts(
        self, question: NDArray[np.int64], row: NDArray[np.int64], fact: NDArray[np.int64], weight: Tensor
    ) -> Beam:
        """Follow facts of the rows ``(m,)`` of a first hop; those of one row share its weight."""
        share = np.bincount(row, minlength=len(question))[row]
        subject = self.graph.facts.subject[fact].astype(np.int64)
        each = weight[_on(weight, row)] / _on(weight, share)
        return Beam.along(self.graph, question[row], subject, np.full(len(row), -1), fact, each)

    def follow(
        self,
        beam: Beam,
        hop: int,
        asked: HopQueries,
        relations: Tensor,
        *,
        search: bool,
        going_on: NDArray[np.bool_] | None = None,
        without: Without | None = None,
    ) -> tuple[Beam, NDArray[np.float64]]:
        """The beam one hop further, and the reads ``(B,)`` of each question for it.

        Args:
            beam: where the chains are.
            hop: number of the hop, from 0.
            asked: what the B questions ask.
            relations: ``(relations, R)`` vectors of the relations.
            search: find each entity's pairs by a search of the memory. Otherwise look at all of them, as
                training does.
            going_on: ``(B,)`` the questions that are followed; all if not given.
            without: facts that are not there.
        """
        rows = beam.strongest(self.beam, LEAST)
        if going_on is not None:
            rows = rows[going_on[beam.question[rows]]]
        question, entity = beam.question[rows], beam.entity[rows]
        block = asked.relation[:, hop]  # (B, R)
        found = self._own(entity)
        if search:
            found = self._searched(entity, asked.name_scale, block[_on(block, question)])
        reads = np.bincount(question, found.reads, minlength=len(block)).astype(np.float64)
        # an entity without the relation that is asked for loses its weight: no other one gets it
        share = (block @ relations.T).softmax(dim=1)  # (B, relations)
        weight = share[_on(block, question[found.row]), _on(block, self.graph.relation_of(found.pair))]
        weight = weight * beam.weight[_on(block, rows[found.row])]
        least = LEAST * beam.peaks[question[found.row]]
        strong = np.flatnonzero(~(weight.detach().cpu().numpy() < least))  # NaN is kept, to be seen
        source, pair, weight = rows[found.row[strong]], found.pair[strong], weight[_on(block, strong)]
        return self._to_objects(beam, source, pair, weight, asked.back[:, hop], without), reads

    def _to_objects(
        self,
        beam: Beam,
        source: NDArray[np.int64],
        pair: NDArray[np.int64],
        weight: Tensor,
        back: Tensor,
        without: Without | None,
    ) -> Beam:
        """Follow pairs ``(m,)`` to their objects, which share the weight ``(m,)``.

        Where a chain began counts as much as ``back`` ``(B,)`` says, beside the other objects.
        """
        facts = self.graph.facts.cells_of_pairs(pair)
        row = np.repeat(np.arange(len(pair)), facts.length)
        start, question = beam.start[source], beam.question[source]
        if without is not None:
            left = without.left(question[row], None, self.graph.facts.object[facts.flat])
            row = row[left]
            facts = Ragged(offsets(np.bincount(row, minlength=len(pair))), facts.flat[left])
        returns = self.graph.facts.object[facts.flat] == start[row]  # (edges,)
        others = facts.length - np.bincount(row, returns, minlength=len(pair)).astype(np.int64)
        gate = back[_on(back, question)]  # (m,)
        total = _on(weight, others) + gate * _on(weight, others < facts.length)
        # if a pair leads nowhere else, what the gate holds back is lost
        total = torch.where(_on(weight, others > 0), total, _on(weight, facts.length).to(total.dtype))
        each = torch.where(_on(weight, returns), gate[_on(weight, row)], 1.0)
        each = each * (weight / total)[_on(weight, row)]
        return Beam.along(self.graph, question[row], start[row], source[row], facts.flat, each)

    def _own(self, entity: NDArray[np.int64]) -> Found:
        """All pairs of n entities."""
        pairs = self.graph.facts.pairs_of(entity)
        row = np.repeat(np.arange(len(entity)), pairs.length)
        return Found(row, pairs.flat, pairs.length.astype(np.float64))

    def _searched(self, entity: NDArray[np.int64], scale: Tensor, block: Tensor) -> Found:
        """The pairs of n entities among the K cells that a search for each finds.

        The query is the entity's name beside the relation block ``(n, R)``. Cells of other entities whose
        names are alike are passed over.
        """
        named = self.graph.cell_of(entity)
        known = np.flatnonzero(named >= 0)
        reads = np.zeros(len(entity))
        if not len(known):
            return Found(known, known, reads)
        query = self._query(named[known], scale, block[_on(block, known)])
        result = self.indexed.search(query, min(self.k, len(self.indexed)))
        reads[known] = result.reads.double().cpu().numpy()
        cell = result.cell.cpu().numpy()  # (known, K)
        row, place = np.nonzero(cell >= 0)
        held = self.graph.cells.facts.take(cell[row, place])
        row = known[np.repeat(row, held.length)]
        own = self.graph.facts.subject[held.flat] == entity[row]
        pair = self.graph.facts.pair[held.flat[own]]
        pairs = int(pair.max(initial=0)) + 1
        mixed = np.unique(row[own] * pairs + pair)
        return Found(*np.divmod(mixed, pairs), reads)

    def _query(self, cell: NDArray[np.int64], scale: Tensor, block: Tensor) -> Tensor:
        """Queries ``(n, D)`` for the names of cells ``(n,)`` with relation blocks ``(n, R)``."""
        keys = self.indexed.memory.snapshot_of(_on(block, cell))  # (n, D)
        names = keys[:, : self.names] * scale  # (n, L)
        rest = keys.shape[1] - self.names - block.shape[1]
        return torch.cat([names, block, block.new_zeros(len(block), rest)], dim=1)


def _on(like: Tensor, array: NDArray[np.int64] | NDArray[np.bool_]) -> Tensor:
    """An array as a tensor on the device of another."""
    return torch.from_numpy(array).to(like.device)


def _held(entities: Ragged, question: NDArray[np.int64], entity: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask ``(m,)`` of entities that are among those of their questions."""
    most = int(max(entities.flat.max(initial=0), entity.max(initial=0))) + 1
    held = np.repeat(np.arange(entities.rows), entities.length) * most + entities.flat
    among: NDArray[np.bool_] = np.isin(question * most + entity.astype(np.int64), held)
    return among


def _shared_out(weight: Tensor, question: NDArray[np.int64], left: NDArray[np.bool_]) -> Tensor:
    """Weights ``(m,)`` after those which are left of a question take over the weight of the others."""
    number = torch.from_numpy(question).to(weight.device)
    kept = weight * torch.from_numpy(left).to(weight)
    count = int(question.max(initial=-1)) + 1
    before, after = (weight.new_zeros(count).index_add(0, number, values) for values in (weight, kept))
    return kept * (before / after.clamp(min=torch.finfo(after.dtype).tiny))[number]
