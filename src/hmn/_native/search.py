"""Searches by the kernels that the queries' device has: through levels of lists, by bounds, and in full."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hmn._native import backend
from hmn._native.backend import STORAGE, kernels_for
from hmn._native.fallback import buckets as pytorch_buckets
from hmn._native.fallback import search as pytorch
from hmn._native.finite import check_finite
from hmn._native.level import Level
from hmn.results import SearchResult


def search_levels(
    query: Tensor,
    levels: Sequence[Level],
    directions: Sequence[Tensor | None],
    probes: Sequence[int],
    keys: Tensor,
    rescored: int,
    k: int,
    margins: Sequence[float] | None = None,
    weights: Sequence[Tensor] | None = None,
) -> SearchResult:
    """Find the best rows through levels of lists of coded entries; see ``hmn.index.structures.cluster``.

    Every query enters the one list of the first level. Of the entries that it scores by their codes, the best
    ``probes[0]`` are entered as lists of the second level, and so on; of the last level's, the best
    ``rescored`` are scored in full.

    Args:
        query: ``(B, D)`` float32.
        levels: at least one; the children of each are lists of the next, of the last rows of the keys.
        directions: the vectors ``(lists, D)`` float32 of the lists of each level but the first; None where
            what their codes stand for is their vector, whose score is known when they are entered.
        probes: lists to enter at each level but the first.
        keys: ``(rows, D)`` float32, float16 or bfloat16.
        rescored: rows that are scored in full, at least ``k``.
        k: results a query.
        margins: of the lists that ``probes`` would have entered, only those are whose score is within so many
            lengths of the query from the best of their level.
        weights: for each level, by its children ``(n,)`` float32, above 0: what the scores of entries are
            multiplied by where they are compared; they are known as they are when a list is entered, which
            needs ``directions`` to be None. What is scored in full is compared as it is.

    Returns:
        The best ``k`` rows, as its cells.

    Raises:
        NonFiniteError: a query holds NaN or infinity.
    """
    kernels = kernels_for(query)
    if kernels is None:
        check_finite(query, "query")
        return pytorch.search_levels(query, levels, directions, probes, keys, rescored, k, margins, weights)
    query, keys = _fitting(query, keys)
    directions = [None if one is None else one.contiguous() for one in directions]
    score = torch.empty(len(query), k)
    row = torch.empty(len(query), k, dtype=torch.int64)
    reads = torch.empty(len(query))
    scored = torch.empty(len(query), dtype=torch.int64)
    finite = kernels.search(
        query.data_ptr(),
        *query.shape,
        [level.compiled(kernels) for level in levels],
        [0 if one is None else one.data_ptr() for one in directions],
        list(probes),
        [math.inf] * len(probes) if margins is None else list(margins),
        [0] * len(levels) if weights is None else [one.data_ptr() for one in weights],
        keys.data_ptr(),
        STORAGE[keys.dtype],
        rescored,
        k,
        score.data_ptr(),
        row.data_ptr(),
        reads.data_ptr(),
        scored.data_ptr(),
        torch.get_num_threads(),
    )
    if not finite:
        check_finite(query, "query")
    return SearchResult(score, row, reads, scored)


def screens() -> bool:
    """Whether ``screened`` can be used, and is faster than scoring every key."""
    return backend.kernels() not in {"twin", "portable"}


def screening_bits() -> int:
    """Bits of the codes that are screened fastest.

    AVX2 multiplies pairs of 16 bits as fast as it does those of 8, which must not overflow; their bounds are
    fifty times as tight.
    """
    return 16 if backend.kernels() == "avx2" else 8


def screened(
    query: Tensor, level: Level, ratio: float, keys: Tensor, room: int, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the best rows by bounds on scores, from codes of 8 or 16 bits; see ``structures.screening``.

    Args:
        query: ``(B, D)`` float32, on the CPU.
        level: of lists of all rows; ``along`` is the length of what a row's codes stand for, and how far this
            is from the row divided by ``ratio``.
        ratio: see there.
        keys: ``(rows, D)`` float32, float16 or bfloat16.
        room: rows of highest bound that are kept for each query, to be scored in full.
        k: results a query, at most ``room``.

    Returns:
        ``score`` (B, k) float32 and ``row`` (B, k) int64, best first, unused places ``-inf`` and ``-1``, and
        whether these are the best of all rows, ``(B,)`` bool: no bound of another exceeds the last score.

    Raises:
        NonFiniteError: a query holds NaN or infinity.
    """
    kernels = kernels_for(query)
    if kernels is None:
        raise RuntimeError("nothing is screened without compiled kernels: ask screens() first")
    query, keys = _fitting(query, keys)
    score = torch.empty(len(query), k)
    row = torch.empty(len(query), k, dtype=torch.int64)
    certain = torch.empty(len(query), dtype=torch.bool)
    finite = kernels.screened(
        query.data_ptr(),
        *query.shape,
        level.compiled(kernels),
        ratio,
        keys.data_ptr(),
        STORAGE[keys.dtype],
        room,
        k,
        score.data_ptr(),
        row.data_ptr(),
        certain.data_ptr(),
        torch.get_num_threads(),
    )
    if not finite:
        check_finite(query, "query")
    return score, row, certain


def best_of(query: Tensor, keys: Tensor, candidate: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Score candidates in full and keep the best.

    Args:
        query: ``(B, D)`` float32.
        keys: ``(rows, D)`` float32, float16 or bfloat16.
        candidate: ``(B, C)`` int64 rows; ``-1`` for none, repeats count once.
        k: results a query.

    Returns:
        ``score`` (B, k) float32 and ``row`` (B, k) int64, best first, unused places ``-inf`` and ``-1``.
    """
    kernels = kernels_for(query)
    if kernels is None:
        return pytorch_buckets.best_of(query, keys, candidate, k)
    query, keys = _fitting(query, keys)
    if candidate.dtype != torch.int64 or candidate.dim() != 2 or len(candidate) != len(query):
        got = f"{tuple(candidate.shape)} of {candidate.dtype}"
        raise ValueError(f"candidates are {got}, expected int64 rows, as many as the {len(query)} queries")
    if candidate.numel() and int(candidate.max()) >= len(keys):
        raise ValueError(f"there is a candidate {int(candidate.max())}, expected rows below {len(keys)}")
    candidate = candidate.contiguous()
    score = torch.empty(len(query), k)
    row = torch.empty(len(query), k, dtype=torch.int64)
    kernels.best_of(
        query.data_ptr(),
        *query.shape,
        keys.data_ptr(),
        STORAGE[keys.dtype],
        candidate.data_ptr(),
        candidate.shape[1],
        k,
        score.data_ptr(),
        row.data_ptr(),
        torch.get_num_threads(),
    )
    return score, row


def _fitting(query: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys as the kernels take them, which trust what they are given."""
    if query.dtype != torch.float32 or query.shape[1:] != keys.shape[1:]:
        got = f"{tuple(query.shape)} of {query.dtype}"
        raise ValueError(f"queries are {got}, expected float32 with {keys.shape[1]} features")
    return query.contiguous(), keys.contiguous()
