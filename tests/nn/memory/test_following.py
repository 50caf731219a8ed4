"""An index that follows an optimiser needs no refresh: it finds what exact search finds."""

from __future__ import annotations

import copy
import gc
import warnings
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hmn.errors import ConfigError
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.memory import indexed as indexed_module
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.moves import TURNS
from hmn.nn.memory.stored import Memory
from hmn.nn.row_adam import RowAdam

N, D, K, B = 400, 8, 5, 6
INDEX = "cluster:num_clusters=12,num_probes=12,rescore=400"
OPTIMISERS = {
    "sparse adam": (True, lambda weights: torch.optim.SparseAdam(weights, lr=0.5)),
    "row adam": (True, lambda weights: RowAdam(weights, lr=0.5)),
    "sparse sgd": (True, lambda weights: torch.optim.SGD(weights, lr=5.0)),
    "sparse adagrad": (True, lambda weights: torch.optim.Adagrad(weights, lr=0.5)),
    "adam": (False, lambda weights: torch.optim.Adam(weights, lr=0.2)),
    "adamw": (False, lambda weights: torch.optim.AdamW(weights, lr=0.2, weight_decay=0.3)),
    "sgd with momentum": (False, lambda weights: torch.optim.SGD(weights, lr=1.0, momentum=0.9)),
    "rmsprop": (False, lambda weights: torch.optim.RMSprop(weights, lr=0.1, momentum=0.5)),
}


def rows(n: int = N, seed: int = 0) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def layer_of(sparse: bool = True, **more: Any) -> KMIPSAttention:
    return KMIPSAttention(Memory(rows(), trainable=True, sparse=sparse), K, INDEX, **more)


def assert_index_holds_the_keys(layer: KMIPSAttention) -> None:
    """The codes of a cluster index miss cells of other keys: so this fails where cells were not filed."""
    keys, query = layer.memory.keys.detach(), rows(40, seed=9)
    wanted = (query @ keys.T).topk(K, dim=1).indices
    found = layer.index.search(query, K).cell
    assert float((found.unsqueeze(2) == wanted.unsqueeze(1)).any(dim=1).float().mean()) > 0.97
    state = layer.index.state_dict()
    again = KMIPSAttention(Memory(keys.clone()), K, INDEX)
    again.load_index(state)
    nearest = layer.index.centroids() @ keys.T
    assert float((state["cluster"] == nearest.argmax(dim=0)).float().mean()) > 0.9


class Recorded:
    """Notes the cells that an index is given to file."""

    def __init__(self, layer: KMIPSAttention, monkeypatch: pytest.MonkeyPatch) -> None:
        self.filed: list[list[int]] = []
        self.builds = 0
        update, build = layer.index.update, layer.index.build

        def recorded(cells: Tensor, keys: Tensor) -> None:
            self.filed.append(sorted(cells.tolist()))
            update(cells, keys)

        def counted(keys: Tensor, cells: Tensor | None = None) -> None:
            self.builds += 1
            build(keys, cells)

        monkeypatch.setattr(layer.index, "update", recorded)
        monkeypatch.setattr(layer.index, "build", counted)


