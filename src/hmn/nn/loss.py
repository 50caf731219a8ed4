"""The training loss of a reader."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from hmn.errors import ConfigError, ShapeError

TILE = 2048
"""Keys that ``fixed_keys_nll`` scores at a time on a processor: theirs and their scores stay in its cache."""
TILE_ACCELERATOR = 65_536


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

    With the candidates of ``hmn.nn.candidates.draw`` the normaliser has the sum over all cells as its mean
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


def fixed_keys_nll(
    query: Tensor, keys: Tensor, row: Tensor, column: Tensor, cell: Tensor | None = None
) -> Tensor:
    """``marginal_nll`` of queries over keys that are not trained, without the matrix of all scores.

    Keys are scored a tile at a time; the sums and the gradient of the softmax are brought up to date with
    each, as Milakov & Gimelshein 2018 do for the sums and Dao et al. 2022 for attention, so that every key is
    fetched once. The gradient is computed with the loss, whether it is asked for or not.

    Args:
        query: ``(B, D)``, at least one.
        keys: ``(N, D)`` without gradients, of the same type and on the same device.
        row: ``(R,)`` int64, the query of each pair of a query and one of its right cells.
        column: ``(R,)`` int64, the place of that cell among the candidates; every query has at least one.
        cell: ``(C,)`` int64, the candidates among the keys, each once; all keys if not given.

    Returns:
        ``(B,)`` losses, at least 0.

    Raises:
        ShapeError: shapes differ, or a query has no right cell.
        ConfigError: the keys are trained.
    """
    if keys.requires_grad:
        raise ConfigError(
            "the keys have gradients, expected fixed ones: give keys.detach(), or train them by marginal_nll"
        )
    if query.dim() != 2 or keys.dim() != 2 or query.shape[1] != keys.shape[1]:
        got = f"queries {tuple(query.shape)} and keys {tuple(keys.shape)}"
        raise ShapeError(f"got {got}, expected (B, D) and (N, D) of one width")
    if row.shape != column.shape or row.dim() != 1:
        got = f"row {tuple(row.shape)} and column {tuple(column.shape)}"
        raise ShapeError(f"got {got}, expected (R,) and (R,): a pair for each right cell of a query")
    without = torch.bincount(row, minlength=len(query)) == 0
    if bool(without.any()):
        first = int(without.nonzero()[0])
        raise ShapeError(f"row {first} has no right cell, expected at least one: add it to the candidates")
    loss: Tensor = _FixedKeysNLL.apply(query, keys, row, column, cell)  # type: ignore[no-untyped-call]
    return loss


class _FixedKeysNLL(torch.autograd.Function):
    """Sums over all candidates tile by tile, relative to the best score so far of each query."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, query: Tensor, keys: Tensor, row: Tensor, column: Tensor, cell: Tensor | None
    ) -> Tensor:
        count = len(keys) if cell is None else len(cell)
        tile = min(count, TILE if query.device.type == "cpu" else TILE_ACCELERATOR)
        held, scores = keys.new_empty(tile, keys.shape[1]), keys.new_empty(tile, len(query))
        best = query.new_full((len(query),), -torch.inf)
        mass, mean = torch.zeros_like(best), torch.zeros_like(query)
        turned = query.T.contiguous()
        for at in range(0, count, tile):
            size = min(tile, count - at)
            if cell is None:
                part = keys[at : at + size]
            else:
                part = torch.index_select(keys, 0, cell[at : at + size], out=held[:size])
            share = torch.mm(part, turned, out=scores[:size])  # (T, B)
            risen = torch.maximum(best, share.amax(dim=0))
            fallen, best = (best - risen).exp_(), risen
            share.sub_(best).exp_()
            mass.mul_(fallen).add_(share.sum(dim=0))
            mean.mul_(fallen.unsqueeze(1)).addmm_(share.T, part)
        own = keys[column if cell is None else cell[column]]  # (R, D)
        score = (query[row] * own).sum(dim=1)
        top = torch.full_like(best, -torch.inf).scatter_reduce(0, row, score, "amax")
        right = torch.zeros_like(best).index_add(0, row, (score - top[row]).exp())
        of_right = top + right.log()
        gradient = mean.div_(mass.unsqueeze(1))
        gradient.index_add_(0, row, own * (score - of_right[row]).exp().neg().unsqueeze(1))
        ctx.save_for_backward(gradient)
        return (best + mass.log() - of_right).clamp(min=0)  # which rounding can fall below

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (found,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return found * gradient.unsqueeze(1), None, None, None, None


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
