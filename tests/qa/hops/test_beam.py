from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.qa.hops.world import table

from hmn.qa.cells import Cells
from hmn.qa.hops.beam import Beam
from hmn.qa.hops.graph import Graph


def random_beam(questions: int = 3, edges: int = 60, seed: int = 0) -> Beam:
    facts = table()
    rng = np.random.default_rng(seed)
    fact = rng.integers(len(facts), size=edges)
    question, start = rng.integers(questions, size=edges), rng.integers(2, size=edges)
    weight = torch.from_numpy(rng.random(edges)).requires_grad_()
    return Beam.along(Graph(facts, Cells.of(facts)), question, start, np.arange(edges), fact, weight)


def test_weights_are_summed_where_facts_meet() -> None:
    beam, facts = random_beam(), table()
    assert beam.edges is not None
    summed: dict[tuple[int, int, int], float] = {}
    rng = np.random.default_rng(0)
    fact, question, start = (
        rng.integers(len(facts), size=60),
        rng.integers(3, size=60),
        rng.integers(2, size=60),
    )
    for row, weight in enumerate(beam.edges.weight.tolist()):
        place = (int(question[row]), int(start[row]), int(facts.object[fact[row]]))
        summed[place] = summed.get(place, 0.0) + weight
    places = zip(beam.question.tolist(), beam.start.tolist(), beam.entity.tolist(), strict=True)
    assert dict(zip(places, beam.weight.tolist(), strict=True)) == pytest.approx(summed, rel=1e-12)
    assert len(beam) == len(summed)


def test_strongest_entries_of_each_question() -> None:
    beam = random_beam()
    weight = beam.weight.detach().numpy()
    for most in (1, 4, 1000):
        rows = beam.strongest(most, 0.0)
        expected = []
        for question in range(3):
            own = np.flatnonzero(beam.question == question)
            expected += own[np.argsort(-weight[own], kind="stable")][:most].tolist()
        assert rows.tolist() == sorted(expected)
    largest = np.array([weight[beam.question == question].max() for question in range(3)])
    assert (
        beam.strongest(1000, 0.9).tolist() == np.flatnonzero(weight >= 0.9 * largest[beam.question]).tolist()
    )
    scaled = Beam(beam.question, beam.start, beam.entity, beam.weight * 1e-12)
    assert scaled.strongest(1000, 0.9).tolist() == beam.strongest(1000, 0.9).tolist()


def test_best_edge_brings_the_most_weight() -> None:
    beam = random_beam()
    assert beam.edges is not None
    weight = beam.edges.weight.detach().numpy()
    for entry, edge in enumerate(beam.best_edge):
        leading = np.flatnonzero(beam.edges.place == entry)
        assert edge in leading
        assert weight[edge] == weight[leading].max()


def test_joined_beams_keep_their_edges() -> None:
    one, other = random_beam(seed=1), random_beam(seed=2)
    both = one.joined(other)
    assert one.edges is not None and other.edges is not None and both.edges is not None
    assert both.entity.tolist() == one.entity.tolist() + other.entity.tolist()
    assert both.best_edge.tolist() == [*one.best_edge, *(other.best_edge + len(one.edges.fact))]


def test_a_beam_begins_at_the_topics_that_are_known() -> None:
    beam = Beam.at(np.array([5, -1, 2]), torch.device("cpu"))
    assert beam.question.tolist() == [0, 2]
    assert beam.entity.tolist() == beam.start.tolist() == [5, 2]
    assert beam.weight.tolist() == [1.0, 1.0]


def test_nothing_leads_nowhere() -> None:
    beam = random_beam(edges=0)
    assert len(beam) == len(beam.best_edge) == len(beam.strongest(3, 0.0)) == 0
