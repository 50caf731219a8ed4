"""The training loss of a reader."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from hmn.errors import ConfigError, ShapeError
from hmn.nn.settings import as_floats, as_mask

TILE = 2048
"""Number of keys that ``fixed_keys_nll`` scores at a time on a CPU: they and their scores fit its cache."""
TILE_ACCELERATOR = 65_536
"""Number of keys that ``fixed_keys_nll`` scores at a time on an accelerator."""


def marginal_nll(score: Tensor, right: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Negative log of the probability that softmax attention gives to the right cells together.

    ``-log(sum over right of exp(score) / sum over all but ignored of exp(score))``. With one right cell this
    is the usual cross-entropy; with several it is the marginal likelihood, for questions with a known answer
    but no known fact.

    Args:
        score: ``(B, C)`` inner products of B queries with C candidate cells.
        right: ``(B, C)`` bool, the cells that answer the question; at least one per row.
        ignored: ``(B, C)`` bool, cells that are neither right nor wrong, such as facts that answer the
            question equally well; right cells are never ignored.

    Returns:
        ``(B,)`` losses, at least 0.

    Raises:
        ShapeError: shapes differ, or a row has no right cell.
    """
    score, right = as_floats(score, "score"), as_mask(right, "right")
    ignored = None if ignored is None else as_mask(ignored, "ignored")
    if score.dim() != 2:
        raise ShapeError(f"score is {tuple(score.shape)}, expected (B, C): a row for each query")
    if right.shape != score.shape or (ignored is not None and ignored.shape != score.shape):
        got = [tuple(mask.shape) for mask in (right, ignored) if mask is not None]
        raise ShapeError(f"masks have shapes {got}, expected that of the scores, {tuple(score.shape)}")
    if not bool(right.any(dim=1).all()):
        row = int((~right.any(dim=1)).nonzero()[0])
        raise ShapeError(f"row {row} has no right cell, expected at least one: add it to the candidates")
    score = score.to(torch.promote_types(score.dtype, torch.float32))  # sums in half precision are too coarse
    considered = score if ignored is None else score.masked_fill(ignored & ~right, -torch.inf)
    loss: Tensor = _MarginalNLL.apply(considered, right)  # type: ignore[no-untyped-call]
    return loss


def sampled_nll(score: Tensor, right: Tensor, probability: Tensor, ignored: Tensor | None = None) -> Tensor:
    """``marginal_nll`` over candidates that were drawn, each counted ``1 / probability`` times.

    The sum over the candidates alone, as in Chandar et al. 2016, is too small. Weighted, its expectation is
    the sum over all cells (Horvitz & Thompson 1952). Its logarithm, and so the loss, is still biased
    downwards, by about half the relative variance of the normaliser.

    Args:
        score: ``(B, C)`` inner products of B queries with C candidate cells.
        right: ``(B, C)`` bool, as in ``marginal_nll``.
        probability: ``(C,)`` or ``(B, C)`` inclusion probability of each candidate, in (0, 1]; no gradient
            flows to it.
        ignored: ``(B, C)`` bool, as in ``marginal_nll``.

    Returns:
        ``(B,)`` losses, at least 0.

    Raises:
        ShapeError: shapes differ, or a row has no right cell.
        ConfigError: a probability is not in (0, 1].
    """
    score, probability = as_floats(score, "score"), as_floats(probability, "probability")
    if probability.shape not in (score.shape, score.shape[1:]):
        expected = f"{tuple(score.shape[1:])} or {tuple(score.shape)}"
        raise ShapeError(f"probability is {tuple(probability.shape)}, expected {expected}: one per candidate")
    bad = ~((probability > 0) & (probability <= 1))  # NaN too
    if bool(bad.any()):
        raise ConfigError(
            f"a candidate has probability {float(probability[bad][0])}, expected above 0 and at most 1: "
            "give the probabilities that the strategy returned"
        )
    return marginal_nll(score - probability.detach().log(), right, ignored)


