"""An index files what was appended to a ring, and nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from hmn.index.structures.cluster import ClusterIndex
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.nn.memory import held, indexed
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.ring.memory import RingMemory

C, D, K = 100, 6, 4


class Counting(ClusterIndex):
    """Clusters that count their builds, and the cells that are added and updated."""

    def __init__(self) -> None:
        super().__init__(num_probes=99, rescore=99)
        self.builds: list[int] = []
        self.added: list[list[int]] = []
        self.updated: list[list[int]] = []

    def build(self, keys: Tensor, cells: Tensor | None = None) -> None:
        self.builds.append(len(keys))
        super().build(keys, cells)

    def add(self, cells: Tensor, keys: Tensor) -> None:
        super().add(cells, keys)
        self.added.append(cells.tolist())

    def update(self, cells: Tensor, keys: Tensor) -> None:
        super().update(cells, keys)
        self.updated.append(cells.tolist())


def rows(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def ring(n: int, index: ClusterIndex | str) -> IndexedMemory[RingMemory]:
    memory = RingMemory(C, D)
    memory.append(rows(n))
    searched = IndexedMemory(memory, index)
    searched.search(rows(2), K)
    return searched


def assert_finds_all(searched: IndexedMemory[RingMemory], seed: int = 9) -> None:
    query = rows(5, seed)
    best = (query @ searched.memory.keys.T).topk(K).indices
    assert torch.equal(searched.search(query, K).cell, best)


def test_each_cell_is_filed_once() -> None:
    index = Counting()
    searched = ring(80, index)
    for count in (5, 1, 14, 3, 0, 20):
        searched.memory.append(rows(count, seed=count))
        assert_finds_all(searched)
    assert index.builds == [80]
    assert index.added == [list(range(80, 85)), [85], list(range(86, 100))]
    assert index.updated == [[0, 1, 2], list(range(3, 23))]


def test_appends_between_two_searches_are_filed_together() -> None:
    index = Counting()
    searched = ring(90, index)
    for number in range(25):
        searched.memory.append(rows(1, seed=number))
    assert_finds_all(searched)
    assert index.builds == [90]
    assert index.updated == [list(range(15))]
    assert index.added == [list(range(90, 100))]


def test_nothing_looks_at_all_keys_while_rows_are_appended(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = ring(C, Counting())

    def never(keys: Tensor) -> Tensor:
        assert len(keys) <= 3, "a pass over all keys"
        return fingerprints(keys)

    fingerprints = held.row_fingerprints
    for module in (held, indexed):
        monkeypatch.setattr(module, "row_fingerprints", never)
    for number in range(10):
        searched.memory.append(rows(3, seed=number))
        searched.refresh()
        assert_finds_all(searched)


def test_clusters_are_built_again_as_the_rows_double_in_number() -> None:
    index = Counting()
    searched = ring(3, index)
    for number in range(1000):
        searched.memory.append(rows(1, seed=number))
        searched.search(rows(1), K)
    assert index.builds == [3, 6, 12, 24, 48, 96, 100, 100, 100]
    assert_finds_all(searched)


def test_a_structure_that_adapts_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for structure in (ExactIndex, HierarchicalIndex):
        searched = ring(40, structure())  # type: ignore[arg-type]
        with monkeypatch.context() as patch:
            patch.setattr(structure, "build", None)
            for number in range(70):
                searched.memory.append(rows(2, seed=number))
                searched.search(rows(1), K)


def test_keys_that_are_changed_in_place_beside_appends_are_found() -> None:
    searched = ring(C, index := Counting())
    searched.memory.append(rows(4, seed=4))
    with torch.no_grad():
        searched.memory.keys[50] = 100 * rows(1, seed=5)[0]
    searched.memory.append(rows(4, seed=6))
    assert int(searched.search(rows(1, seed=5), 1).cell) == 50
    assert index.updated == [list(range(8)), [50]]
    assert_finds_all(searched)


def test_rows_that_an_exported_program_shows_are_searched() -> None:
    searched, other = ring(9, Counting()), ring(9, "exact").memory.table.clone()
    other[3] = 100 * rows(1, seed=5)[0]
    searched.memory.show(other)
    assert int(searched.search(rows(1, seed=5), 1).cell) == 3
    searched.memory.show(None)
    assert_finds_all(searched)


def test_a_ring_that_was_cleared_and_filled_alike_is_filed_again() -> None:
    searched = ring(30, Counting())
    searched.memory.clear()
    assert not len(searched.memory)
    searched.memory.append(rows(30, seed=3))
    assert_finds_all(searched)


def test_a_saved_index_is_taken_back_and_goes_on() -> None:
    index = Counting()
    searched = ring(C + 10, index)
    other = IndexedMemory(RingMemory(C, D), fresh := Counting())
    other.memory.load_state_dict(searched.memory.state_dict())
    other.load_index(index.state_dict(with_keys=False))
    assert_finds_all(other)
    searched.memory.append(rows(5, seed=1))
    other.memory.append(rows(5, seed=1))
    assert_finds_all(other)
    assert fresh.builds == []
    assert fresh.updated == [list(range(10, 15))]
    other.memory.append(rows(C, seed=2))
    assert_finds_all(other)
    assert fresh.builds == []
    other.memory.append(rows(5, seed=3))  # 220 rows in all
    assert_finds_all(other)
    assert fresh.builds == [C]


@pytest.mark.parametrize("count", [40, C])
def test_two_indexes_follow_one_ring(count: int) -> None:
    first = ring(count, Counting())
    second = IndexedMemory(first.memory, "exact")
    for number in range(12):
        first.memory.append(rows(number, seed=number))
        assert_finds_all(first, number)
        if number % 3 == 0:
            assert_finds_all(second, number)


def test_an_append_that_is_interrupted_is_filed_by_the_next_search(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = ring(90, Counting())
    searched.memory.append(rows(15, seed=1))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Counting, "add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        searched.search(rows(1), K)
    assert_finds_all(searched)


def test_threads_that_search_after_an_append_file_it_once() -> None:
    searched = ring(20, index := Counting())
    with ThreadPoolExecutor(8) as pool:
        for number in range(15):
            searched.memory.append(rows(1, seed=number))
            query = rows(5, seed=number)
            best = (query @ searched.memory.keys.T).topk(K).indices
            found = list(pool.map(lambda _, query=query: searched.search(query, K).cell, range(8)))
            assert all(torch.equal(cell, best) for cell in found)
    assert index.added == [[20 + number] for number in range(15)]
