"""Where chains end, compared with a computation in float64, entity by entity."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from tests.qa.hops.test_reader import HOPS, asked, chain_reader, followed
from tests.qa.hops.world import table
from torch import Tensor, nn

from hmn.facts.table import FactTable
from hmn.qa.hops.beam import Beam
from hmn.qa.hops.encoder import HopEncoder, HopQueries
from hmn.qa.hops.graph import Graph
from hmn.qa.hops.stops import Stops

START = ("person 3", "town 2", "person 11")


class ByRelations(nn.Module):
    """Decides from the relations read and those asked for next, as an encoder does."""

    def __init__(self, relations: int) -> None:
        super().__init__()
        self.end = nn.Linear(2 * relations, 1).double()

    def stop(self, queries: HopQueries, hop: int, read: Tensor) -> Tensor:
        found: Tensor = HopEncoder.stop(self, queries, hop, read)  # type: ignore[arg-type]
        return found


def decided(facts: FactTable, decider: ByRelations, vectors: Tensor) -> tuple[HopQueries, list[Beam], Stops]:
    queries = asked(facts, len(START))
    start = np.array([facts.entity_number(name) for name in START])
    reader = chain_reader(facts)
    beams = followed(reader, queries, start, search=False)
    stops = Stops(decider, queries, vectors, Graph(facts, reader.graph.cells))  # type: ignore[arg-type]
    for beam in beams[:-1]:
        stops.decide(beam)
    return queries, beams, stops


def test_every_hop_is_the_last_by_what_was_read_before() -> None:
    facts = table()
    torch.manual_seed(0)
    relations = len(facts.relations)
    decider, vectors = ByRelations(relations), torch.randn(relations, relations, dtype=torch.float64)
    queries, beams, stops = decided(facts, decider, vectors)
    found = stops.all().tolist()
    for question in range(len(START)):
        reached = 1.0
        for hop, beam in enumerate(beams[:-1]):
            assert beam.edges is not None
            weight: dict[int, float] = defaultdict(float)
            for fact, place, one in zip(
                beam.edges.fact, beam.edges.place, beam.edges.weight.tolist(), strict=True
            ):
                if beam.question[place] == question:
                    weight[int(facts.relation[fact])] += one
            read = sum(one * vectors[relation] for relation, one in weight.items()) / sum(weight.values())
            seen = torch.cat([torch.as_tensor(read), queries.relation[question, hop + 1]])
            ends = torch.sigmoid(decider.end(seen)).item()
            assert found[question][hop] == pytest.approx(reached * ends, rel=1e-9)
            reached *= 1 - ends
        assert found[question][-1] == pytest.approx(reached, rel=1e-9)
        assert sum(found[question]) == pytest.approx(1.0)
    assert len(found[0]) == HOPS


def test_gradients_reach_what_decides_and_what_is_asked_next() -> None:
    facts = table()
    torch.manual_seed(0)
    relations = len(facts.relations)
    decider, vectors = ByRelations(relations), torch.randn(relations, relations, dtype=torch.float64)
    queries, _, stops = decided(facts, decider, vectors.requires_grad_())
    stops.all()[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert queries.relation.grad is not None and decider.end.weight.grad is not None
    asked_next = queries.relation.grad.abs().sum(dim=(0, 2)) > 0
    assert asked_next.tolist() == [False, True, False]  # what was read is evidence, and is not trained by it
    assert vectors.grad is None
    assert bool((decider.end.weight.grad != 0).any())


def test_where_nothing_was_read_the_next_relation_decides_alone() -> None:
    facts = table()
    torch.manual_seed(0)
    relations = len(facts.relations)
    decider = ByRelations(relations)
    queries = asked(facts, 1)
    reader = chain_reader(facts)
    empty, _ = reader.follow(
        Beam.at(np.array([-1]), torch.device("cpu")), 0, queries, torch.eye(relations).double(), search=False
    )
    stops = Stops(decider, queries, torch.eye(relations).double(), reader.graph)  # type: ignore[arg-type]
    stops.decide(empty)
    seen = torch.cat([torch.zeros(relations).double(), queries.relation[0, 1]])
    assert stops.all()[0, 0].item() == pytest.approx(torch.sigmoid(decider.end(seen)).item())
