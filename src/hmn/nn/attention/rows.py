"""Scores and weighted sums of the rows that queries read, with gradients, and without a copy of any row."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from hmn._native.backend import STORAGE, kernels_for
from hmn._native.reading import ByRow, by_row, gathered, row_products, row_sums
from hmn.nn.memory.stored import Memory
from hmn.nn.products import inner_products, weighted_sum

PLAIN = (Tensor, nn.Parameter)
"""Types of tensors whose numbers lie at their address: no shards, no wrappers."""


class Reads:
    """Which rows of a table queries read.

    Args:
        row: ``(B, K)`` int64; -1 for none.
    """

    def __init__(self, row: Tensor) -> None:
        self.row = row

    @cached_property
    def by_row(self) -> ByRow:
        """The same in the order of rows, for gradients: sorted once for keys and values."""
        return by_row(self.row)


class Rows(Protocol):
    """Keys and values of the cells that queries read."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the sums of values, unless that of the queries is wider."""
        ...

    def scores(self, query: Tensor) -> Tensor:
        """Inner products of queries ``(B, D)`` with the keys of their cells: ``(B, K)``, or ``(B, C)``."""
        ...

    def mean(self, weight: Tensor) -> Tensor:
        """Sums ``(B, V)`` of the values of the cells, by their weights ``(B, K)`` or ``(B, C)``."""
        ...


