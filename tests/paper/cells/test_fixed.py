from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.paper.made import FEATURES, PRESET, made_keys, vectors_of

import hmn.paper.cells.fixed as cells_module
from hmn.errors import ConfigError
from hmn.facts.table import FactTable
from hmn.paper.cells.fixed import at_size_one, cache_file, cached_vectors, one_per_fact
from hmn.paper.cells.transe import TransEConfig, TransEVectors, Triples
from hmn.paper.data import Data
from hmn.paper.grid import SUMMED


def test_three_vectors_lie_side_by_side_or_are_added(small_facts: FactTable) -> None:
    vectors, wide, summed = vectors_of(small_facts), made_keys(small_facts), made_keys(small_facts, SUMMED)
    assert wide.shape == (len(small_facts), 3 * FEATURES)
    assert summed.shape == (len(small_facts), FEATURES)
    for cell in (0, 17, len(small_facts) - 1):
        fact = small_facts.fact(cell)
        subject = vectors.entity[small_facts.entity_number(fact.subject)]
        relation = vectors.relation[small_facts.relations.index(fact.relation)]
        object_ = vectors.entity[small_facts.entity_number(fact.object)]
        assert torch.equal(wide[cell], torch.cat([subject, relation, object_]))
        assert torch.allclose(summed[cell], subject + relation + object_)


def test_a_cell_is_a_fact(small_facts: FactTable) -> None:
    cells = one_per_fact(small_facts)
    assert len(cells) == len(small_facts)
    for cell in (0, 5, len(small_facts) - 1):
        assert cells.facts.row(cell).tolist() == [cell] == cells.of_fact.row(cell).tolist()
        assert cells.subject[cell] == small_facts.subject[cell]


def test_vectors_are_trained_once_for_data_settings_and_seed(
    small_facts: FactTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def train(facts: Triples, config: TransEConfig, **_: object) -> TransEVectors:
        trained.append(config.seed)
        assert len(facts) == len(small_facts)
        return vectors_of(small_facts, config.seed)

    monkeypatch.setattr(cells_module, "train_transe", train)
    data = Data(small_facts, {})
    files = [
        cache_file(tmp_path, checksum, PRESET, seed) for checksum, seed in (("a", 0), ("a", 1), ("b", 0))
    ]
    other = replace(PRESET, transe=replace(PRESET.transe, epochs=7))
    assert (
        len({*files, cache_file(tmp_path, "a", other, 0), cache_file(tmp_path, "a", PRESET, 0, "cuda")}) == 5
    )
    first = cached_vectors(files[0], data, PRESET, 0)
    again = cached_vectors(files[0], data, PRESET, 0)
    cached_vectors(files[1], data, PRESET, 1)
    assert trained == [0, 1]
    assert torch.equal(first.entity, again.entity)
    assert torch.equal(first.entity, vectors_of(small_facts).entity)
    assert again.loss == [1.0, 0.5]
    with pytest.raises(ConfigError, match="another table"):
        cached_vectors(files[0], Data(FactTable.from_triples([("a", "r", "b")]), {}), PRESET, 0)


def test_vectors_are_trained_on_the_union_with_a_larger_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {("b", "r", "c"), ("c", "s", "b")}
    more = {("a", "r", "b"), ("b", "r", "c"), ("c", "q", "z")}
    facts = FactTable.from_triples(sorted(rows))
    larger = tmp_path / "larger.tsv"
    larger.write_text("".join("\t".join(row) + "\n" for row in sorted(more)))
    seen: list[Triples] = []

    def train(triples: Triples, config: TransEConfig, **_: object) -> TransEVectors:  # noqa: ARG001
        seen.append(triples)
        entity = torch.arange(triples.num_entities).float().unsqueeze(1)
        return TransEVectors(entity, torch.arange(triples.num_relations).float().unsqueeze(1), [1.0])

    monkeypatch.setattr(cells_module, "train_transe", train)
    found = cached_vectors(tmp_path / "v.safetensors", Data(facts, {}), PRESET, 0, more=str(larger))
    entities = [*facts.entities.to_pylist(), "a", "z"]
    relations = [*facts.relations, "q"]
    names = {
        (entities[s], relations[r], entities[o])
        for s, r, o in zip(seen[0].subject, seen[0].relation, seen[0].object, strict=True)
    }
    assert names == rows | more
    assert len(seen[0]) == 4, "a fact of both counts once"
    assert found.entity.squeeze(1).tolist() == [0.0, 1.0]
    assert found.relation.squeeze(1).tolist() == [0.0, 1.0]


def test_cells_are_brought_to_one_size() -> None:
    keys = torch.tensor([[3.0, 0.0], [0.0, -4.0], [0.0, 0.0]])
    brought = at_size_one(keys)
    assert float(brought.square().mean()) == pytest.approx(1.0)
    assert torch.allclose(brought * (25 / 6) ** 0.5, keys)
    assert torch.equal(at_size_one(torch.zeros(2, 3)), torch.zeros(2, 3))
