from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.qa.hops.test_reader import HOPS, asked, chain_reader, followed
from tests.qa.hops.world import table

from hmn.errors import NonFiniteError
from hmn.facts.changing import ChangingTable
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.hops.answers import HopAnswers
from hmn.qa.hops.beam import Beam
from hmn.qa.hops.graph import Graph
from hmn.qa.hops.reader import Chains


def random_chains(facts: FactTable, seed: int = 0) -> Chains:
    start = np.array([facts.entity_number(name) for name in ("person 3", "town 2")])
    queries = asked(facts, len(start), seed)
    assert queries.stop is not None
    stops = queries.stop.softmax(dim=1)
    beams = followed(chain_reader(facts), queries, start, search=False)
    return Chains(tuple(beams), stops, np.ones((2, HOPS)))


@pytest.mark.parametrize("scaled", [False, True])
def test_every_entity_is_in_one_reading_with_its_whole_weight(scaled: bool) -> None:
    facts = table()
    chains = random_chains(facts)._replace(scaled=scaled)
    for question, readings in enumerate(HopAnswers(facts).readings(chains)):
        expected: dict[int, float] = {}
        for hop, beam in enumerate(chains.beams):
            own = beam.question == question
            weight = beam.weight.detach().numpy()[own]
            shares = chains.stops[question, hop].item() * weight / (weight.sum() if scaled else 1.0)
            for entity, share in zip(beam.entity[own].tolist(), shares.tolist(), strict=True):
                expected[entity] = expected.get(entity, 0.0) + share
        found = {
            entity: weight
            for reading in readings
            for entity, weight in zip(reading.entity.tolist(), reading.weight.tolist(), strict=True)
        }
        assert sum(len(reading.entity) for reading in readings) == len(found)
        assert found == pytest.approx(expected, rel=1e-9)
        assert sum(reading.probability for reading in readings) == pytest.approx(sum(expected.values()))
        assert [reading.probability for reading in readings] == sorted(
            (reading.probability for reading in readings), reverse=True
        )
        for reading in readings:
            assert reading.probability == pytest.approx(reading.weight.sum())
            assert (np.diff(reading.weight) <= 1e-9).all()


def test_chains_lead_from_the_start_to_the_answers() -> None:
    facts = table()
    for start, readings in zip(
        ("person 3", "town 2"), HopAnswers(facts).readings(random_chains(facts)), strict=True
    ):
        assert readings
        for reading in readings:
            subject, object_ = facts.subject[reading.facts], facts.object[reading.facts]
            assert (subject[:, 0] == facts.entity_number(start)).all()
            assert (subject[:, 1:] == object_[:, :-1]).all()
            assert (object_[:, -1] == reading.entity).all()
            relation = facts.relation[reading.facts]
            assert (relation == relation[0]).all()


def test_answers_show_their_chains() -> None:
    facts = table()
    chains = random_chains(facts)
    readings = HopAnswers(facts).readings(chains)[0]
    for answer, reading in zip(HopAnswers(facts)(chains)[0], readings, strict=True):
        assert answer.count == len(reading.entity)
        assert answer.answers == [facts.names_of(int(entity))[0] for entity in reading.entity[:20]]
        assert answer.probabilities == reading.weight[:20].tolist()
        assert [chain[-1] for chain in answer.chains] == answer.facts
        assert answer.chains[0] == [facts.fact(int(fact)) for fact in reading.facts[0]]
        assert answer.as_dict()["chains"][0][0]["subject"] == "person 3"


def test_weights_that_are_no_numbers_are_an_error() -> None:
    facts = table()
    chains = random_chains(facts)
    with pytest.raises(NonFiniteError, match="NaN"):
        HopAnswers(facts)(chains._replace(stops=torch.full_like(chains.stops, torch.nan)))


def test_ties_go_by_ids_whatever_the_numbers() -> None:
    """Namesakes whose facts tie, in a table and in one that got the first of them later."""
    triples = [(person, "owns", thing) for person in "abc" for thing in (f"{person}2", f"{person}1")]
    whole, later = FactTable.from_triples(triples), ChangingTable(FactTable.from_triples(triples[2:]))
    later.add(FactTable.from_triples(triples[:2]))
    for facts in (whole, later):
        fact = facts.cells_of(*zip(*triples, strict=True))
        graph, none = Graph(facts, Cells.of(whole)), np.zeros(len(fact), np.int64)
        # sums in another order differ in their last digits
        weight = torch.tensor([1.0, 1.0, 1.0 + 1e-9, 1.0, 1.0, 1.0 + 1e-9], dtype=torch.float64)
        beam = Beam.along(graph, none, facts.subject[fact].astype(np.int64), none - 1, fact, weight)
        answers = HopAnswers(facts)(Chains((beam,), torch.ones(1, 1), np.ones((1, 1))))[0]
        assert [answer.answers for answer in answers] == [["a1", "a2"], ["b1", "b2"], ["c1", "c2"]]
