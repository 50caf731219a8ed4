"""Networks, readers and draws on 2 and 4 ranks give what one process gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.distributed.networks import (
    OF_CLUSTERS,
    STRATEGIES,
    attention_trained,
    hops_trained,
    network_trained,
    of_encoder,
    of_facts,
    stored,
    written,
)
from tests.distributed.processes import (
    QUERIES,
    STEPS,
    D,
    K,
    gloo,
    joined,
    near,
    queries,
    tensors,
)
from tests.distributed.test_layers import all_near
from torch import Tensor

from hmn.index.structures.exact import ExactIndex
from hmn.nn import Strategy
from hmn.nn.candidates import draw

pytestmark = [pytest.mark.slow, gloo]

Got = list[dict[str, Any]]
CASES = {
    **{f"stored {name}": (203, name) for name in STRATEGIES},
    **{f"encoded {name}": (203, name) for name in STRATEGIES},
    "few best": (2, "best"),
    "facts block": (203, "block"),
}


@pytest.fixture
def networks(got: Got) -> Got:
    return [part["networks"] for part in got]


@pytest.mark.parametrize("case", CASES)
def test_a_network_is_trained_by_the_candidates_of_all_ranks(networks: Got, case: str) -> None:
    cells, strategy = CASES[case]
    is_stored = case.startswith("stored")
    make = stored if is_stored else of_facts if case.startswith("facts") else of_encoder
    memory = make(0, None, [cells])
    wanted = network_trained(0, 1, None, memory, STRATEGIES[strategy])
    for step in range(STEPS):
        loss = sum(part[case]["loss"][step] for part in networks)
        near(torch.tensor(loss), torch.tensor(wanted["loss"][step]))
        for part in networks:
            assert torch.equal(part[case]["cell"][step], wanted["cell"][step])
            assert torch.equal(part[case]["probability"][step], wanted["probability"][step])
    all_near([part[case]["gradients"] for part in networks], wanted["gradients"])
    if is_stored:
        near(joined(networks, case, "keys.grad"), wanted["keys.grad"])
        assert bool((wanted["keys.grad"] != 0).any())
    for reader in ("read", "softmax"):
        assert torch.equal(joined(networks, case, reader, "cell"), wanted[reader]["cell"])
        for name in ("weight", "score"):
            near(joined(networks, case, reader, name), wanted[reader][name])
        if is_stored:
            near(joined(networks, case, reader, "value"), wanted[reader]["value"])
        else:
            assert all(part[case][reader]["value"] is None for part in networks)


def test_drawn_cells_are_fewer_than_all_and_not_all_certain(networks: Got) -> None:
    for part in networks:
        found = part["stored block"]
        assert all(sum(QUERIES) < len(cell) < 203 for cell in found["cell"])
        assert all(0 < float(each.min()) < 0.1 and float(each.max()) == 1 for each in found["probability"])


def test_a_layer_reads_the_candidates_of_all_ranks(networks: Got) -> None:
    wanted = attention_trained(0, 1, stored(0, None, [203]))
    for name in ("value", "query.grad", "keys.grad", "values.grad"):
        near(joined(networks, "attention", name), wanted[name])
    assert torch.equal(joined(networks, "attention", "cell"), wanted["cell"])


def test_hops_are_trained_as_in_one_process(networks: Got) -> None:
    wanted = hops_trained(0, 1, None, stored(0, None, [203]))
    for name in ("value", "reads", "keys.grad"):
        near(joined(networks, "hops", name), wanted[name])
    all_near([part["hops"]["gradients"] for part in networks], wanted["gradients"])


def test_memories_that_are_written_are_those_of_each_ranks_sequences(networks: Got) -> None:
    all_near([part["written"] for part in networks], written(0, 1, None, [8]))


class Whole(ExactIndex):
    """Exact search over all cells, which are filed in the clusters that the ranks share."""

    def __init__(self, keys: Tensor, clusters: dict[str, Tensor]) -> None:
        super().__init__(keys)
        self.directions = clusters["directions"]
        self.nearest = (keys.double() @ clusters["centroid"].double().T).argmax(dim=1)

    def centroids(self) -> Tensor:
        return self.directions

    def cells_in(self, clusters: Tensor) -> tuple[Tensor, Tensor]:
        lists = [(self.nearest == number).nonzero().flatten() for number in clusters.tolist()]
        empty = torch.empty(0, dtype=torch.int64)
        return torch.cat([*lists, empty]), torch.tensor([len(each) for each in lists], dtype=torch.int64)


@pytest.mark.parametrize("number", range(len(OF_CLUSTERS)))
def test_clusters_are_drawn_as_from_one_index_of_all_cells(
    networks: Got, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, text = tensors(), OF_CLUSTERS[number]
    index, generator = (
        Whole(data.keys, networks[0]["clusters"]["made"]),
        torch.Generator().manual_seed(number),
    )
    if "rand-block" in text:  # the block is drawn first
        block = draw.drawn_block(203, 40, generator)
        monkeypatch.setattr(draw, "drawn_block", lambda *_: block)
    generator.manual_seed(int(torch.randint(1 << 62, (1,), generator=generator)))
    ranks, strategy = range(len(networks)), Strategy.parse(text, K)
    query, target = (
        torch.cat([queries(part, len(ranks), rank)[:1] for rank in ranks])
        for part in (data.query, data.target)
    )
    wanted = draw.candidates(strategy, index, query, target[target >= 0], generator=generator)
    for part in networks:
        assert torch.equal(part["clusters"][text]["cell"], wanted.cell)
        near(part["clusters"][text]["probability"], wanted.probability)
    certain = "sample" not in text or text == "sample-k:40"
    assert certain == bool((wanted.probability == 1).all())
    assert len(wanted.cell) < 203 or text == "sample-k:40"


@pytest.mark.parametrize("num_cells", [203, 2030])
def test_bytes_of_candidates_do_not_depend_on_the_number_of_cells(networks: Got, num_cells: int) -> None:
    others, exchanges, header = len(networks) - 1, 5, 16
    for part in networks:
        sent = part["bytes"][num_cells]
        search = 4 * D * sent["queries"] * others + 4 * (2 * K + 2) * (sum(QUERIES) - sent["queries"])
        numbers = 8 * sent["own"] * others
        keys = 4 * (sent["cells"] - sent["held"]) + 4 * D * sent["held"] * others
        assert sent["sent"] == search + numbers + keys + exchanges * header * others
        assert sum(QUERIES) < sent["cells"] < 203


def test_what_needs_all_cells_in_one_place_says_so(networks: Got) -> None:
    expected = {
        "softmax reader": "ConfigError: the candidates of a SoftmaxReader are all cells",
        "softmax": "ConfigError: memory is ShardedMemory, whose cells lie on several ranks",
        "hard": "ConfigError: memory is ShardedMemory, whose cells lie on several ranks",
        "cells": "ConfigError: memory is ShardedCells, whose cells lie on several ranks",
        "written": "ConfigError: memory is WrittenMemory, expected hmn.Memory",
        "ring": "ConfigError: memory is RingMemory, whose cells grow in number",
        "no clusters": "ConfigError: strategy top-k:1 needs an index of clusters, got ExactIndex",
    }
    for part in networks:
        for name, error in expected.items():
            assert part["errors"][name].startswith(error)


def test_queries_are_shared_out_unevenly() -> None:
    assert [len(queries(torch.zeros(sum(QUERIES)), 4, rank)) for rank in range(4)] == list(QUERIES)
