"""The training loss of a reader."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from hmn.errors import ConfigError, ShapeError


def marginal_nll(score: Tensor, right: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Negative log of the probability that softmax attention gives to the right cells together.

    ``-log(sum over right of exp(score) / sum over all but ignored of exp(score))``: with one right cell
    the usual cross-entropy; with several the marginal likelihood, for questions of which only the answer is
    known.

    Args:
        score: ``(B, C)`` inner products of B queries with C candidate cells.
        right: ``(B, C)`` bool, the cells that answer the question; at least one a row.
        ignored: ``(B, C)`` bool, cells that are neither right nor wrong, such as facts that answer the
            question equally well; right cells are never ignored.

    Returns:
        ``(B,)`` losses, at least 0.

    Raises:
        ShapeError: shapes differ, or a row has no right cell.
    """
    if right.shape != score.shape or (ignored is not None and ignored.shape != score.shape):
        got = [tuple(mask.shape) for mask in (right, ignored) if mask is not None]
        raise ShapeError(f"masks have shapes {got}, expected that of the scores, {tuple(score.shape)}")
    if not bool(right.any(dim=1).all()):
        row = int((~right.any(dim=1)).nonzero()[0])
        raise ShapeError(f"row {row} has no right cell, expected at least one: add it to the candidates")
    considered = score if ignored is None else score.masked_fill(ignored & ~right, -torch.inf)
    loss: Tensor = _MarginalNLL.apply(considered, right)  # type: ignore[no-untyped-call]
    return loss


def sampled_nll(score: Tensor, right: Tensor, probability: Tensor, ignored: Tensor | None = None) -> Tensor:
    """``marginal_nll`` over candidates that were drawn, each counted ``1 / probability`` times.

    With the candidates of ``hmn.index.strategy`` the normaliser has the sum over all cells as its mean
    (Horvitz & Thompson 1952), where the sum over the candidates alone, as in Chandar et al. 2016, is too
    small. Its logarithm, and so the loss, is still a little too small in the mean, by half the normaliser's
    relative variance or so.

    Args:
        score: ``(B, C)`` inner products of B queries with C candidate cells.
        right: ``(B, C)`` bool, as in ``marginal_nll``.
        probability: ``(C,)`` or ``(B, C)`` with which each candidate was drawn, in (0, 1]; no gradient
            flows to it.
        ignored: ``(B, C)`` bool, as in ``marginal_nll``.

    Returns:
        ``(B,)`` losses, at least 0.

    Raises:
        ShapeError: shapes differ, or a row has no right cell.
        ConfigError: a probability is not in (0, 1].
    """
    if probability.shape not in (score.shape, score.shape[1:]):
        expected = f"{tuple(score.shape[1:])} or {tuple(score.shape)}"
        raise ShapeError(f"probability is {tuple(probability.shape)}, expected {expected}: one a candidate")
    bad = ~((probability > 0) & (probability <= 1))  # NaN too
    if bool(bad.any()):
        raise ConfigError(
            f"a candidate has probability {float(probability[bad][0])}, expected above 0 and at most 1: "
            "give those that the strategy drew with"
        )
    return marginal_nll(score - probability.detach().log(), right, ignored)


class _MarginalNLL(torch.autograd.Function):
    """With autograd's own formulas a softmax over a large memory spends most of its step here."""

    @staticmethod
    def forward(ctx: FunctionCtx, score: Tensor, right: Tensor) -> Tensor:
        log_share = torch.log_softmax(score, dim=1)
        row, column = right.nonzero(as_tuple=True)
        of_right = log_share[row, column]
        # rows ascend, and each has a right cell
        best = log_share.new_full((len(score),), -torch.inf).scatter_reduce(0, row, of_right, "amax")
        mass = torch.zeros_like(best).index_add(0, row, (of_right - best[row]).exp())
        total = best + mass.log()
        ctx.save_for_backward(log_share, row, column, (of_right - total[row]).exp())
        return -total.clamp(max=0)  # which rounding can exceed

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        log_share, row, column, share = ctx.saved_tensors  # type: ignore[attr-defined]
        found = log_share.exp().mul_(gradient.unsqueeze(1))
        found[row, column] -= share * gradient[row]
        return found, None
