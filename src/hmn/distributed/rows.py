"""Rows of several tensors that travel together, with gradients that travel back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hmn.distributed.collectives import Ranks

Likeness = tuple[torch.dtype, int]
"""Type and number of columns of rows."""


def likeness(rows: Tensor) -> Likeness:
    """Type and number of columns of rows ``(n, F)``."""
    return rows.dtype, rows.shape[1]


def packed(parts: Sequence[Tensor]) -> Tensor:
    """Rows ``(n, F)`` of several tensors side by side, as bytes."""
    return torch.cat([part.detach().contiguous().view(torch.uint8) for part in parts], dim=1)


def unpacked(rows: Tensor, kinds: Sequence[Likeness]) -> list[Tensor]:
    """The tensors that ``packed`` has put side by side."""
    widths = [kind.itemsize * columns for kind, columns in kinds]
    return [
        part.clone(memory_format=torch.contiguous_format).view(kind)
        for part, (kind, _) in zip(torch.split(rows, widths, dim=1), kinds, strict=True)
    ]


def exchange_rows(
    ranks: Ranks, parts: Sequence[Tensor], counts: Sequence[int], step: str, *, average: bool
) -> tuple[Tensor, ...]:
    """Exchange rows of several tensors at once; gradients go back to the ranks that the rows came from.

    Every rank must run the backward pass if one of them does.

    Args:
        ranks: the processes.
        parts: ``(n, F)`` each, ordered by the rank that the rows go to.
        counts: number of rows for each rank.
        step: what the rows are.
        average: whether gradients are divided by the number of ranks, as ``DistributedDataParallel`` does.

    Returns:
        The rows received, one tensor for each part, ordered by the rank that they come from.
    """
    received: tuple[Tensor, ...] = _Exchange.apply(ranks, list(counts), step, average, *parts)  # type: ignore[no-untyped-call]
    return received


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, ranks: Ranks, counts: list[int], step: str, average: bool, *parts: Tensor
    ) -> tuple[Tensor, ...]:
        kinds = [likeness(part) for part in parts]
        received, got = ranks.exchange(packed(parts), counts, step)
        ctx.ranks, ctx.got, ctx.step, ctx.kinds = ranks, got, step, kinds
        ctx.share = 1 / ranks.size if average else 1.0
        return tuple(unpacked(received, kinds))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[4:]  # the same on every rank
        shares = [gradient * ctx.share for gradient, need in zip(gradients, needed, strict=True) if need]
        received, _ = ctx.ranks.exchange(packed(shares), ctx.got, f"gradients of {ctx.step}")
        parts = iter(unpacked(received, [kind for kind, need in zip(ctx.kinds, needed, strict=True) if need]))
        return (None, None, None, None, *(next(parts) if need else None for need in needed))