def step_of(layer: nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> Any:
    optimiser.zero_grad()
    read = layer(rows(B, seed))
    read.value.square().sum().backward()
    optimiser.step()
    return read


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("name", OPTIMISERS)
def test_after_training_the_index_holds_the_keys(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse, make = OPTIMISERS[name]
    layer = layer_of(sparse)
    optimiser = make(layer.parameters())
    layer.follow(optimiser)
    layer(rows(B))
    recorded = Recorded(layer, monkeypatch)
    for seed in range(12):
        before = layer.memory.keys.detach().clone()
        read = step_of(layer, optimiser, seed)
        moved = (layer.memory.keys.detach() != before).any(dim=1).nonzero().squeeze(1)
        assert set(read.cell.flatten().tolist()) <= set(recorded.filed[-1])
        if sparse:
            assert set(moved.tolist()) <= set(recorded.filed[-1]) == set(read.cell.flatten().tolist())
        else:
            assert len(recorded.filed[-1]) <= B * K + -(-N // TURNS)
    assert recorded.builds == 0
    layer.eval()
    layer(rows(B))
    assert recorded.builds == 0
    assert_index_holds_the_keys(layer)
    monkeypatch.setattr(indexed_module, "row_fingerprints", None)  # what was filed is not compared again
    layer(rows(B))


def test_dense_steps_give_every_cell_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(sparse=False)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.01, weight_decay=0.5)
    layer.follow(optimiser)
    layer(rows(B))
    recorded = Recorded(layer, monkeypatch)
    for _ in range(TURNS):
        step_of(layer, optimiser, 1)
    assert {cell for filed in recorded.filed for cell in filed} == set(range(N))
    assert recorded.builds == 0


def test_cells_beyond_the_limit_are_filed_before_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(refiled=2)
    optimiser = torch.optim.SparseAdam(layer.parameters(), lr=0.5)
    layer.follow(optimiser)
    layer(rows(B))
    recorded = Recorded(layer, monkeypatch)
    moved: set[int] = set()
    for seed in range(5):
        moved |= set(step_of(layer, optimiser, seed).cell.flatten().tolist())
    assert recorded.filed == []
    layer.eval()
    layer(rows(B))
    assert recorded.filed == [sorted(moved)]


def test_a_step_that_a_scaler_skips_files_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(sparse=False)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer.follow(optimiser)
    scaler = torch.amp.GradScaler("cpu")
    layer(rows(B))
    recorded = Recorded(layer, monkeypatch)
    for factor, steps in ((torch.inf, 0), (1.0, 1)):
        optimiser.zero_grad()
        loss = layer(rows(B)).value.square().sum() * factor
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        assert len(recorded.filed) == steps


def test_gradients_that_add_up_and_closures_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of()
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer.follow(optimiser)
    read = [layer(rows(B, seed)) for seed in range(3)]
    recorded = Recorded(layer, monkeypatch)
    for each in read:
        each.value.sum().backward()
    optimiser.step()
    assert recorded.filed == [sorted({cell for each in read for cell in each.cell.flatten().tolist()})]
    dense = layer_of(sparse=False)
    closing = torch.optim.LBFGS(dense.parameters(), max_iter=3)
    dense.follow(closing)

    def closure() -> Tensor:
        closing.zero_grad()
        loss: Tensor = dense(rows(B)).value.square().sum()
        loss.backward()
        return loss

    closing.step(closure)
    dense.eval()(rows(B))
    assert_index_holds_the_keys(dense)


def test_an_optimiser_is_followed_once_and_until_the_handle_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = layer_of()
    optimiser = torch.optim.SparseAdam(layer.parameters(), lr=0.5)
    other = KMIPSAttention(layer.indexed, 2)
    layer.follow(optimiser)
    handle = other.follow(optimiser)
    layer(rows(B))
    recorded = Recorded(layer, monkeypatch)
    step_of(layer, optimiser, 0)
    assert len(recorded.filed) == 1
    handle.remove()
    step_of(layer, optimiser, 1)
    assert len(recorded.filed) == 1
    layer(rows(B))  # mended: all keys were compared
    assert len(recorded.filed) == 2
    assert_index_holds_the_keys(layer)


def test_an_optimiser_does_not_keep_a_memory_alive_and_copies_follow_none() -> None:
    layer = layer_of()
    optimiser = torch.optim.SparseAdam(layer.parameters(), lr=0.5)
    layer.follow(optimiser)
    copy.deepcopy(layer)(rows(B))
    gone = weakref.ref(layer.indexed)
    del layer
    gc.collect()
    assert gone() is None
    optimiser.step()


def test_a_memory_that_is_replaced_is_followed_by_its_own_optimiser() -> None:
    layer = layer_of()
    optimiser = torch.optim.SparseAdam(layer.parameters(), lr=0.5)
    layer.follow(optimiser)
    layer.memory.key_table.weight = nn.Parameter(rows(seed=5))
    fresh = torch.optim.SparseAdam(layer.parameters(), lr=0.5)
    layer.follow(fresh)
    for seed in range(3):
        step_of(layer, fresh, seed)
    layer.eval()(rows(B))
    assert_index_holds_the_keys(layer)


def test_what_cannot_be_followed_is_refused_with_the_next_step() -> None:
    layer = layer_of()
    for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop):
        with pytest.raises(ConfigError, match=f"{kind.__name__} refuses the sparse gradients.*sparse=False"):
            layer.follow(kind(layer.parameters()))
    with pytest.raises(ConfigError, match="SGD refuses the sparse gradients"):
        layer.follow(torch.optim.SGD(layer.parameters(), lr=0.1, fused=True))
    with pytest.raises(ConfigError, match=r"SGD does not train the memory's keys.*memory.parameters\(\)"):
        layer.follow(torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1))
    with pytest.raises(ConfigError, match=r"optimizer is str, expected a torch.optim.Optimizer"):
        layer.follow("adam")  # type: ignore[arg-type]
    encoder = nn.Linear(2, 2)
    encoder.all_keys = lambda: iter(())  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"the memory is EncodedMemory, expected hmn.Memory"):
        IndexedMemory(EncodedMemory(encoder)).follow(torch.optim.SGD(encoder.parameters(), lr=0.1))
    fixed = KMIPSAttention(Memory(rows()), K)
    fixed.follow(torch.optim.SGD(encoder.parameters(), lr=0.1))  # its keys never move


def test_a_forgotten_refresh_is_mended_and_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of()
    optimiser = torch.optim.SparseAdam(layer.parameters(), lr=0.5)
    step_of(layer, optimiser, 0)
    step_of(layer, optimiser, 1)  # few cells: no word
    monkeypatch.setattr(indexed_module, "MANY_CELLS", N)
    with pytest.warns(UserWarning, match=r"all 400 keys are compared.*attention.follow\(optimizer\)"):
        step_of(layer, optimiser, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step_of(layer, optimiser, 3)
        layer(rows(B))
    assert_index_holds_the_keys(layer)


@pytest.mark.parametrize(
    "index", ["exact", "exact:storage=float16", INDEX, "hierarchy", "pca-tree", "wta-hash"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keys_overwritten_behind_the_back_of_pytorch_are_noticed(index: str, dtype: torch.dtype) -> None:
    keys, other = rows(9000).to(dtype), rows(9000, seed=3)
    layer = KMIPSAttention(Memory(keys), K, index)
    asked = 600 if index == "exact" else 10  # the exact index makes codes of keys that are often searched
    for _ in range(3):
        layer(rows(asked, seed=1))
    layer.memory.keys.data.copy_(other)
    query = rows(50, seed=4)
    fresh = KMIPSAttention(Memory(other.to(dtype)), K, index)
    for _ in range(2):
        got, wanted = layer(query).score, fresh(query).score
        assert float((got >= wanted - 1e-3).float().mean()) > 0.95
