"""An index follows its memory: whatever changes the keys, the next search finds what exact search finds."""

from __future__ import annotations

import copy
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from hmn.errors import CellError, ConfigError, NonFiniteError, ShapeError
from hmn.index.registry import make_index
from hmn.index.structures.cluster import ClusterIndex
from hmn.index.structures.exact import ExactIndex
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory

pytestmark = pytest.mark.usefixtures("every_group_entered")

N, D, K = 240, 8, 5
FLUSHED_EXIT = "import sys; sys.stdout.flush(); os._exit(0)"  # taking the group down may hang
STRUCTURES = {
    "exact": "exact",
    "exact in float16": "exact:storage=float16",
    "cluster": "cluster:num_clusters=12,num_probes=12,rescore=240",
    "hierarchy": "hierarchy:num_groups=40,reach=999,rescore=240",
    "pca-tree": "pca-tree:leaf_size=20,num_leaves=64",
}
every_structure = pytest.mark.parametrize("name", STRUCTURES.values(), ids=STRUCTURES)


def rows(n: int = N, seed: int = 0) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def assert_finds_all(indexed: IndexedMemory[Memory], query: Tensor) -> None:
    """The search looks everywhere, so it must find the best cells of the keys as they are now."""
    keys = indexed.memory.keys.detach()
    score = (query @ keys.T).topk(K, dim=1).values
    result = indexed.search(query, K)
    live = (query @ keys.T).gather(1, result.cell)
    torch.testing.assert_close(live.sort(dim=1, descending=True).values, score, rtol=2e-3, atol=2e-3)


class Counting(ClusterIndex):
    """Clusters that count how often they are built, and which cells are filed again."""

    def __init__(self) -> None:
        super().__init__(12, 12, rescore=N)
        self.builds = 0
        self.filed: list[list[int]] = []

    def build(self, keys: Tensor, cells: Tensor | None = None) -> None:
        self.builds += 1
        super().build(keys, cells)

    def update(self, cells: Tensor, keys: Tensor) -> None:
        self.filed.append(sorted(cells.tolist()))
        super().update(cells, keys)


def counted(trainable: bool = False) -> tuple[IndexedMemory[Memory], Counting, Tensor]:
    index = Counting()
    indexed = IndexedMemory(Memory(rows(), trainable=trainable), index)
    query = rows(6, seed=1)
    indexed.search(query, K)
    assert index.builds == 1
    return indexed, index, query


def in_place(memory: Memory) -> None:
    with torch.no_grad():
        memory.keys[[3, 200]] = 9.0 * rows(2, seed=2)


def all_in_place(memory: Memory) -> None:
    with torch.no_grad():
        memory.keys.mul_(-1.0)


def loaded(memory: Memory) -> None:
    memory.load_state_dict({"key_table.weight": rows(seed=3)})


def assigned(memory: Memory) -> None:
    memory.load_state_dict({"key_table.weight": rows(seed=4)}, assign=True)


def replaced(memory: Memory) -> None:
    memory.key_table.weight = torch.nn.Parameter(rows(seed=5))


def converted(memory: Memory) -> None:
    memory.to(torch.bfloat16).to(torch.float32)


CHANGES: list[Callable[[Memory], None]] = [in_place, all_in_place, loaded, assigned, replaced, converted]


@every_structure
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changed_keys_are_noticed(name: str, change: Callable[[Memory], None]) -> None:
    indexed = IndexedMemory(Memory(rows(), trainable=True), name)
    query = rows(6, seed=1)
    assert_finds_all(indexed, query)
    change(indexed.memory)
    assert_finds_all(indexed, query)


def test_only_the_cells_that_changed_are_filed_again() -> None:
    indexed, index, query = counted()
    in_place(indexed.memory)
    assert_finds_all(indexed, query)
    assert (index.builds, index.filed) == (1, [[3, 200]])
    indexed.search(query, K)
    assert (index.builds, index.filed) == (1, [[3, 200]])