class GatheredRows:
    """Copies of keys and values.

    Args:
        keys: ``(B, K, D)`` of each query, or ``(C, D)`` of all.
        values: ``(B, K, V)`` or ``(C, V)``.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._keys, self._values = keys, values

    @property
    def dtype(self) -> torch.dtype:
        """See ``Rows.dtype``."""
        return torch.promote_types(self._keys.dtype, self._values.dtype)

    def scores(self, query: Tensor) -> Tensor:
        """See ``Rows.scores``."""
        return inner_products(query, self._keys)

    def mean(self, weight: Tensor) -> Tensor:
        """See ``Rows.mean``."""
        return weighted_sum(weight, self._values)


class RowsInPlace:
    """Rows of a stored memory, read where they lie; see ``can_read_in_place``.

    Args:
        memory: the memory.
        cell: ``(B, K)`` int64 cells that each query reads; -1 for none.
    """

    def __init__(self, memory: Memory, cell: Tensor) -> None:
        self._reads = Reads(cell)
        self._keys, self._sparse_keys = memory.keys, getattr(memory.key_table, "sparse", False)
        held = memory.value_table
        self._values = self._keys if held is None or memory.values is None else memory.values
        self._sparse_values = self._sparse_keys if held is None else getattr(held, "sparse", False)

    @property
    def dtype(self) -> torch.dtype:
        """See ``Rows.dtype``."""
        return torch.promote_types(self._keys.dtype, self._values.dtype)

    def scores(self, query: Tensor) -> Tensor:
        """See ``Rows.scores``; 0 for none."""
        return row_scores(query, self._keys, self._reads, sparse=self._sparse_keys)

    def mean(self, weight: Tensor) -> Tensor:
        """See ``Rows.mean``."""
        return row_sums_of(weight, self._values, self._reads, sparse=self._sparse_values)


def can_read_in_place(query: Tensor, memory: nn.Module) -> bool:
    """Whether the rows of a memory can be read where they lie.

    That is so for stored memories on the CPU, with compiled kernels, and outside ``torch.compile``,
    ``torch.func`` and forward-mode differentiation, which need operations of PyTorch.
    """
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    if forward_ad._current_level >= 0 or not isinstance(memory, Memory) or not has_plain_rows(memory):
        return False
    tables = (query, memory.keys) if memory.values is None else (query, memory.keys, memory.values)
    plain = all(type(table) in PLAIN and table.dtype in STORAGE and kernels_for(table) for table in tables)
    return plain and len(memory) > 0


def has_plain_rows(memory: nn.Module) -> bool:
    """Whether a memory is a stored one, and no subclass of it whose rows are others than its tables hold."""
    if not isinstance(memory, Memory):
        return False
    return type(memory).keys_of is Memory.keys_of and type(memory).values_of is Memory.values_of


def row_scores(query: Tensor, table: Tensor, reads: Reads, *, sparse: bool) -> Tensor:
    """Inner products ``(B, K)`` float32 of queries ``(B, D)`` with the rows that they read; 0 for none.

    Args:
        query: float32, float16 or bfloat16.
        table: ``(N, D)`` rows.
        reads: rows of each query.
        sparse: whether the table's gradient is sparse rows; it is dense otherwise.
    """
    scores: Tensor = _Products.apply(query.float(), table, reads, sparse)  # type: ignore[no-untyped-call]
    return scores


def row_sums_of(weight: Tensor, table: Tensor, reads: Reads, *, sparse: bool) -> Tensor:
    """Sums ``(B, V)`` float32 of the rows ``(N, V)`` that queries read, by their weights ``(B, K)``."""
    sums: Tensor = _Sums.apply(weight.float(), table, reads, sparse)  # type: ignore[no-untyped-call]
    return sums


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, table: Tensor, reads: Reads, sparse: bool) -> Tensor:
        ctx.save_for_backward(query, _kept(ctx, table, reads))
        ctx.reads, ctx.sparse = reads, sparse
        return row_products(query, table, reads.row)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, table = ctx.saved_tensors
        for_query = for_table = None
        if ctx.needs_input_grad[1]:
            for_table = _row_gradient(table, ctx.reads, gradient, query, ctx.sparse)
            if ctx.needs_input_grad[0]:
                for_query = _Sums.apply(gradient, table, ctx.reads, ctx.sparse)  # type: ignore[no-untyped-call]
        elif ctx.needs_input_grad[0]:
            used = gradient.masked_fill(ctx.reads.row < 0, 0.0)
            for_query = torch.bmm(used.unsqueeze(1), table.float()).squeeze(1)
        return for_query, for_table, None, None


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, table: Tensor, reads: Reads, sparse: bool) -> Tensor:
        ctx.save_for_backward(weight, _kept(ctx, table, reads))
        ctx.reads, ctx.sparse = reads, sparse
        return row_sums(weight, table, reads.row)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, table = ctx.saved_tensors
        for_weight = for_table = None
        if ctx.needs_input_grad[1]:
            for_table = _row_gradient(table, ctx.reads, weight, gradient, ctx.sparse)
            if ctx.needs_input_grad[0]:
                for_weight = _Products.apply(gradient, table, ctx.reads, ctx.sparse)  # type: ignore[no-untyped-call]
        elif ctx.needs_input_grad[0]:
            product = torch.bmm(table.float(), gradient.unsqueeze(2)).squeeze(2)
            for_weight = product.masked_fill(ctx.reads.row < 0, 0.0)
        return for_weight, for_table, None, None


def _kept(ctx: Any, table: Tensor, reads: Reads) -> Tensor | None:
    """What the backward pass needs of a table: all of it or, if it is fixed, copies ``(B, K, D)`` of rows.

    Rows of a fixed table may be overwritten before the backward pass.
    """
    if ctx.needs_input_grad[1]:
        return table
    return table[reads.row.clamp(min=0)] if ctx.needs_input_grad[0] else None


def _row_gradient(table: Tensor, reads: Reads, factor: Tensor, vector: Tensor, sparse: bool) -> Tensor:
    """Gradient of a table: for each row, factors ``(B, K)`` times vectors ``(B, D)`` of its reads, summed."""
    if torch.is_grad_enabled():  # a graph of the gradient is wanted
        used = reads.row >= 0
        each = (factor.unsqueeze(2) * vector.unsqueeze(1))[used].to(table.dtype)
        return _rows(table, reads.row[used], each, sparse, once=False)
    own = reads.by_row
    return _rows(table, own.row, gathered(own, factor, vector).to(table.dtype), sparse, once=True)


def _rows(table: Tensor, row: Tensor, value: Tensor, sparse: bool, *, once: bool) -> Tensor:
    """A gradient that has values ``(n, D)`` in some rows ``(n,)``, each of them ``once`` and ascending."""
    if not sparse:
        return torch.zeros_like(table).index_add(0, row, value)
    return torch.sparse_coo_tensor(
        row.unsqueeze(0), value, table.shape, check_invariants=False, is_coalesced=once or None
    )
