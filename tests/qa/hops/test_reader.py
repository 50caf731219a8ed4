from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.qa.hops.world import reached, table
from torch import Tensor

from hmn.facts.table import FactTable
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.qa.cells import Cells
from hmn.qa.hops.beam import Beam
from hmn.qa.hops.encoder import HopQueries
from hmn.qa.hops.graph import Graph
from hmn.qa.hops.reader import ChainReader

HOPS = 3


def chain_reader(facts: FactTable, index: str = "exact", *, k: int = 12, beam: int = 999) -> ChainReader:
    """A reader whose keys are the number of the name and the number of the relation, one-hot."""
    cells = Cells.of(facts)
    names, relations = len(cells.names), len(facts.relations)
    keys = torch.zeros(len(cells), names + relations)
    keys[np.arange(len(cells)), cells.subject] = 1
    keys[np.arange(len(cells)), names + cells.relation] = 1
    indexed = IndexedMemory(Memory(keys), index)
    indexed.rebuild()
    return ChainReader(indexed, Graph(facts, cells), names, k=k, beam=beam)


def asked(
    facts: FactTable, questions: int, seed: int = 0, *, dtype: torch.dtype = torch.float64
) -> HopQueries:
    """Random queries, which ask for relations by their logits."""
    draw = torch.Generator().manual_seed(seed)
    relation = torch.randn(questions, HOPS, len(facts.relations), generator=draw, dtype=dtype)
    back = torch.rand(questions, HOPS, generator=draw, dtype=dtype)
    stop = torch.randn(questions, HOPS, generator=draw, dtype=dtype)
    for tensor in (relation, back):
        tensor.requires_grad_()
    return HopQueries(torch.zeros(questions, 1), relation, back, torch.tensor(50.0), stop)


def followed(
    reader: ChainReader, queries: HopQueries, start: NDArray[np.int64], *, search: bool
) -> list[Beam]:
    relations = torch.eye(queries.relation.shape[2], dtype=queries.relation.dtype)
    beam, beams = Beam.at(start, torch.device("cpu")), []
    beam = Beam(beam.question, beam.start, beam.entity, beam.weight.to(relations.dtype))
    for hop in range(HOPS):
        beam, _ = reader.follow(beam, hop, queries, relations, search=search)
        beams.append(beam)
    return beams


def dense(facts: FactTable, queries: HopQueries, question: int, start: int) -> list[Tensor]:
    """Weights ``(entities,)`` after each hop from a start, by matrices of the relations, in float64."""
    count = facts.num_entities
    step = torch.zeros(len(facts.relations), count, count, dtype=torch.float64)
    for relation, subject, object_ in zip(facts.relation, facts.subject, facts.object, strict=True):
        step[int(relation), int(subject), int(object_)] = 1
    weight, found = torch.zeros(count, dtype=torch.float64), []
    weight[start] = 1
    for hop in range(HOPS):
        gate = torch.ones(count, dtype=torch.float64)
        gate[start] = 0
        gate = gate + (1 - gate) * queries.back[question, hop]
        others = step.sum(2) - step[:, :, start]  # (relations, entities)
        gated = step * gate
        total = torch.where(others > 0, gated.sum(2), step.sum(2)).clamp(min=1e-300)
        share = queries.relation[question, hop].softmax(0)
        weight = torch.einsum("e,r,re,reo->o", weight, share, 1 / total, gated)
        found.append(weight)
    return found


def test_weights_are_those_of_brute_force() -> None:
    facts = table()
    start = np.array([facts.entity_number(name) for name in ("person 3", "town 2", "coin 1")])
    queries = asked(facts, len(start))
    beams = followed(chain_reader(facts), queries, start, search=False)
    for question, entity in enumerate(start.tolist()):
        share = queries.relation[question].softmax(dim=1).detach().numpy()
        expected = reached(facts, entity, share, queries.back[question].tolist())
        for beam, weights in zip(beams, expected, strict=True):
            own = beam.question == question
            weight = beam.weight.detach().numpy()[own].tolist()
            found = dict(zip(beam.entity[own].tolist(), weight, strict=True))
            large = {entity: weight for entity, weight in weights.items() if weight > 1e-3}
            assert {entity: found[entity] for entity in large} == pytest.approx(large, rel=1e-2)
            assert sum(found.values()) == pytest.approx(sum(weights.values()), rel=1e-3)


