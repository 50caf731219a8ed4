"""What the base class of the structures does for all of them."""

from __future__ import annotations

import contextlib
import copy
import io
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import torch
from tests.index.reference import listed, whole
from torch import Tensor

from hmn.errors import NotFittedError
from hmn.index.protocol import Index
from hmn.index.registry import make_index

BREAKS = {
    "cluster:num_clusters=4": "hmn.index.structures.cluster_levels.assign",
    "wta-hash:prefix=2": "hmn.index.structures.wta_hash.Buckets",
    "pca-tree:leaf_size=4": "hmn.index.structures.pca_tree.grow",
    "faiss:IVF4,Flat": "hmn.index.structures.faiss.FaissRows",
}
"""Structures, and what fails in the middle of their build."""


@pytest.mark.parametrize("name", listed(list(BREAKS)))
@pytest.mark.parametrize("settings", ["", "reduction=one-column"])
def test_a_build_that_fails_leaves_the_index_as_it_was(
    name: str, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = make_index(f"{name},{settings}" if settings else name)
    query = whole(2, 5, 6)
    index.build(whole(1, 60, 6), torch.arange(60) * 2)
    before, stats = index.search(query, 9), index.stats()

    def fails(*_: object, **__: object) -> NoReturn:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(BREAKS[name], fails)
        with pytest.raises(MemoryError):
            index.build(whole(3, 80, 4))
    for part, wanted in zip(index.search(query, 9), before, strict=True):
        torch.testing.assert_close(part, wanted, rtol=0, atol=0, equal_nan=True)
    assert index.stats() == stats
    index.add(torch.tensor([1]), whole(4, 1, 6))
    index.remove(torch.arange(0, 120, 2))
    assert len(index) == 1


STRUCTURES = [
    "exact",
    "cluster:num_clusters=8",
    "cluster:num_clusters=3x9,codes=none,reduction=paper",
    "hierarchy",
    "wta-hash:prefix=2",
    "pca-tree:leaf_size=8,num_leaves=3",
    "faiss:IVF4,Flat",
    "faiss:HNSW8",
]


def saved_and_loaded(index: Index) -> Any:
    file = io.BytesIO()
    torch.save(index, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Index], Any]] = {
    "pickle": lambda index: pickle.loads(pickle.dumps(index)),
    "deepcopy": copy.deepcopy,
    "torch.save": saved_and_loaded,
}


def changed_index(name: str, **settings: Any) -> Index:
    index = make_index(name, **settings)
    index.build(whole(1, 400, 6), torch.arange(400) * 2)
    index.remove(torch.arange(0, 60, 2))
    index.add(torch.arange(1, 21, 2), whole(3, 10, 6))
    index.search(whole(2, 5, 6), 7)
    return index


@pytest.mark.parametrize("name", listed(STRUCTURES))
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_answers_the_same_and_is_an_index_of_its_own(name: str, way: str) -> None:
    index, query = changed_index(name), whole(2, 5, 6)
    copied = COPIES[way](index)
    before, stats = index.search(query, 7), index.stats()
    assert copied.stats() == stats
    for part, wanted in zip(copied.search(query, 7), before, strict=True):
        torch.testing.assert_close(part, wanted, rtol=0, atol=0, equal_nan=True)
    copied.update(torch.arange(100, 200, 2), whole(4, 50, 6, spread=9))
    copied.remove(torch.arange(1, 21, 2))
    for part, wanted in zip(index.search(query, 7), before, strict=True):
        torch.testing.assert_close(part, wanted, rtol=0, atol=0, equal_nan=True)
    assert len(copied) == len(index) - 10 and index.stats() == stats


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_keeps_the_settings_but_reports_no_progress(way: str) -> None:
    index: Any = make_index("cluster:num_clusters=8,num_probes=5", on_progress=lambda *_: None)
    copied = COPIES[way](index)
    assert (copied.num_clusters, copied.num_probes, copied.on_progress) == ((8,), 5, None)
    with pytest.raises(NotFittedError):
        copied.search(whole(2, 5, 6), 7)
    copied.build(whole(1, 60, 6))


def cells_found(index: Index, query: Tensor) -> list[list[int]]:
    found: list[list[int]] = index.search(query, 7).cell.tolist()
    return found


@pytest.mark.slow
def test_a_spawned_process_gets_an_index() -> None:
    index, query = changed_index("hierarchy"), whole(2, 5, 6)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(cells_found, (index, query)) == cells_found(index, query)


@pytest.mark.parametrize("name", listed(STRUCTURES[:4]))
@pytest.mark.parametrize("way", ["deepcopy", "torch.save"])
def test_keys_that_are_shared_are_shared_by_the_copies_too(name: str, way: str) -> None:
    index: Any = make_index(name)
    index.keys = whole(1, 400, 6)
    index.build(index.keys)
    copied = COPIES[way](index)
    assert copied.state_dict()["rows.keys"].data_ptr() == copied.keys.data_ptr() != index.keys.data_ptr()


CHANGED = ["exact", "cluster:num_clusters=8", "hierarchy", "wta-hash:prefix=2", "pca-tree"]
CHANGES: dict[str, Callable[[Index, Tensor], None]] = {
    "add": lambda index, keys: index.add(torch.arange(600, 620), keys),
    "update": lambda index, keys: index.update(torch.arange(20), keys),
    "remove": lambda index, _: index.remove(torch.arange(20)),
}


@pytest.mark.parametrize(
    "name", ["exact", "cluster:num_clusters=8", "hierarchy", "wta-hash:prefix=2", "pca-tree"]
)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("method", ["_insert", "_discard", "_write"])
@pytest.mark.parametrize("done", [False, True])
def test_an_interrupted_change_leaves_an_index_that_is_whole(
    name: str, change: str, method: str, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    index: Any = make_index(name)
    keys, query = whole(1, 600, 6), whole(2, 5, 6)
    index.build(keys.clone())
    finished = getattr(index, method)

    def interrupted(*arguments: Any) -> NoReturn:
        if done:
            finished(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(index, method, interrupted)
        CHANGES[change](index, whole(3, 20, 6))
    if hasattr(index, "effort"):
        index.effort = index.max_effort
    state = {part: tensor.clone() for part, tensor in index.state_dict().items()}
    held, cell = state["rows.keys"], state.get("rows.cell", torch.arange(len(state["rows.keys"])))
    held, cell = held[cell >= 0], cell[cell >= 0]
    again = make_index(name)
    again.load_state_dict(state)
    rebuilt = make_index(name)
    rebuilt.build(held, cell)
    assert len(index) == len(again) == len(rebuilt)
    if name != "wta-hash:prefix=2":
        wanted = (query @ held.T).topk(5).values
        torch.testing.assert_close(index.search(query, 5).score, wanted)
    index.update(cell[:50], whole(4, 50, 6))
    index.search(query, 5)
    index.state_dict()
