"""Rows that queries read, in PyTorch; see ``hmn._native.reading``."""

from __future__ import annotations

import torch
from torch import Tensor


def row_products(query: Tensor, table: Tensor, row: Tensor) -> Tensor:
    """See ``hmn._native.reading.rows.row_products``."""
    used = row >= 0
    product = torch.einsum("bd,bkd->bk", query, _read(table, row))
    return product.masked_fill(~used, 0.0)


def row_sums(weight: Tensor, table: Tensor, row: Tensor) -> Tensor:
    """See ``hmn._native.reading.rows.row_sums``."""
    return torch.einsum("bk,bkd->bd", weight.masked_fill(row < 0, 0.0), _read(table, row))


def gathered(begin: Tensor, place: Tensor, factor: Tensor, vector: Tensor) -> Tensor:
    """See ``hmn._native.reading.rows.gathered``."""
    total = vector.new_zeros(len(begin) - 1, vector.shape[1])
    number = torch.arange(len(total), device=begin.device).repeat_interleave(begin.diff())
    return total.index_add_(
        0, number, factor.flatten()[place].unsqueeze(1) * vector[place // max(1, factor.shape[1])]
    )


def move_rows(
    first: float,
    second: float,
    square_scale: float,
    rate: float,
    eps: float,
    kept: float,
    row: Tensor,
    gradient: Tensor,
    table: Tensor,
    mean: Tensor,
    square: Tensor,
) -> None:
    """See ``hmn._native.reading.steps.move_rows``."""
    if kept != 1:
        table.index_add_(0, row, table[row], alpha=kept - 1)
    own = mean[row].lerp_(gradient, first)
    squares = square[row].mul_(1 - second).addcmul_(gradient, gradient, value=second)
    mean.index_copy_(0, row, own)
    square.index_copy_(0, row, squares)
    spread = squares.mul_(square_scale).sqrt_().add_(eps)
    table.index_add_(0, row, own.div_(spread).to(table.dtype), alpha=-rate)


def _read(table: Tensor, row: Tensor) -> Tensor:
    """Rows ``(B, K, D)`` in float32; any where none is read, or zeros if there are none at all."""
    if not len(table):
        return table.new_zeros(*row.shape, table.shape[1], dtype=torch.float32)
    return table[row.clamp(min=0)].float()