def test_gradients_are_those_of_dense_matrices_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hmn.qa.hops.reader.LEAST", 0.0)
    facts = table()
    start = np.array([facts.entity_number(name) for name in ("person 3", "country 2")])
    queries = asked(facts, len(start))
    target = torch.rand(facts.num_entities, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    inputs = (queries.relation, queries.back)

    beams = followed(chain_reader(facts), queries, start, search=False)
    loss = sum((beam.weight * target[torch.from_numpy(beam.entity)]).sum() for beam in beams)
    assert isinstance(loss, Tensor)
    gradients = torch.autograd.grad(loss, inputs)

    found = [dense(facts, queries, question, entity) for question, entity in enumerate(start.tolist())]
    expected = sum((weight * target).sum() for hops in found for weight in hops)
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for got, wanted in zip(gradients, torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "index", ["exact", "cluster:num_clusters=6,num_probes=6", "hierarchy:num_groups=12,reach=none"]
)
def test_a_search_finds_what_lies_in_the_memory(index: str) -> None:
    facts = table()
    start = np.array([facts.entity_number("person 7"), -1, facts.entity_number("country 0")])
    queries = asked(facts, len(start), dtype=torch.float32)
    with torch.no_grad():
        looked_up = followed(chain_reader(facts), queries, start, search=False)
        found = followed(chain_reader(facts, index.replace("none", "1000")), queries, start, search=True)
    for one, other in zip(looked_up, found, strict=True):
        assert one.question.tolist() == other.question.tolist()
        assert one.entity.tolist() == other.entity.tolist()
        torch.testing.assert_close(one.weight, other.weight)


def test_a_search_reads_the_k_best_relations_and_counts_them() -> None:
    facts = table()
    start = np.array([facts.entity_number("person 7")])
    queries = asked(facts, 1, dtype=torch.float32)
    reader = chain_reader(facts, k=1)
    relations = torch.eye(len(facts.relations))
    with torch.no_grad():
        beam, reads = reader.follow(Beam.at(start, torch.device("cpu")), 0, queries, relations, search=True)
    own = [facts.relation[fact] for fact in np.flatnonzero(facts.subject == start[0])]
    best = max(own, key=lambda relation: queries.relation[0, 0, relation].item())
    assert beam.edges is not None
    assert set(facts.relation[beam.edges.fact].tolist()) == {best}
    assert reads.tolist() == [len(reader.graph.cells)]


def test_only_the_strongest_entities_are_followed() -> None:
    facts = table()
    start = np.array([facts.entity_number("person 7")])
    queries, reader = asked(facts, 1), chain_reader(facts, beam=2)
    beams = followed(reader, queries, start, search=False)
    assert beams[1].edges is not None
    sources = set(beams[1].edges.source.tolist())
    strongest = np.argsort(-beams[0].weight.detach().numpy(), kind="stable")[:2]
    assert sources == set(strongest.tolist())


def test_facts_of_a_cell_share_its_weight_and_topics_choose_among_namesakes() -> None:
    facts = FactTable.from_triples(
        [("a", "r", "x"), ("a", "r", "y"), ("b", "r", "z")], {"a": ["Ann"], "b": ["Ann"]}
    )
    reader = chain_reader(facts)
    assert len(reader.graph.cells) == 1
    cell, question, weight = np.zeros(2, np.int64), np.array([0, 1]), torch.tensor([0.6, 0.3])
    first = reader.first(question, cell, weight)
    assert first.weight.tolist() == pytest.approx([0.2] * 3 + [0.1] * 3)
    b = facts.entity_number("b")
    about = reader.about(np.array([b, facts.entity_number("a")]), question, cell, weight)
    assert about.start.tolist() == [b] + [facts.entity_number("a")] * 2
    assert about.weight.tolist() == pytest.approx([0.6, 0.15, 0.15])
