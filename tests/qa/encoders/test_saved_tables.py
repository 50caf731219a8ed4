"""A network's tables are saved by the rows that training changed, and come back exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.qa.small import SIZES

from hmn.errors import ShapeError
from hmn.facts.table import FactTable
from hmn.nn.weights import weights_of
from hmn.qa.build import Network, build_network
from hmn.qa.cells import Cells
from hmn.qa.config import ModelConfig
from hmn.qa.encoders.saved_tables import packed_tables, unpacked_tables

TABLES = [
    "input_module.table.weight",
    "input_module.words.word",
    "input_module.words.ngram",
    "memory.encoder.word",
]
CONFIG = ModelConfig(**{**SIZES, "count_bits": 13})  # type: ignore[arg-type]


@pytest.fixture
def network(small_facts: FactTable) -> Network:
    torch.manual_seed(1)
    built = build_network(CONFIG, small_facts, Cells.of(small_facts))
    built.memory.encoder.count_names()  # type: ignore[attr-defined]
    return built


def empty(facts: FactTable, config: ModelConfig = CONFIG) -> Network:
    """A network without storage."""
    with torch.device("meta"):
        return build_network(config, facts, Cells.of(facts), fresh=False)


def test_only_what_training_touched_is_saved_and_all_comes_back(
    network: Network, small_facts: FactTable
) -> None:
    weights = weights_of(network)
    with torch.no_grad():
        weights[TABLES[0]][[5, 900]] += 1e-7
        weights[TABLES[3]][1023, 2] = 0.0
    packed = packed_tables(network, weights)
    assert [packed[name + "|rows"].tolist() for name in TABLES] == [[5, 900], [], [], [1023]]
    assert not any(name in packed for name in TABLES)
    unpacked = unpacked_tables(empty(small_facts), packed)
    assert unpacked.keys() == weights.keys()
    assert all(torch.equal(unpacked[name], value) for name, value in weights.items())


@pytest.mark.parametrize("kind", [torch.float16, torch.float32, torch.float64])
def test_half_precision_is_for_tables_alone_and_types_stay(
    kind: torch.dtype, network: Network, small_facts: FactTable
) -> None:
    weights = weights_of(network.to(kind))
    with torch.no_grad():
        weights[TABLES[0]][:7] *= 1.1
    packed = packed_tables(network, weights, half=True)
    assert packed[TABLES[0] + "|values"].dtype == (kind if kind == torch.float64 else torch.float16)
    assert all(packed[name].dtype == weights[name].dtype for name in packed.keys() & weights.keys())
    unpacked = unpacked_tables(empty(small_facts), packed)
    for name, value in weights.items():
        assert unpacked[name].dtype == value.dtype, name
        tolerance = 1e-3 if name == TABLES[0] else 0.0
        assert torch.allclose(unpacked[name], value, rtol=tolerance, atol=0), name


def test_weights_of_before_there_were_seeds_are_taken_as_they_are(
    network: Network, small_facts: FactTable
) -> None:
    old = {name: value for name, value in weights_of(network).items() if not name.endswith("seed")}
    unpacked = unpacked_tables(empty(small_facts), old)
    assert all(torch.equal(unpacked[name], value) for name, value in old.items())
    assert {int(unpacked[name]) for name in unpacked.keys() - old.keys()} == {0}


def test_rows_without_their_seed_and_of_another_size_are_refused(
    network: Network, small_facts: FactTable
) -> None:
    packed, seed = packed_tables(network, weights_of(network)), "input_module.table.seed"
    with pytest.raises(
        ShapeError, match=rf"{seed} is missing, which the rows of .*table\.weight follow from"
    ):
        unpacked_tables(empty(small_facts), {n: v for n, v in packed.items() if n != seed})
    with pytest.raises(ShapeError, match=rf"{seed} is \(2,\) of torch.int64, expected \(\)"):
        unpacked_tables(empty(small_facts), {**packed, seed: torch.zeros(2, dtype=torch.int64)})
    with pytest.raises(ShapeError, match=r"\|rows holds .* expected row numbers"):
        unpacked_tables(empty(small_facts, replace(CONFIG, table_bits=8, count_bits=10)), packed)
