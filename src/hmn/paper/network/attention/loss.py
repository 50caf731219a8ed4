"""The loss of a softmax over candidates, with a short path for questions that have one right cell each."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.nn.loss import fixed_keys_nll
from hmn.paper.network.question_words import Asked


def single_cells(asked: Asked, numbers: NDArray[np.int64]) -> Tensor | None:
    """The right cell ``(B,)`` of each question; None if any has several."""
    right = asked.target.right.take(numbers)
    return torch.from_numpy(right.flat) if bool((right.length == 1).all()) else None


def cells_to_add(query: Tensor, keys: Tensor, asked: Asked, numbers: NDArray[np.int64]) -> Tensor:
    """Right cells ``(T,)`` that the candidates must hold.

    Args:
        query: ``(B, D)`` queries of the questions.
        keys: ``(N, D)`` keys of all cells.
        asked: all questions.
        numbers: ``(B,)`` numbers of those in the batch.
    """
    single = single_cells(asked, numbers)
    if single is not None:
        return single.to(query.device)
    return asked.target.added(numbers, query, keys.__getitem__)


def candidate_nll(
    query: Tensor, keys: Tensor, cell: Tensor, asked: Asked, numbers: NDArray[np.int64]
) -> Tensor:
    """Mean loss of a softmax over the candidates ``cell`` ``(C,)``, ascending; otherwise as above."""
    single = single_cells(asked, numbers)
    if single is not None:
        row = torch.arange(len(numbers))  # (B,)
        column = torch.searchsorted(cell, single.to(cell.device))  # (B,)
    else:
        right, _ = asked.target.masks(numbers, cell)  # (B, C)
        row, column = right.nonzero(as_tuple=True)  # (R,) each
    candidates = None if len(cell) == len(keys) else cell
    return fixed_keys_nll(query, keys, row.to(cell.device), column, candidates).mean()
