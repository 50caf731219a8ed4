"""Rows that lookups list, and which of them are listed most often."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn._native.backend import kernels_for
from hmn._native.fallback import buckets as pytorch


def list_rows(listed: Tensor, begin: Tensor, size: Tensor, filled: Tensor, candidate: Tensor) -> None:
    """Write the rows that lookups list one after another into the lines of their queries.

    Args:
        listed: ``(M,)`` int32 rows.
        begin: ``(B, L)`` int64, where each lookup's rows begin among them.
        size: ``(B, L)`` int64, how many they are.
        filled: ``(B,)`` int64, how many places of each line are taken already.
        candidate: ``(B, C)`` int64, contiguous, is changed; wide enough.
    """
    kernels = kernels_for(listed)
    if kernels is None:
        pytorch.list_rows(listed, begin, size, filled, candidate)
        return
    listed, begin, size, filled = (one.contiguous() for one in (listed, begin, size, filled))
    kernels.list_rows(
        listed.data_ptr(),
        begin.data_ptr(),
        size.data_ptr(),
        *size.shape,
        filled.data_ptr(),
        candidate.data_ptr(),
        candidate.shape[1],
        torch.get_num_threads(),
    )


def most_frequent(candidate: Tensor, limit: int) -> Tensor:
    """The candidates of each query that are listed most often.

    Args:
        candidate: ``(B, C)`` int64 rows below 2^31; ``-1`` for none.
        limit: kept for a query at most, at least 1; of those that are there equally often the smallest rows.

    Returns:
        ``(B, W)`` int64, each row once and in no particular order, unused places ``-1``.
    """
    kernels = kernels_for(candidate)
    if kernels is None:
        return pytorch.most_frequent(candidate, limit)
    candidate, limit = candidate.contiguous(), min(limit, candidate.shape[1])
    kept = candidate.new_empty(len(candidate), limit)
    longest = kernels.most_frequent(
        candidate.data_ptr(), *candidate.shape, limit, kept.data_ptr(), torch.get_num_threads()
    )
    return kept[:, :longest]
