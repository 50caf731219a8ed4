"""Readers agree with brute force over a small stored memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hmn.index.structures.exact import ExactIndex
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.nn.parts import CellMemory, Reader
from hmn.nn.reader import KMIPSReader, SoftmaxReader
from hmn.results import SearchResult

quick = settings(max_examples=40, deadline=None)


class StoredMemory:
    """N cells with keys and, perhaps, values of their own."""

    def __init__(self, keys: Tensor, values: Tensor | None = None) -> None:
        self.keys, self.values = keys, values

    def __len__(self) -> int:
        return len(self.keys)

    def keys_of(self, cells: Tensor) -> Tensor:
        return self.keys[cells]

    def values_of(self, cells: Tensor) -> Tensor | None:
        return None if self.values is None else self.values[cells]

    def snapshot(self) -> Tensor:
        return self.keys


def made(n: int, seed: int, b: int = 3) -> tuple[StoredMemory, IndexedMemory[CellMemory], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    memory = StoredMemory(torch.randn(n, 4, generator=generator), torch.randn(n, 2, generator=generator))
    return memory, IndexedMemory(memory), torch.randn(b, 4, generator=generator)


def ranked(query: Tensor, memory: StoredMemory) -> tuple[list[list[int]], Tensor]:
    """Cells of each query, best first, and its softmax over all of them; in float64."""
    score = query.double() @ memory.keys.double().T
    order = [sorted(range(len(memory)), key=lambda cell: -float(row[cell])) for row in score]
    return order, torch.exp(score) / torch.exp(score).sum(dim=1, keepdim=True)


@quick
@given(
    n=st.integers(1, 30), b=st.integers(1, 4), k=st.integers(1, 35), targets=st.integers(0, 5), data=st.data()
)
def test_kmips_candidates_are_the_batch_union(
    n: int, b: int, k: int, targets: int, data: st.DataObject
) -> None:
    memory, indexed, query = made(n, data.draw(st.integers(0, 99)), b)
    target = data.draw(st.lists(st.integers(0, n - 1), min_size=targets, max_size=targets))
    wanted = torch.tensor(target, dtype=torch.int64)
    found, probability = KMIPSReader(indexed, k).candidates(query, wanted, torch.Generator())
    order, _ = ranked(query, memory)
    assert found.dtype == torch.int64
    assert found.tolist() == sorted({cell for row in order for cell in row[:k]} | set(target))
    assert probability.tolist() == [1.0] * len(found)


def test_softmax_candidates_are_all_cells() -> None:
    _, indexed, query = made(9, 0)
    found, probability = SoftmaxReader(indexed).candidates(query, torch.tensor([3]), torch.Generator())
    assert found.tolist() == list(range(9))
    assert probability.tolist() == [1.0] * 9


@quick
@given(n=st.integers(1, 20), seed=st.integers(0, 99))
def test_kmips_over_all_cells_is_the_full_softmax(n: int, seed: int) -> None:
    memory, indexed, query = made(n, seed)
    order, share = ranked(query, memory)
    for reader in (KMIPSReader(indexed, n), SoftmaxReader(indexed)):
        read = reader.read(query, n)
        assert read.cell.tolist() == order
        torch.testing.assert_close(read.weight.double(), share.gather(1, read.cell), atol=1e-6, rtol=0)
        assert read.value is not None and memory.values is not None
        torch.testing.assert_close(read.value.double(), share @ memory.values.double(), atol=1e-5, rtol=0)


def test_softmax_weights_are_shares_of_all_cells() -> None:
    memory, indexed, query = made(12, 1)
    read = SoftmaxReader(indexed).read(query, 4)
    order, share = ranked(query, memory)
    assert read.cell.tolist() == [row[:4] for row in order]
    torch.testing.assert_close(read.weight.double(), share.gather(1, read.cell), atol=1e-6, rtol=0)
    assert bool((read.weight.sum(dim=1) < 0.999).all())


@pytest.mark.parametrize("shown", [2, 3, 7])
def test_kmips_weights_are_a_softmax_over_its_k(shown: int) -> None:
    memory, indexed, query = made(12, 2)
    read = KMIPSReader(indexed, 3).read(query, shown)
    order, share = ranked(query, memory)
    assert read.cell.tolist() == [row[:shown] for row in order]
    for row in range(3):
        best = share[row, order[row][:3]]
        wanted = torch.zeros(shown, dtype=torch.float64)
        wanted[:3] = (best / best.sum())[:shown]
        torch.testing.assert_close(read.weight[row].double(), wanted, atol=1e-6, rtol=0)


def both(indexed: IndexedMemory[CellMemory], k: int) -> list[Reader]:
    return [KMIPSReader(indexed, k), SoftmaxReader(indexed)]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(("n", "k", "shown"), [(12, 4, 4), (12, 4, 2), (12, 4, 6), (3, 5, 5), (1, 1, 4)])
def test_value_is_the_weighted_sum(which: int, n: int, k: int, shown: int) -> None:
    memory, indexed, query = made(n, 3)
    read = both(indexed, k)[which].read(query, shown)
    assert read.value is not None and memory.values is not None
    assert read.weight.shape == read.cell.shape == read.score.shape == (3, shown)
    for row in range(3):
        wanted = torch.zeros(2)
        for weight, cell, score in zip(read.weight[row], read.cell[row], read.score[row], strict=True):
            if cell < 0:
                assert weight == 0 and score == -torch.inf
                continue
            wanted += weight * memory.values[cell]
            torch.testing.assert_close(score, query[row] @ memory.keys[cell])
        torch.testing.assert_close(read.value[row], wanted)
    assert (read.cell >= 0).sum() == 3 * min(n, shown)
    assert read.reads.tolist() == [n] * 3


@pytest.mark.parametrize("which", [0, 1])
def test_a_query_that_finds_nothing_reads_nothing(which: int) -> None:
    class Blind(ExactIndex):
        """Finds no cell for the second query."""

        def search(self, query: Tensor, k: int) -> SearchResult:
            result = super().search(query, k)
            result.score[1], result.cell[1] = -torch.inf, -1
            return result

    memory, _, query = made(12, 3)
    read = both(IndexedMemory(memory, Blind()), 4)[which].read(query, 4)
    assert (
        read.weight[1].tolist() == [0.0] * 4
        and read.value is not None
        and read.value[1].tolist() == [0.0] * 2
    )
    assert bool((read.weight[[0, 2]] > 0).all())


@pytest.mark.parametrize("which", [0, 1])
def test_a_memory_without_values_gives_none(which: int) -> None:
    memory, _, query = made(5, 4)
    indexed = IndexedMemory[CellMemory](StoredMemory(memory.keys))
    assert both(indexed, 2)[which].read(query, 2).value is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_full_softmax_reads_half_precision(dtype: torch.dtype) -> None:
    keys, query = torch.randn(50, 8).to(dtype), torch.randn(3, 8)
    read = SoftmaxReader(IndexedMemory(Memory(keys))).read(query, 50)
    wanted = torch.softmax(query @ keys.float().T, dim=1).gather(1, read.cell)
    torch.testing.assert_close(read.weight, wanted)
