"""Copies of layers, by pickle, deepcopy, files and other processes, read the same and stand alone."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from hmn.nn.attention.hard import HardAttention
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.attention.softmax import SoftmaxAttention
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.nn.network import MemoryNetwork
from hmn.nn.reader import KMIPSReader

pytestmark = pytest.mark.usefixtures("every_group_entered")

N, D, B = 300, 8, 6
INDEXES = [
    "exact",
    "cluster:num_clusters=12,num_probes=12,rescore=300",
    "hierarchy:num_groups=40,reach=999,rescore=300",
    "pca-tree:leaf_size=20,num_leaves=64",
    "wta-hash:num_tables=2,num_permutations=2,prefix=1",
]


def rows(n: int = N, seed: int = 0) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def saved(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "deepcopy": copy.deepcopy,
    "torch.save": saved,
}
every_way = pytest.mark.parametrize("way", WAYS)


def same(first: Any, second: Any, query: Tensor) -> bool:
    pairs = zip(first(query), second(query), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@every_way
@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("searched", [False, True])
def test_a_copy_reads_the_same_and_goes_its_own_way(index: str, searched: bool, way: str) -> None:
    torch.manual_seed(0)
    layer = KMIPSAttention(Memory(rows().clone(), rows(seed=2), trainable=True), 5, index).eval()
    query = rows(B, 1)
    wanted = layer(query) if searched else None
    other = WAYS[way](layer)
    builds = []
    build = other.index.build
    other.index.build = lambda *given: (builds.append(1), build(*given))
    assert same(layer, other, query)
    assert wanted is None or torch.equal(layer(query).cell, wanted.cell)
    assert len(builds) == (0 if searched else 1), "an index that was built is copied"
    assert other.memory is other.indexed.memory is not layer.memory
    optimiser = torch.optim.SparseAdam(other.parameters(), lr=1.0)
    other.follow(optimiser)
    other.train()(query).value.sum().backward()
    optimiser.step()
    other.eval()(query)
    assert torch.equal(layer.memory.keys, rows()) and not torch.equal(other.memory.keys, rows())
    fresh = KMIPSAttention(Memory(other.memory.keys.detach().clone()), 5).eval()
    torch.testing.assert_close(other(query).score, fresh(query).score)
    other.memory = Memory(rows(50, 5))
    assert int(other(query).cell.max()) < 50 and same(layer, layer, query)


@every_way
@pytest.mark.parametrize("trainable", [False, True])
def test_keys_are_copied_once(trainable: bool, way: str) -> None:
    layer = KMIPSAttention(Memory(rows(2000).clone(), trainable=trainable), 5, "cluster:num_clusters=12")
    layer(rows(B, 1))
    other = WAYS[way](layer)
    assert other.index.state_dict()["rows.keys"].data_ptr() == other.memory.keys.data_ptr()


@every_way
def test_networks_softmax_and_hard_attention_are_copied(way: str) -> None:
    indexed = IndexedMemory(Memory(rows()), "cluster:num_clusters=12")
    network = MemoryNetwork(nn.Linear(D, D), indexed, KMIPSReader(indexed, 5), nn.Identity())
    query = rows(B, 1)
    network(query, 5)
    other = WAYS[way](network)
    assert torch.equal(network(query, 5).cell, other(query, 5).cell)
    assert other.reader.indexed is other.indexed and other.memory is other.indexed.memory
    for layer in (SoftmaxAttention(Memory(rows())), HardAttention(Memory(rows())).eval()):
        assert same(layer, WAYS[way](layer), query)


@every_way
def test_layers_that_share_an_index_still_do(way: str) -> None:
    indexed = IndexedMemory(Memory(rows()), "cluster:num_clusters=12", refiled=3)
    pair = nn.ModuleList([KMIPSAttention(indexed, 5), KMIPSAttention(indexed, 2)])
    query = rows(B, 1)
    pair[0](query)
    first, second = WAYS[way](pair)
    assert first.indexed is second.indexed and first.memory is second.memory
    assert same(pair[0], first, query) and same(pair[1], second, query)


def in_another_process(layer: KMIPSAttention, query: Tensor, answers: Any) -> None:
    answers.put(layer(query).cell.tolist())


@pytest.mark.slow
def test_a_layer_is_sent_to_a_spawned_process() -> None:
    context = torch.multiprocessing.get_context("spawn")
    layer, query = KMIPSAttention(Memory(rows()), 5, "cluster:num_clusters=12").eval(), rows(B, 1)
    wanted, answers = layer(query), context.Queue()
    process = context.Process(target=in_another_process, args=(layer, query, answers))
    process.start()
    assert answers.get(timeout=120) == wanted.cell.tolist()
    process.join(timeout=60)
    assert process.exitcode == 0


def test_functional_call_on_a_copy_reads_the_weights_that_are_given() -> None:
    layer = KMIPSAttention(Memory(rows(), trainable=True), 5, "cluster:num_clusters=12,num_probes=12")
    layer(rows(B, 1))
    other = pickle.loads(pickle.dumps(layer))
    keys, query = rows(seed=7), rows(B, 1)
    read = functional_call(other, {"memory.key_table.weight": keys}, (query,))
    torch.testing.assert_close(read.score, (query @ keys.T).gather(1, read.cell))
    assert torch.equal(other.memory.keys, rows())


def test_threads_share_a_layer() -> None:
    layer, query = KMIPSAttention(Memory(rows()), 5, "cluster:num_clusters=12").eval(), rows(B, 1)
    wanted, got = copy.deepcopy(layer)(query).cell, []
    threads = [threading.Thread(target=lambda: got.append(layer(query).cell)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8 and all(torch.equal(cell, wanted) for cell in got)
