"""Candidates from buckets: gather the rows that lookups list, and keep the most frequent."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn._native.arguments import address
from hmn._native.backend import kernels_for
from hmn._native.fallback import buckets as pytorch


def list_rows(listed: Tensor, begin: Tensor, size: Tensor, filled: Tensor, candidate: Tensor) -> None:
    """Copy the rows of each query's lookups, one lookup after another, into its line of candidates.

    Args:
        listed: ``(M,)`` int32 rows of all buckets.
        begin: ``(B, L)`` int64 position in ``listed`` of each lookup's first row.
        size: ``(B, L)`` int64 rows per lookup.
        filled: ``(B,)`` int64 places at the start of each line that are taken already.
        candidate: ``(B, C)`` int64, contiguous and wide enough; modified in place.
    """
    kernels = kernels_for(listed)
    if kernels is None:
        pytorch.list_rows(listed, begin, size, filled, candidate)
        return
    listed, begin, size, filled = (part.contiguous() for part in (listed, begin, size, filled))
    queries, count = len(size), size.shape[-1]
    kernels.list_rows(
        address(listed, torch.int32, (len(listed),), "the rows listed"),
        len(listed),
        address(begin, torch.int64, (queries, count), "the first rows of lookups"),
        address(size, torch.int64, (queries, count), "the sizes of lookups"),
        queries,
        count,
        address(filled, torch.int64, (queries,), "the places taken"),
        address(candidate, torch.int64, (queries, candidate.shape[-1]), "candidates"),
        candidate.shape[1],
        torch.get_num_threads(),
    )


def most_frequent(candidate: Tensor, limit: int) -> Tensor:
    """Keep the candidates of each query that are listed most often.

    Args:
        candidate: ``(B, C)`` int64 rows below 2^31; ``-1`` is skipped.
        limit: most candidates to keep per query, at least 1. Of equally frequent rows, the smallest stay.

    Returns:
        ``(B, W)`` int64, each row once and in no particular order, unused places ``-1``.
    """
    kernels = kernels_for(candidate)
    if kernels is None:
        return pytorch.most_frequent(candidate, limit)
    candidate, limit = candidate.contiguous(), min(limit, candidate.shape[-1])
    kept = candidate.new_empty(len(candidate), limit)
    longest = kernels.most_frequent(
        address(candidate, torch.int64, (len(candidate), candidate.shape[-1]), "candidates"),
        *candidate.shape,
        limit,
        kept.data_ptr(),
        torch.get_num_threads(),
    )
    return kept[:, :longest]