def fixed_keys_nll(
    query: Tensor, keys: Tensor, row: Tensor, column: Tensor, cell: Tensor | None = None
) -> Tensor:
    """``marginal_nll`` of queries over keys that are not trained, without the matrix of all scores.

    Keys are scored one tile at a time. Each tile updates the sums and the gradient of the softmax, as
    Milakov & Gimelshein 2018 do for the sums and Dao et al. 2022 for attention, so that every key is fetched
    once. The gradient is always computed together with the loss.

    Args:
        query: ``(B, D)``, at least one.
        keys: ``(N, D)`` without gradients, on the same device.
        row: ``(R,)`` int64, the query of each pair of a query and one of its right cells.
        column: ``(R,)`` int64, the position of that cell among the candidates; every query has at least one.
        cell: ``(C,)`` int64, the candidates among the keys, each once; all keys if not given.

    Returns:
        ``(B,)`` losses, at least 0.

    Raises:
        ShapeError: shapes differ, or a query has no right cell.
        ConfigError: the keys are trained.
    """
    if keys.requires_grad:
        raise ConfigError(
            "the keys have gradients, expected fixed keys: give keys.detach(), or train with marginal_nll"
        )
    if query.dim() != 2 or keys.dim() != 2 or query.shape[1] != keys.shape[1]:
        got = f"queries {tuple(query.shape)} and keys {tuple(keys.shape)}"
        raise ShapeError(f"got {got}, expected (B, D) and (N, D) with the same D")
    if row.shape != column.shape or row.dim() != 1:
        got = f"row {tuple(row.shape)} and column {tuple(column.shape)}"
        raise ShapeError(f"got {got}, expected (R,) and (R,): a pair for each right cell of a query")
    lacking = torch.bincount(row, minlength=len(query)) == 0  # (B,) queries without a right cell
    if bool(lacking.any()):
        first = int(lacking.nonzero()[0])
        raise ShapeError(f"row {first} has no right cell, expected at least one: add it to the candidates")
    query = query.to(torch.promote_types(query.dtype, torch.float32))  # in float16, products overflow
    loss: Tensor = _FixedKeysNLL.apply(query, keys, row, column, cell)  # type: ignore[no-untyped-call]
    return loss


class _FixedKeysNLL(torch.autograd.Function):
    """Sums over all candidates, tile by tile, relative to each query's best score so far."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, query: Tensor, keys: Tensor, row: Tensor, column: Tensor, cell: Tensor | None
    ) -> Tensor:
        # 1. Per tile of keys: score it, rescale the sums to the new best score, add the tile's share.
        # 2. Score the right cells by themselves, and take their log-sum from that of all candidates.
        # 3. The gradient by the query: the mean key under the softmax minus that of the right cells.
        count = len(keys) if cell is None else len(cell)
        tile = min(count, TILE if query.device.type == "cpu" else TILE_ACCELERATOR)
        held, scores = keys.new_empty(tile, keys.shape[1]), query.new_empty(tile, len(query))
        best = query.new_full((len(query),), -torch.inf)
        mass, mean = torch.zeros_like(best), torch.zeros_like(query)  # (B,), (B, D)
        turned = query.T.contiguous()  # (D, B)
        for start in range(0, count, tile):
            size = min(tile, count - start)
            if cell is None:
                part = keys[start : start + size]  # (T, D)
            else:
                part = torch.index_select(keys, 0, cell[start : start + size], out=held[:size])  # (T, D)
            part = part.to(query.dtype)
            share = torch.mm(part, turned, out=scores[:size])  # (T, B)
            risen = torch.maximum(best, share.amax(dim=0))  # (B,)
            fallen, best = (best - risen).exp_(), risen
            share.sub_(best).exp_()
            mass.mul_(fallen).add_(share.sum(dim=0))
            mean.mul_(fallen.unsqueeze(1)).addmm_(share.T, part)
        own = keys[column if cell is None else cell[column]].to(query.dtype)  # (R, D)
        score = (query[row] * own).sum(dim=1)  # (R,)
        top = torch.full_like(best, -torch.inf).scatter_reduce(0, row, score, "amax")
        right = torch.zeros_like(best).index_add(0, row, (score - top[row]).exp())
        of_right = top + right.log()
        gradient = mean.div_(mass.unsqueeze(1))
        gradient.index_add_(0, row, own * (score - of_right[row]).exp().neg().unsqueeze(1))
        ctx.save_for_backward(gradient)
        return (best + mass.log() - of_right).clamp(min=0)  # rounding can fall below 0

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (by_query,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return by_query * gradient.unsqueeze(1), None, None, None, None


class _MarginalNLL(torch.autograd.Function):
    """The loss with its own gradient: autograd's formulas would take most of a step over a large memory."""

    @staticmethod
    def forward(ctx: FunctionCtx, score: Tensor, right: Tensor) -> Tensor:
        log_share = torch.log_softmax(score, dim=1)
        row, column = right.nonzero(as_tuple=True)
        of_right = log_share[row, column]  # (R,)
        # rows ascend, and each has a right cell
        best = log_share.new_full((len(score),), -torch.inf).scatter_reduce(0, row, of_right, "amax")
        mass = torch.zeros_like(best).index_add(0, row, (of_right - best[row]).exp())
        total = best + mass.log()
        ctx.save_for_backward(log_share, row, column, (of_right - total[row]).exp())
        return -total.clamp(max=0)  # rounding can exceed 0

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        log_share, row, column, share = ctx.saved_tensors  # type: ignore[attr-defined]
        by_score = log_share.exp().mul_(gradient.unsqueeze(1))  # (B, C)
        by_score[row, column] -= share * gradient[row]
        return by_score, None