def test_the_index_is_rebuilt_where_most_cells_changed() -> None:
    indexed, index, query = counted()
    all_in_place(indexed.memory)
    assert_finds_all(indexed, query)
    assert (index.builds, index.filed) == (2, [])


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_half_of_the_cells_decides_between_filing_and_a_rebuild(share: float) -> None:
    indexed, index, query = counted()
    cells = torch.randperm(N, generator=torch.Generator().manual_seed(0))[: int(share * N)]
    with torch.no_grad():
        indexed.memory.keys[cells] = rows(len(cells), seed=7)
    assert_finds_all(indexed, query)
    assert (index.builds, len(index.filed)) == ((1, 1) if share < 0.5 else (2, 0))


@pytest.mark.parametrize("copied", [False, True], ids=["aliases", "copies"])
def test_functional_call_rebuilds_nothing(copied: bool) -> None:
    attention = KMIPSAttention(Memory(rows(), trainable=True), K, Counting())
    index: Any = attention.index
    query = rows(6, seed=1)
    wanted = attention(query)
    for _ in range(3):
        weights = {name: value.detach() for name, value in attention.named_parameters()}
        if copied:
            weights = {name: value.clone() for name, value in weights.items()}
        torch.testing.assert_close(functional_call(attention, weights, (query,)), wanted)
    assert (index.builds, index.filed) == (1, [])
    torch.testing.assert_close(attention(query), wanted)
    assert (index.builds, index.filed) == (1, [])


def test_functional_call_with_other_keys_searches_those() -> None:
    attention = KMIPSAttention(Memory(rows(), trainable=True), K, "cluster:num_clusters=12,num_probes=12")
    query = rows(6, seed=1)
    plain = attention(query).cell
    other = {"memory.key_table.weight": rows(seed=8)}
    assert torch.equal(
        functional_call(attention, other, (query,)).cell, (query @ rows(seed=8).T).topk(K).indices
    )
    assert torch.equal(attention(query).cell, plain)


def test_a_storage_that_takes_the_place_of_a_freed_one_is_another() -> None:
    indexed, index, query = counted()
    for seed in range(20, 40):
        indexed.memory.key_table.weight = rows(seed=seed)
        gc.collect()
        assert_finds_all(indexed, query)
    assert index.builds == 21


def test_keys_made_in_inference_mode_are_searched() -> None:
    with torch.inference_mode():
        memory = Memory(rows())
    indexed = IndexedMemory(memory, "cluster:num_clusters=12,num_probes=12")
    assert_finds_all(indexed, rows(6, seed=1))
    with torch.inference_mode():
        assert_finds_all(indexed, rows(6, seed=2))


def test_training_steps_with_refresh_compare_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    indexed, index, query = counted(trainable=True)
    attention = KMIPSAttention(indexed, K)
    adam = torch.optim.SparseAdam(indexed.memory.parameters(), lr=0.1)
    monkeypatch.setattr(indexed, "_compare", lambda: pytest.fail("all keys were compared"))
    for _ in range(3):
        adam.zero_grad()
        read = attention(query)
        read.value.pow(2).sum().backward()
        adam.step()
        attention.refresh()
        assert index.filed[-1] == sorted(set(read.cell.flatten().tolist()))
    assert_finds_all(indexed, query)
    assert index.builds == 1


def test_a_forgotten_refresh_is_made_up_for() -> None:
    indexed, index, query = counted(trainable=True)
    attention = KMIPSAttention(indexed, K)
    adam = torch.optim.SparseAdam(indexed.memory.parameters(), lr=2.0)
    for _ in range(3):
        adam.zero_grad()
        attention(query).value.pow(2).sum().backward()
        adam.step()
    assert_finds_all(indexed, query)
    assert index.builds == 1 and len(index.filed) == 3


