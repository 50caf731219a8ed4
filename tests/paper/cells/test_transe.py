from __future__ import annotations

import random
import sys

import pytest
import torch

from hmn.errors import ConfigError, MissingPackageError
from hmn.facts.table import FactTable
from hmn.paper.cells.transe import TransEConfig, Triples, train_transe, transe_class

SMALL = TransEConfig(features=16, epochs=60, batch_size=32, learning_rate=0.05)


@pytest.fixture(scope="module")
def installed() -> None:
    try:
        transe_class()
    except MissingPackageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def families() -> FactTable:
    """Towns in four countries: everyone born in a town is of its country."""
    rng = random.Random(3)
    rows = set()
    for person in range(60):
        town = rng.randrange(8)
        rows |= {(f"p{person}", "born_in", f"t{town}"), (f"p{person}", "citizen_of", f"c{town // 2}")}
    return FactTable.from_triples(sorted(rows))


@pytest.mark.usefixtures("installed")
def test_true_facts_come_out_nearer_than_false_ones(families: FactTable) -> None:
    vectors = train_transe(Triples.of(families), SMALL)
    assert vectors.loss[-1] < 0.5 * vectors.loss[0]
    subject, relations, object_ = (
        torch.tensor(column).long() for column in (families.subject, families.relation, families.object)
    )
    head, relation = vectors.entity[subject], vectors.relation[relations]
    distance = torch.cdist(head + relation, vectors.entity)  # (facts, entities)
    own = distance.gather(1, object_.unsqueeze(1))
    rank = (distance < own).sum(dim=1).double()
    assert float(rank.mean()) < 0.1 * families.num_entities, "a random order would give a half"


@pytest.mark.usefixtures("installed")
def test_the_seed_decides(families: FactTable) -> None:
    settings = TransEConfig(features=8, epochs=2, batch_size=32)
    torch.manual_seed(1)
    first = train_transe(Triples.of(families), settings)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn), "random numbers of others are left alone"
    again = train_transe(Triples.of(families), settings)
    other = train_transe(Triples.of(families), TransEConfig(features=8, epochs=2, batch_size=32, seed=1))
    assert torch.equal(first.entity, again.entity)
    assert torch.equal(first.relation, again.relation)
    assert first.loss == again.loss
    assert not torch.allclose(first.entity, other.entity)
    assert torch.allclose(first.entity.norm(dim=1), torch.ones(families.num_entities))
    assert first.relation.shape == (2, 8)


def test_without_the_package_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, families: FactTable
) -> None:
    monkeypatch.setitem(sys.modules, "torch_geometric.nn", None)
    with pytest.raises(MissingPackageError, match=r'pip install "hmn\[paper\]"'):
        train_transe(Triples.of(families), SMALL)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="features of TransE is 0"):
        TransEConfig(features=0)
