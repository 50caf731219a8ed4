"""What the base class of the structures does for all of them."""

from __future__ import annotations

import contextlib
import copy
import io
import multiprocessing
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from tests.index.interrupted import broken_off
from tests.index.reference import listed, whole
from torch import Tensor

from hmn.errors import ConfigError, NotFittedError, ShapeError
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


TYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("name", listed(STRUCTURES))
@pytest.mark.parametrize("with_keys", [True, False])
@pytest.mark.parametrize(("saved", "loaded"), [(a, b) for a in TYPES for b in TYPES])
def test_a_state_loads_into_an_index_of_another_storage(
    name: str, with_keys: bool, saved: torch.dtype, loaded: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(1)
    keys, query = (torch.randn(rows, 12, generator=generator) for rows in (600, 9))
    index, other, fresh = (make_index(name, storage=storage) for storage in (saved, loaded, loaded))
    live, held = torch.arange(60, 1200, 2), keys.to(saved)
    for each in (index, fresh):
        each.build(held, torch.arange(600) * 2)
        each.remove(torch.arange(0, 60, 2))
    other.load_state_dict(index.state_dict(with_keys=with_keys), None if with_keys else held)
    assert other.stats()["storage"] == str(loaded).removeprefix("torch.")
    # scores are those of the keys as they are kept now, and it finds what one built with this storage finds
    exact = query @ held.to(loaded).float().T
    best, shares = live[exact[:, 30:].topk(10, dim=1).indices], []
    for each in (other, fresh):
        found = each.search(query, 10)
        torch.testing.assert_close(found.score, exact.gather(1, found.cell // 2), rtol=1e-5, atol=1e-5)
        shares.append(float((best.unsqueeze(2) == found.cell.unsqueeze(1)).any(dim=2).float().mean()))
    assert shares == pytest.approx([shares[1]] * 2, abs=0.05)
    # what is saved again belongs to the keys as they are kept now
    again = make_index(name, storage=loaded)
    again.load_state_dict(other.state_dict(with_keys=False), held.to(loaded))
    assert torch.equal(again.search(query, 10).cell, other.search(query, 10).cell)
    changed = held.clone()
    changed[100, 3] += 1
    with pytest.raises(ShapeError, match=r"checksum of the keys is .* expected .* saved with, or build"):
        other.load_state_dict(index.state_dict(with_keys=False), changed)


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


def cells_of(index: Index) -> dict[int, list[float]]:
    """The key of each cell, by its state."""
    state = index.state_dict()
    keys = state["rows.keys"]
    cell = state.get("rows.cell", torch.arange(len(keys)))
    return dict(zip(cell[cell >= 0].tolist(), keys[cell >= 0].tolist(), strict=True))


EVERY_LINE: dict[str, int] = {
    "exact": 1,
    "cluster:num_clusters=8,num_probes=8": 13,
    "wta-hash:num_tables=2,num_permutations=1,prefix=2,num_probes=2": 11,
    "pca-tree:leaf_size=8,num_leaves=1000": 11,
    "hierarchy:num_groups=8,reach=999,rescore=100000": 53,
    "faiss:Flat": 11,
}
"""Structures, and at which of their lines calls are broken off: at each, or at each n-th."""


@pytest.mark.usefixtures("every_group_entered")
@pytest.mark.parametrize("name", listed(list(EVERY_LINE)))
@pytest.mark.parametrize("change", ["add", "add again", "update", "remove", "load", "search"])
def test_a_call_that_is_broken_off_at_any_line_is_done_or_not_done(name: str, change: str) -> None:
    keys, new, query = whole(1, 60, 6), whole(3, 12, 6), whole(2, 5, 6)
    given, other = keys.clone(), make_index(name)
    other.build(new)
    state = {part: tensor.clone() for part, tensor in other.state_dict().items()}
    calls: dict[str, Callable[[Index], object]] = {
        "add": lambda index: index.add(torch.arange(100, 112), new),
        "add again": lambda index: index.add(torch.arange(12), given[8:20]),
        "update": lambda index: index.update(torch.arange(40, 52), new),
        "remove": lambda index: index.remove(torch.arange(40, 52)),
        "load": lambda index: index.load_state_dict(state),
        "search": lambda index: index.search(query, 5),
    }

    def made() -> Any:
        index = make_index(name)
        index.build(given)
        index.remove(torch.arange(20))
        return index

    index = made()
    before = cells_of(index)
    calls[change](index)
    after = cells_of(index)
    line, place = 1, "the first line"
    while place:
        index = made()
        place = broken_off(lambda: calls[change](index), line)  # noqa: B023
        line += EVERY_LINE[name]
        count, held = len(index), cells_of(index)
        assert held in (before, after), place
        assert count == len(held), place
        wanted = (query @ torch.tensor(list(held.values())).T).topk(5).values
        if not name.startswith("wta"):
            torch.testing.assert_close(index.search(query, 5).score, wanted)
        index.update(torch.tensor(list(held))[:5], new[:5])
        index.add(torch.arange(500, 503), new[:3])
        index.remove(torch.arange(500, 503))
        assert torch.equal(given, keys), place


@pytest.mark.parametrize("name", listed(STRUCTURES))
def test_keys_of_the_caller_are_never_written(name: str) -> None:
    keys = whole(1, 400, 6)
    given, new = keys.clone(), whole(3, 20, 6, spread=9)
    index = make_index(name)
    index.build(given)
    index.remove(torch.arange(20))
    index.add(torch.arange(1000, 1020), new)
    index.update(torch.arange(50, 70), new)
    assert torch.equal(given, keys)
    again = make_index(name)
    again.load_state_dict(index.state_dict(with_keys=False), held := index.state_dict()["rows.keys"].clone())
    kept = held.clone()
    again.remove(torch.arange(50, 70))
    again.add(torch.arange(2000, 2020), 2 * new)
    assert torch.equal(held, kept)


@pytest.mark.parametrize("name", listed(STRUCTURES))
def test_keys_in_a_file_that_is_mapped_for_reading_are_searched_and_changed(
    name: str, tmp_path: Path
) -> None:
    keys, query = whole(1, 400, 6), whole(2, 5, 6)
    np.save(tmp_path / "keys.npy", keys.numpy())
    mapped = np.load(tmp_path / "keys.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch: "not writable"
        given = torch.from_numpy(mapped)
    index, other = make_index(name), make_index(name)
    index.build(given)
    other.build(keys)
    for each in (index, other):
        each.remove(torch.tensor([5]))
        each.add(torch.tensor([1000]), whole(3, 1, 6))
        each.update(torch.arange(50, 70), whole(4, 20, 6))
    for part, wanted in zip(index.search(query, 9), other.search(query, 9), strict=True):
        torch.testing.assert_close(part, wanted, rtol=0, atol=0, equal_nan=True)
    assert np.array_equal(np.load(tmp_path / "keys.npy"), keys.numpy())


@pytest.mark.parametrize("name", listed(STRUCTURES))
def test_keys_whose_storage_is_freed_are_refused_until_the_index_is_built_again(name: str) -> None:
    keys, query, one = whole(1, 400, 6), whole(2, 5, 6), torch.tensor([3])
    given, index = keys.clone(), make_index(name)
    index.build(given)
    before = index.search(query, 5)
    given.untyped_storage().resize_(0)
    uses: list[Callable[[], object]] = [
        lambda: index.search(query, 5),
        lambda: index.add(torch.tensor([1000]), keys[:1]),
        lambda: index.update(one, keys[:1]),
        lambda: index.remove(one),
        index.state_dict,
        index.stats,
        lambda: pickle.dumps(index),
    ]
    for use in uses:
        with pytest.raises(ShapeError, match=r"has 0 bytes, expected 9600: it was freed or cut"):
            use()
    index.build(keys)
    for part, wanted in zip(index.search(query, 5), before, strict=True):
        torch.testing.assert_close(part, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("text", "setting", "value"),
    [
        ("cluster:num_clusters=6,num_probes=2", "num_probes", "2"),
        ("pca-tree:leaf_size=7", "leaf_size", 7),
        ("pca-tree:leaf_size=7,num_leaves=3", "num_leaves", 3),
        ("wta-hash:num_tables=5,prefix=4", "num_tables", 5),
        ("wta-hash:num_tables=5,prefix=4", "prefix", 4),
        ("hierarchy:reach=9", "reach", 9),
    ],
)
def test_stats_give_the_settings_that_were_asked_for(text: str, setting: str, value: int | str) -> None:
    index = make_index(text)
    index.build(torch.randn(300, 8, generator=torch.Generator().manual_seed(0)))
    assert index.stats()[setting] == value


@pytest.mark.parametrize("name", ["cluster", "hierarchy"])
def test_what_cannot_be_called_is_refused_as_a_callback(name: str) -> None:
    with pytest.raises(ConfigError, match="on_progress is 'bar'"):
        make_index(name, on_progress="bar")