def test_two_layers_share_a_memory_with_its_index() -> None:
    indexed, index, query = counted(trainable=True)
    first, second = KMIPSAttention(indexed, K), KMIPSAttention(indexed, 2)
    assert first.index is second.index is index
    sgd = torch.optim.SGD(indexed.memory.parameters(), lr=0.1)
    cells = set(first(query).cell.flatten().tolist()) | set(second(-query).cell.flatten().tolist())
    (first(query).value.sum() + second(-query).value.sum()).backward()
    sgd.step()
    first.refresh()
    assert index.filed == [sorted(cells)] and index.builds == 1


def test_settings_that_the_shared_memory_has_already_are_refused() -> None:
    indexed, _, _ = counted()
    with pytest.raises(ConfigError, match="index is given twice"):
        KMIPSAttention(indexed, K, "exact")
    with pytest.raises(ConfigError, match="refiled is given twice"):
        KMIPSAttention(indexed, K, refiled=3)


def test_the_class_of_an_index_is_refused() -> None:
    with pytest.raises(ConfigError, match="index is the class ExactIndex, expected a search structure"):
        IndexedMemory(Memory(torch.eye(3)), ExactIndex)  # type: ignore[arg-type]


@every_structure
def test_an_index_that_serves_another_memory_is_refused(name: str) -> None:
    index = make_index(name)
    first = IndexedMemory(Memory(rows()), index)
    first.search(rows(2, seed=1), K)
    with pytest.raises(ConfigError, match="already serves another memory: make an index of its own"):
        IndexedMemory(Memory(rows(seed=1)), index)
    with pytest.raises(ConfigError, match="already serves another memory"):
        KMIPSAttention(Memory(rows(seed=1)), K, index)
    assert_finds_all(IndexedMemory(first.memory, index), rows(2, seed=1))  # the same memory may have it


def test_an_index_is_free_once_its_memory_is_gone() -> None:
    index = make_index("cluster")
    IndexedMemory(Memory(rows()), index).search(rows(2, seed=1), K)
    gc.collect()
    assert_finds_all(IndexedMemory(Memory(rows(seed=2)), index), rows(2, seed=1))


@every_structure
def test_an_index_built_on_other_keys_is_mended(name: str) -> None:
    index = make_index(name)
    index.build(rows(seed=9))
    assert_finds_all(IndexedMemory(Memory(rows()), index), rows(6, seed=1))


def test_an_index_built_on_these_keys_is_searched_as_it_is() -> None:
    index, keys = Counting(), rows()
    index.build(keys)
    indexed = IndexedMemory(Memory(keys.clone()), index)
    assert_finds_all(indexed, rows(6, seed=1))
    assert (index.builds, index.filed) == (1, [])


def test_an_index_built_in_another_order_is_searched_as_it_is() -> None:
    index, keys = Counting(), rows()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    index.build(keys[order], order)
    assert_finds_all(IndexedMemory(Memory(keys), index), rows(6, seed=1))
    assert (index.builds, index.filed) == (1, [])
    exact = ExactIndex()
    exact.build(keys[order], order)
    assert_finds_all(IndexedMemory(Memory(keys[order]), exact), rows(6, seed=1))


def test_an_index_with_ids_of_its_own_is_refused() -> None:
    index = make_index("cluster")
    index.build(rows(), torch.arange(N) + 7)
    with pytest.raises(ShapeError, match="the index has cells of its own numbering"):
        IndexedMemory(Memory(rows()), index).search(rows(1), K)


def test_another_index_may_take_over() -> None:
    indexed, first, query = counted()
    indexed.index = make_index("hierarchy:num_groups=40,reach=999,rescore=240")
    assert_finds_all(indexed, query)
    with pytest.raises(ShapeError, match="the index has 7 cells but the memory has 240"):
        indexed.index = ExactIndex(rows(7))
    assert_finds_all(indexed, query)
    assert first.builds == 1


