"""Rows that are read in place have the scores, sums and gradients of rows that are copied."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from hmn._native import backend
from hmn.nn import KMIPSAttention, Memory, RowAdam
from hmn.nn.attention.rows import Reads, RowsInPlace, can_read_in_place, row_scores, row_sums_of

Leaves = tuple[Tensor, Tensor, Tensor]
"""Queries ``(B, D)``, rows ``(N, D)``, weights ``(B, K)``."""
compiled = pytest.mark.skipif(backend.compiled is None, reason="without compiled kernels rows are copied")


def leaves() -> tuple[Leaves, Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = (torch.randn(shape, generator=generator) for shape in ((6, 5), (9, 5), (6, 4)))
    query, table, weight = (part.requires_grad_() for part in made)
    return (query, table, weight), torch.randint(-1, 9, (6, 4), generator=generator)


def copied(query: Tensor, table: Tensor, weight: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and sums from copies of the rows."""
    used, rows = row >= 0, table[row.clamp(min=0)]
    return (rows * query.unsqueeze(1)).sum(dim=2) * used, ((weight * used).unsqueeze(2) * rows).sum(dim=1)


def dense(gradients: tuple[Tensor, ...]) -> list[Tensor]:
    return [part.to_dense() if part.is_sparse else part for part in gradients]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_gradients_are_those_of_copies(sparse: bool, trained: bool, twice: bool) -> None:
    (query, table, weight), row = leaves()
    table.requires_grad_(trained)
    inputs = (query, table, weight) if trained else (query, weight)

    def gradients(outputs: Callable[[], tuple[Tensor, Tensor]]) -> list[Tensor]:
        score, total = outputs()
        loss = score.sin().sum() + total.cos().sum()
        first = torch.autograd.grad(loss, inputs, create_graph=twice)
        if not twice:
            assert first[1].is_sparse == (sparse and trained and outputs is in_place)
            return dense(first)
        return dense(torch.autograd.grad(sum(part.square().sum() for part in dense(first)), inputs))

    def in_place() -> tuple[Tensor, Tensor]:
        reads = Reads(row)
        return row_scores(query, table, reads, sparse=sparse), row_sums_of(
            weight, table, reads, sparse=sparse
        )

    for got, wanted in zip(
        gradients(in_place), gradients(lambda: copied(query, table, weight, row)), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_sparse_gradient_has_each_row_once_in_order() -> None:
    (query, table, _), row = leaves()
    row_scores(query, table, Reads(row), sparse=True).sum().backward()
    assert table.grad is not None
    assert table.grad._indices()[0].tolist() == sorted(set(row[row >= 0].tolist()))


def layer(**settings: bool) -> KMIPSAttention:
    generator = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(50, width, generator=generator) for width in (5, 3))
    return KMIPSAttention(Memory(keys, values, **settings), 4)


@compiled
def test_rows_of_a_fixed_memory_may_change_before_the_backward_pass() -> None:
    attention, other = layer(), layer()
    queries = [torch.ones(1, 5, requires_grad=True) for _ in range(2)]
    for each, query, writes in zip((attention, other), queries, (True, False), strict=True):
        assert can_read_in_place(query, each.memory)
        total = each(query).value.sum()
        if writes:
            with torch.no_grad():
                each.memory.keys.zero_()
                each.memory.values.zero_()
        total.backward()
    assert queries[0].grad is not None and queries[1].grad is not None
    torch.testing.assert_close(queries[0].grad, queries[1].grad)


@compiled
def test_an_index_that_follows_nothing_notices_a_step_that_kernels_made() -> None:
    attention = layer(trainable=True)
    query, adam = torch.ones(1, 5), RowAdam(attention.memory.parameters(), lr=5.0)
    attention(query).score.sum().neg().backward()  # scores rise
    adam.step()
    read = attention(query)
    wanted = (query @ attention.memory.keys.T).detach().topk(4)
    assert read.cell.tolist() == wanted.indices.tolist()
    torch.testing.assert_close(read.score.detach(), wanted.values)


class Doubled(Memory):
    """A memory whose rows are not what lies in its tables."""

    def keys_of(self, cells: Tensor) -> Tensor:
        return 2 * super().keys_of(cells)


@compiled
def test_rows_are_copied_where_only_pytorch_can_differentiate_them() -> None:
    attention, query = layer(), torch.ones(1, 5)
    memory = attention.memory
    assert isinstance(memory, Memory)
    assert can_read_in_place(query, memory)
    assert not can_read_in_place(query.double(), memory)
    assert not can_read_in_place(query, Doubled(memory.keys))
    assert not can_read_in_place(query, Memory(memory.keys.double()))
    assert not can_read_in_place(query, Memory(memory.keys[:0]))
    with forward_ad.dual_level():
        assert not can_read_in_place(query, memory)
    seen = []

    def total(each: Tensor) -> Tensor:
        seen.append(can_read_in_place(each, memory))
        return each.sum()

    torch.func.grad(total)(query)
    assert seen == [False]


def test_values_are_keys_where_there_are_none() -> None:
    keys = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    rows = RowsInPlace(Memory(keys, trainable=True), torch.tensor([[3, -1]]))
    torch.testing.assert_close(rows.mean(torch.tensor([[2.0, 1.0]])), 2 * keys[3:4])
