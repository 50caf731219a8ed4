"""The training loss of a reader."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn.errors import ShapeError


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
    of_right = torch.logsumexp(score.masked_fill(~right, -torch.inf), dim=1)
    return torch.logsumexp(considered, dim=1) - of_right