@every_structure
def test_a_saved_index_is_taken_back_and_refused_beside_other_keys(name: str) -> None:
    first = IndexedMemory(Memory(rows()), name)
    query = rows(6, seed=1)
    wanted = first.search(query, K)
    state = {name: value.clone() for name, value in first.index.state_dict(with_keys=False).items()}
    again = IndexedMemory(Memory(rows()), name)
    again.load_index(state)
    torch.testing.assert_close(again.search(query, K), wanted)
    other = IndexedMemory(Memory(rows(seed=6)), name)
    with pytest.raises(ShapeError, match="checksum"):
        other.load_index(state)
    assert_finds_all(other, query)
    fewer = IndexedMemory(Memory(rows()[:50]), name)
    with pytest.raises(ShapeError, match="the index has 240 cells but the memory has 50"):
        fewer.load_index(state)
    assert_finds_all(fewer, query)


@every_structure
def test_a_copy_has_an_index_of_its_own(name: str) -> None:
    attention = KMIPSAttention(Memory(rows(), trainable=True), K, name)
    query = rows(6, seed=1)
    wanted = attention(query)
    copied = copy.deepcopy(attention)
    assert copied.indexed.memory is copied.memory and copied.index is not attention.index
    with torch.no_grad():
        copied.memory.keys[7] = 100 * query[0]
    assert int(copied(query).cell[0, 0]) == 7
    torch.testing.assert_close(attention(query), wanted)


def test_a_copy_rebuilds_nothing() -> None:
    indexed, _, query = counted()
    copied = copy.deepcopy(indexed)
    index: Any = copied.index
    assert_finds_all(copied, query)
    assert (index.builds, index.filed) == (1, [])


@every_structure
def test_refresh_refuses_what_it_cannot_file(name: str) -> None:
    indexed = IndexedMemory(Memory(rows()), name)
    query = rows(6, seed=1)
    indexed.search(query, K)
    with pytest.raises(CellError, match="there is no cell 240, expected ids below 240"):
        indexed.refresh(torch.tensor([3, N]))
    with pytest.raises(CellError, match="there is no cell -1"):
        indexed.refresh(torch.tensor([-1]))
    with torch.no_grad():
        indexed.memory.keys[3] = torch.nan
    with pytest.raises(NonFiniteError, match="NaN"):
        indexed.refresh(torch.tensor([3]))


SHARDED = """
import os
import torch
from torch.distributed.fsdp import fully_shard
from hmn import ClusterIndex, KMIPSAttention, Memory

class Counting(ClusterIndex):
    builds, filed = 0, 0
    def build(self, keys, cells=None):
        self.builds += 1
        super().build(keys, cells)
    def update(self, cells, keys):
        self.filed += 1
        super().update(cells, keys)

torch.distributed.init_process_group("gloo", init_method="file://MEET", rank=0, world_size=1)
torch.manual_seed(0)
attention = KMIPSAttention(Memory(torch.randn(200, 8), trainable=True, sparse=False), 4, Counting(10, 10))
model = torch.nn.Sequential(torch.nn.Linear(8, 8), attention)
fully_shard(model, mesh=torch.distributed.device_mesh.init_device_mesh("cpu", (1,)))
sgd = torch.optim.SGD(model.parameters(), lr=5.0)
query = torch.randn(6, 8)
for step in range(3):
    model(query)
    model(query).value.pow(2).sum().backward()
    sgd.step()
    attention.refresh()
    sgd.zero_grad()
cell = model.eval()(query).cell
weights = [w.full_tensor() if hasattr(w, "full_tensor") else w for w in model.parameters()]
linear, bias, keys = (weight.detach() for weight in weights)
best = ((query @ linear.T + bias) @ keys.T).topk(4).indices
print(attention.index.builds, attention.index.filed, torch.equal(cell.sort().values, best.sort().values))
os._exit(0)
"""


def test_under_fsdp2_nothing_is_rebuilt_and_every_step_is_followed(tmp_path: Path) -> None:
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED.replace("MEET", str(tmp_path / "meet")).replace("os._exit(0)", FLUSHED_EXIT))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split() == ["1", "3", "True"], done.stderr


def test_an_empty_memory_is_searched() -> None:
    indexed = IndexedMemory(Memory(rows(0)), "cluster")
    for _ in range(2):
        assert bool((indexed.search(rows(2, seed=1), K).cell == -1).all())
