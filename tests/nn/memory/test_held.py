"""Keys and memories that are swapped, shared or loaded: the index follows, and no others are written to."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from hmn.errors import ConfigError, ShapeError
from hmn.index.registry import make_index
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.nn.network import MemoryNetwork
from hmn.nn.reader import KMIPSReader

pytestmark = pytest.mark.usefixtures("every_group_entered")

N, D, K = 240, 8, 5
STRUCTURES = {
    "exact": "exact",
    "cluster": "cluster:num_clusters=12,num_probes=12,rescore=240",
    "hierarchy": "hierarchy:num_groups=40,reach=999,rescore=240",
    "pca-tree": "pca-tree:leaf_size=20,num_leaves=64",
}
every_structure = pytest.mark.parametrize("name", STRUCTURES.values(), ids=STRUCTURES)


def rows(n: int = N, seed: int = 0, features: int = D) -> Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed))


def assert_finds_all(indexed: IndexedMemory[Any], features: int = D) -> None:
    keys, query = indexed.memory.snapshot(), rows(6, 1, features)
    score = (query.double() @ keys.double().T).topk(K, dim=1).values
    result = indexed.search(query, K)
    live = (keys.double()[result.cell] * query.double().unsqueeze(1)).sum(dim=2)
    torch.testing.assert_close(result.score.double(), score, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(live, score, rtol=2e-3, atol=2e-3)


def with_few_others(keys: Tensor) -> Tensor:
    other = keys.detach().clone()
    other[[3, 77, 200]] = 3 * rows(3, seed=2)
    return other


@every_structure
@pytest.mark.parametrize("trainable", [False, True])
def test_functional_call_with_a_few_other_keys_leaves_the_memory_alone(name: str, trainable: bool) -> None:
    attention = KMIPSAttention(Memory(rows(), trainable=trainable), K, name)
    attention.eval()
    assert_finds_all(attention.indexed)
    other = with_few_others(attention.memory.keys)
    given = other.clone()
    for _ in range(2):
        functional_call(attention, {"memory.key_table.weight": other}, (rows(6, seed=1),))
        assert torch.equal(attention.memory.keys, rows())
        assert_finds_all(attention.indexed)
        assert torch.equal(other, given)


@every_structure
def test_keys_that_were_assigned_leave_the_former_ones_alone(name: str) -> None:
    memory = Memory(rows(), trainable=True)
    indexed = IndexedMemory(memory, name)
    assert_finds_all(indexed)
    former = memory.keys.detach()
    memory.load_state_dict({"key_table.weight": with_few_others(former)}, assign=True)
    assert_finds_all(indexed)
    assert torch.equal(former, rows())


@every_structure
def test_a_built_index_of_nearly_the_same_keys_leaves_those_alone(name: str) -> None:
    keys, index = rows(), make_index(name)
    index.build(keys)
    assert_finds_all(IndexedMemory(Memory(with_few_others(keys)), index))
    assert torch.equal(keys, rows())


@every_structure
@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("cells", [None, torch.tensor([1])])
def test_refresh_after_loading_follows_all_cells(name: str, assign: bool, cells: Tensor | None) -> None:
    memory = Memory(rows(), trainable=True)
    indexed = IndexedMemory(memory, name)
    attention = KMIPSAttention(indexed, K)
    attention(rows(6, seed=1)).value.sum().backward()
    memory.load_state_dict({"key_table.weight": rows(seed=3)}, assign=assign)
    indexed.refresh(cells)
    assert_finds_all(indexed)


@every_structure
def test_refresh_where_nothing_was_read_compares_changed_keys(name: str) -> None:
    memory = Memory(rows(), trainable=True)
    indexed = IndexedMemory(memory, name)
    assert_finds_all(indexed)
    with torch.no_grad():
        memory.keys.copy_(rows(seed=3))
    indexed.refresh()
    assert_finds_all(indexed)


@every_structure
def test_two_layers_with_one_index_know_what_the_other_filed(name: str) -> None:
    memory, index = Memory(rows()), make_index(name)
    first, second = KMIPSAttention(memory, K, index), KMIPSAttention(memory, K, index)
    assert_finds_all(first.indexed)
    assert_finds_all(second.indexed)
    functional_call(first, {"memory.key_table.weight": rows(seed=3)}, (rows(2, seed=4),))
    assert_finds_all(second.indexed)
    assert_finds_all(first.indexed)


@every_structure
def test_zeros_of_another_width_are_followed(name: str) -> None:
    memory = Memory(torch.cat([rows(40), torch.zeros(N - 40, D)]))
    indexed = IndexedMemory(memory, name)
    assert_finds_all(indexed)
    memory.key_table.weight = torch.cat([rows(40, features=2 * D), torch.zeros(N - 40, 2 * D)])
    assert_finds_all(indexed, 2 * D)


def test_a_built_index_of_other_width_is_built_again() -> None:
    index = make_index(STRUCTURES["cluster"])
    index.build(rows(features=4))
    assert_finds_all(IndexedMemory(Memory(rows()), index))


@every_structure
def test_a_replaced_memory_is_the_one_that_is_read(name: str) -> None:
    attention = KMIPSAttention(Memory(rows()), K, name)
    assert_finds_all(attention.indexed)
    attention.memory = Memory(rows(300, seed=3))
    assert attention.indexed.memory is attention.memory
    assert_finds_all(attention.indexed)
    with pytest.raises(ConfigError, match=r"expected hmn\.Memory"):
        attention.memory = nn.Linear(2, 2)  # type: ignore[assignment]
    assert_finds_all(attention.indexed)


def test_an_index_is_free_once_it_was_replaced_or_refused() -> None:
    memory, index = Memory(rows()), make_index("cluster")
    index.build(rows(50))
    with pytest.raises(ShapeError, match="the index has 50 cells"):
        IndexedMemory(memory, index)
    indexed = IndexedMemory(Memory(rows(50)), index)
    indexed.index = make_index("exact")
    assert_finds_all(IndexedMemory(Memory(rows(50, seed=2)), index))
    assert len(memory) == N


def test_a_layer_that_is_gone_leaves_its_index_free() -> None:
    memory, index = Memory(rows()), make_index("cluster")
    IndexedMemory(memory, index).search(rows(2), K)
    gc.collect()
    indexed = IndexedMemory(Memory(rows(seed=3)), index)
    result = indexed.search(rows(2), K)
    assert len(indexed) == len(memory) == N and result.cell.shape == (2, K)


@every_structure
def test_what_was_indexed_in_inference_mode_is_followed_outside(name: str) -> None:
    memory = Memory(rows())
    indexed = IndexedMemory(memory, name)
    with torch.inference_mode():
        assert_finds_all(indexed)
        memory.keys[3] = 2.0
        assert_finds_all(indexed)
    memory.keys[5] = -2.0
    assert_finds_all(indexed)
    indexed.refresh(torch.tensor([5]))


class Encoder(nn.Module):
    num_cells = N

    def __init__(self) -> None:
        super().__init__()
        self.keys = rows()

    def forward(self, cells: Tensor) -> Tensor:
        return self.keys[cells]

    def all_keys(self) -> Any:
        yield self.keys[:100].clone()
        yield self.keys[100:].clone()


@every_structure
def test_a_memory_that_is_renewed_in_inference_mode_is_followed(name: str) -> None:
    encoder = Encoder()
    memory = EncodedMemory(encoder)
    with torch.inference_mode():
        memory.renew()
        indexed = IndexedMemory(memory, name)
        assert_finds_all(indexed)
        encoder.keys = rows(seed=3)
        memory.renew()
    assert_finds_all(indexed)
    memory.renew(torch.tensor([4]))


def test_keys_that_change_during_a_build_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    index = make_index(STRUCTURES["cluster"])
    memory = Memory(rows())
    indexed, build = IndexedMemory(memory, index), index.build

    def changed_meanwhile(keys: Tensor) -> None:
        build(keys)
        memory.keys.copy_(rows(seed=3))  # as another thread might

    monkeypatch.setattr(index, "build", changed_meanwhile)
    indexed.rebuild()
    monkeypatch.undo()
    assert_finds_all(indexed)


def test_all_layers_read_the_memory_that_replaces_theirs() -> None:
    indexed = IndexedMemory(Memory(rows()))
    first, second = KMIPSAttention(indexed, K), KMIPSAttention(indexed, 2)
    network = MemoryNetwork(nn.Identity(), indexed, KMIPSReader(indexed, K), lambda read: read)
    query = rows(6, seed=1)
    for replaced in (indexed, first, second, network):
        memory = Memory(rows(100, seed=4), trainable=True)
        replaced.memory = memory
        for layer in (first, second, network):
            assert layer.memory is memory and memory.keys is next(layer.parameters())
        wanted = (query @ memory.keys.T).topk(2, dim=1)
        for read in (first(query), second(query), network(query, K)):
            assert torch.equal(read.cell[:, :2], wanted.indices)
            torch.testing.assert_close(read.score[:, :2], wanted.values)
    twin_first, twin_second = copy.deepcopy((first, second))
    twin_first.memory = Memory(rows(50, seed=5))
    assert twin_second.memory is twin_first.memory and len(first.memory) == len(second.memory) == 100


def test_a_replica_of_data_parallel_leaves_the_layer_alone() -> None:
    """What ``torch.nn.parallel.replicate`` does for each device, on one."""
    layer = KMIPSAttention(Memory(rows(), trainable=True), K)
    query = rows(6, seed=1)
    wanted, memory = layer(query), layer.memory
    replica, inner = layer._replicate_for_data_parallel(), memory._replicate_for_data_parallel()
    table = memory.key_table._replicate_for_data_parallel()
    table.weight = memory.keys * 1.0
    inner.key_table = table
    replica.memory = inner
    read = replica(query)
    assert torch.equal(read.cell, wanted.cell) and layer.memory is layer.indexed.memory is memory
    read.value.sum().backward()
    assert memory.keys.grad is not None
