"""What reads of a written memory compute, in one step each, with gradients by hand.

Recorded operation by operation, a step on a few cells would spend its time on the records of PyTorch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hmn.nn.writing.tape import Gradients, Tape
from hmn.results import Read


def read_cells(
    tape: Tape,
    rows: Tensor,
    heads: Tensor,
    factor: float | Tensor,
    unused: Tensor | None,
    features: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Read rows ``(S, M, K)`` by the scores of their keys, with gradients; see ``weighed``."""
    held = tape.rows[rows]  # (S, M, K, W)
    if not torch.is_grad_enabled():
        return weighed(held, heads, factor, unused, features)[:3]
    value, weight, score = tape.apply(_Weigh, rows, held, heads, factor, unused, features)
    return value, weight, score


class _Weigh(torch.autograd.Function):
    """Softmax over the scores of cells, and the sum of their values by these weights; see ``weighed``."""

    @staticmethod
    def forward(
        ctx: Any,
        token: Tensor,
        slots: Tensor,
        gradients: Gradients,
        rows: Tensor,
        heads: Tensor,
        factor: float | Tensor,
        unused: Tensor | None,
        features: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        value, weight, score, below = weighed(rows, heads, factor, unused, features)
        ctx.set_materialize_grads(False)
        learned = isinstance(factor, Tensor)
        ctx.save_for_backward(rows, heads, weight, below, factor if learned else None)
        ctx.factor = None if learned else factor
        ctx.slots, ctx.gradients, ctx.unused, ctx.features = slots, gradients, unused, features
        return value, weight, score, token.clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_value: Tensor | None, of_weight: Tensor | None, of_score: Tensor | None, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        # 1. From the sum to the weights, and through the softmax to the scores.
        # 2. From the scores to keys and queries; from the sum to the values.
        rows, heads, weight, below, factor = ctx.saved_tensors
        keys, values = _halves(rows.to(weight.dtype), ctx.features)
        asked = heads.to(weight.dtype).unsqueeze(2)  # (S, M, 1, D)
        of_factor, change = None, of_weight
        if of_value is not None:
            by_value = (of_value.unsqueeze(2) * values).sum(dim=3)  # (S, M, K)
            change = by_value if change is None else change + by_value
        scores = None if of_score is None or ctx.unused is None else of_score.masked_fill(ctx.unused, 0.0)
        scores = of_score if ctx.unused is None else scores
        if change is not None:
            change = weight * (change - (weight * change).sum(dim=2, keepdim=True))
            if factor is not None and ctx.needs_input_grad[5]:
                of_factor = (change * below).sum_to_size(factor.shape).to(factor.dtype)
            change = change * (ctx.factor if factor is None else factor)
            scores = change if scores is None else scores + change
        if scores is None:
            return ctx.gradients.nothing, *[None] * 7
        scores = scores.unsqueeze(3)  # (S, M, K, 1)
        of_rows = scores * asked
        if of_value is not None:
            of_values = weight.unsqueeze(3) * of_value.unsqueeze(2)
            of_rows = torch.cat([of_rows, of_values], dim=3) if values is not keys else of_rows + of_values
        elif values is not keys:
            of_rows = torch.nn.functional.pad(of_rows, (0, values.shape[3]))
        ctx.gradients.add(ctx.slots, of_rows.reshape(len(ctx.slots), -1))
        of_heads = (scores * keys).sum(dim=2).to(heads.dtype)
        return ctx.gradients.nothing, None, None, None, of_heads, of_factor, None, None


def weighed(
    rows: Tensor, heads: Tensor, factor: float | Tensor, unused: Tensor | None, features: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Read rows by the scores of their keys.

    Args:
        rows: ``(S, M, K, W)`` of the cells of each head; some row in unused places.
        heads: ``(S, M, D)`` queries.
        factor: of the scores in the softmax: a number, or a tensor that fits ``(S, M, 1)``.
        unused: ``(S, M, K)`` places without a cell; None where there are none.
        features: D; a row has its value after its key, or has no value but its key.

    Returns:
        Sums ``(S, M, V)``, weights, scores, and how far the scores lie below the best ``(S, M, K)``.
    """
    dtype = torch.promote_types(torch.promote_types(rows.dtype, heads.dtype), torch.float32)
    keys, values = _halves(rows.to(dtype), features)
    score = (keys * heads.to(dtype).unsqueeze(2)).sum(dim=3)
    if unused is None:
        below = score - score.amax(dim=2, keepdim=True)
        weight = torch.softmax(factor * below, dim=2)
    else:
        best = score.masked_fill(unused, -torch.inf).amax(dim=2, keepdim=True)
        below = score - best.clamp(min=-1e30)
        lowest = torch.finfo(dtype).min  # -inf gives NaN in a softmax of nothing
        weight = torch.softmax((factor * below).masked_fill(unused, lowest), dim=2).masked_fill(unused, 0.0)
        score = score.masked_fill(unused, -torch.inf)
    return (weight.unsqueeze(3) * values).sum(dim=2), weight, score, below


def _halves(rows: Tensor, features: int) -> tuple[Tensor, Tensor]:
    """Keys and values of rows; without values, the keys twice."""
    if rows.shape[-1] == features:
        return rows, rows
    return rows[..., :features], rows[..., features:]


def merged(cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Cells ``(S, M, n)`` each once, with the weights of all its places; -1 and 0 in the places set free."""
    same = (cell.unsqueeze(3) == cell.unsqueeze(2)) & (cell >= 0).unsqueeze(3)  # (S, M, n, n)
    total = (same.to(weight.dtype) @ weight.unsqueeze(3)).squeeze(3)
    repeated = same.tril(-1).any(dim=3)
    return cell.masked_fill(repeated, -1), total.masked_fill(repeated, 0.0)


def shaped(read: Read, shape: torch.Size) -> Read:
    """A read of heads ``(S, M)`` with the leading dimensions that the query had."""
    if read.weight.shape[:-1] == shape:
        return read
    return Read(*(part.reshape(*shape, *part.shape[2:]) for part in read))
