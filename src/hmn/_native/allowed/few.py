"""Shares of allowed rows, counts of them in lists, and search among those that are few."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn._native.allowed.filter import Filter
from hmn._native.arguments import key_rows
from hmn._native.backend import kernels_for
from hmn._native.fallback import allowed as pytorch
from hmn._native.finite import check_vectors
from hmn._native.level import Level
from hmn.results import SearchResult


def share_allowed(allowed: Filter, queries: int, used: int, sampled: int) -> Tensor:
    """Share of rows that queries may find, estimated from some rows.

    Args:
        allowed: rows that each query may find.
        queries: number of queries, B.
        used: number of rows, of which some may have no cell.
        sampled: rows to look at, where there are more.

    Returns:
        ``(B,)`` float32, or ``(1,)`` where the filter is shared; 1 if all of these rows are allowed.
    """
    kernels = kernels_for(allowed.number)
    if kernels is None:
        return pytorch.share_allowed(allowed, used, sampled)
    share = torch.empty(len(allowed.low), dtype=torch.float32, device="cpu")
    kernels.share_allowed(queries, allowed.parts(), used, sampled, share.data_ptr())
    return share


def count_allowed(level: Level, allowed: Filter, rows: int) -> Tensor:
    """Number ``(L,)`` int32 of entries in each list of a last level that a shared filter allows.

    Args:
        level: the level, whose children are rows.
        allowed: rows that may be found.
        rows: number of rows of the keys.
    """
    kernels = kernels_for(allowed.number)
    if kernels is None:
        return pytorch.count_allowed(level, allowed)
    count = torch.empty_like(level.length)
    kernels.count_allowed(level.compiled(kernels), rows, allowed.parts(), count.data_ptr())
    return count


def score_few(
    query: Tensor, keys: Tensor, allowed: Filter, asked: Tensor | None, used: int, few: int, k: int
) -> tuple[SearchResult, Tensor]:
    """Score all rows that queries may find, where these are few, and keep the best.

    Args:
        query: ``(B, D)`` float32.
        keys: ``(rows, D)`` float32, float16 or bfloat16.
        allowed: rows that each query may find.
        asked: ``(B,)`` bool, which queries are asked; None for all.
        used: number of rows, of which some may have no cell.
        few: number of allowed rows up to which a query is answered.
        k: results per query.

    Returns:
        The best ``k`` rows of each query that was answered, nothing for the others; and which were ``(B,)``.

    Raises:
        NonFiniteError: a query holds NaN or infinity, or is too long.
    """
    done = torch.ones(len(query), dtype=torch.bool, device=query.device) if asked is None else asked.clone()
    kernels = kernels_for(query)
    if kernels is None:
        check_vectors(query, "query", 1.5)
        return pytorch.score_few(query, keys, allowed, done, used, few, k)
    query, keys = query.contiguous(), keys.contiguous()
    count, features = query.shape
    result = SearchResult(
        query.new_empty(count, k),
        torch.empty(count, k, dtype=torch.int64, device=query.device),
        query.new_empty(count),
        torch.empty(count, dtype=torch.int64, device=query.device),
    )
    finite = kernels.score_few(
        *(query.data_ptr(), count, features, allowed.parts(), *key_rows(keys, features), used, few),
        *(done.data_ptr(), k, *(part.data_ptr() for part in result), torch.get_num_threads()),
    )
    if not finite:
        check_vectors(query, "query")
    return result, done
