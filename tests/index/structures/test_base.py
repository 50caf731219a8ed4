"""What the base class of the structures does for all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import torch
from tests.index.reference import listed, whole
from torch import Tensor

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
