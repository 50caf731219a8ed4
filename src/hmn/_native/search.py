"""Search: through levels of coded lists, by upper bounds, and by scoring candidates in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hmn._native import backend
from hmn._native.allowed.filter import Enough, Filter
from hmn._native.arguments import address, key_rows
from hmn._native.backend import kernels_for
from hmn._native.fallback import buckets as pytorch_buckets
from hmn._native.fallback import search as pytorch
from hmn._native.finite import check_vectors
from hmn._native.level import Begin, Level
from hmn._native.watch import LEVELS, Steps
from hmn.errors import ShapeError
from hmn.results import SearchResult


def search_levels(
    query: Tensor,
    levels: Sequence[Level],
    directions: Sequence[Tensor | None],
    probes: Sequence[int],
    keys: Tensor,
    rescored: int,
    k: int,
    weights: Sequence[Tensor] | None = None,
    *,
    held: Sequence[Tensor] | None = None,
    begin: Begin | None = None,
    allowed: Filter | None = None,
    enough: Enough | None = None,
    places: int = 0,
    wider: Callable[[Tensor], SearchResult] | None = None,
) -> SearchResult:
    """Find the best rows through levels of lists of coded entries; see ``hmn.index.structures.cluster``.

    Every query enters the only list of the first level, or those of ``begin``, and scores the entries by
    their codes. The best ``probes[0]`` of them name the lists of the second level that it enters, and so on.
    In the last level, the best ``rescored`` entries are scored again by their keys.

    Args:
        query: ``(B, D)`` float32.
        levels: L levels, at least one. The children of a level are lists of the next level; the children of
            the last level are rows of the keys.
        directions: for each level but the first, the vectors ``(lists, D)`` float32 of its lists. With None,
            a list's vector is what its code stands for, and its score by code is used.
        probes: L - 1 numbers of lists to enter, for each level but the first.
        keys: ``(rows, D)`` float32, float16 or bfloat16.
        rescored: rows to score in full; if they are fewer than ``k``, the other places stay unused. Without
            codes, at least ``k``.
        k: results per query.
        weights: for each level, a factor above 0 per child ``(n,)`` float32. Entries of a level are compared
            by their weighted scores; scores in full are compared without weights. Where a level but the last
            has weights, ``directions`` must be None.
        held: for each level, or each but the last, what each child holds ``(n,)`` int32: children that hold
            nothing are passed over. None where all may be entered.
        begin: lists of the first level to enter, in place of its only one.
        allowed: rows that each query may find; None for all.
        enough: of the lists of the last level that ``probes`` finds, enter as many as hold enough allowed
            rows. Needs at least two levels.
        places: results that a query should have: ``k``, or the number of all rows if that is less.
        wider: a search that looks further. It is asked those queries that have fewer results than
            ``places``, if there are any; see ``filled``.

    Returns:
        The best ``k`` rows per query; ``cell`` holds rows.

    Raises:
        NonFiniteError: a query holds NaN or infinity, or is too long.
    """
    seen = LEVELS.notes
    kernels = kernels_for(query) if seen is None else None
    if kernels is None:
        check_vectors(query, "query", 1.5)  # as the kernels do: rounding makes vectors a little longer
        steps = None if seen is None else Steps(levels)
        result = pytorch.search_levels(
            *(query, levels, directions, probes, keys, rescored, k, weights),
            held=held,
            begin=begin,
            allowed=allowed,
            enough=enough,
            steps=steps,
        )
        if seen is not None and steps is not None:
            seen.append(steps)
        return result if wider is None else filled(result, query, places, wider)
    query, keys, count, features = _checked(query, keys)
    directions = [None if vectors is None else vectors.contiguous() for vectors in directions]
    score = query.new_empty(count, k)
    row = query.new_empty(count, k, dtype=torch.int64)
    reads = query.new_empty(count)
    scored = query.new_empty(count, dtype=torch.int64)
    unfilled = kernels.search(
        query.data_ptr(),
        count,
        features,
        [level.compiled(kernels) for level in levels],
        [_rows(vectors, features) for vectors in directions],
        list(probes),
        [] if weights is None else [_numbers(weight, torch.float32, "weights") for weight in weights],
        [] if held is None else [_numbers(each, torch.int32, "what lists hold") for each in held],
        *_lists(begin, count),
        [] if allowed is None else allowed.parts(),
        *key_rows(keys, features),
        rescored,
        *_enough(enough, count),
        places,
        k,
        score.data_ptr(),
        row.data_ptr(),
        reads.data_ptr(),
        scored.data_ptr(),
        torch.get_num_threads(),
    )
    if unfilled < 0:
        check_vectors(query, "query")
    result = SearchResult(score, row, reads, scored)
    return filled(result, query, places, wider) if unfilled > 0 and wider is not None else result


def filled(
    result: SearchResult, query: Tensor, places: int, wider: Callable[[Tensor], SearchResult]
) -> SearchResult:
    """Search again, further, for queries ``(B, D)`` that have fewer than ``places`` results.

    Reads and cells scored count both searches. The queries that are searched again get the results of the
    second search only, so it must look wherever the first one did.
    """
    if not places:
        return result
    lines = (result.cell[:, places - 1] < 0).nonzero().squeeze(1)
    if not len(lines):
        return result
    return replaced(result, lines, wider(query[lines]))


def replaced(result: SearchResult, lines: Tensor, more: SearchResult) -> SearchResult:
    """A result whose ``lines`` ``(n,)`` are those of another search; reads of both count."""
    return SearchResult(
        score=result.score.index_copy(0, lines, more.score),
        cell=result.cell.index_copy(0, lines, more.cell),
        reads=result.reads.index_add(0, lines, more.reads),
        cells_scored=result.cells_scored.index_add(0, lines, more.cells_scored),
    )


def screens() -> bool:
    """Whether ``screened`` can run here and is faster than scoring every key."""
    return backend.kernels() not in {"twin", "portable"}


def screening_bits() -> int:
    """Bits per feature of the codes that ``screened`` reads fastest.

    AVX2 multiplies pairs of 16-bit numbers as fast as pairs of 8-bit numbers, whose sums could overflow. The
    bounds of 16-bit codes are fifty times as tight.
    """
    return 16 if backend.kernels() == "avx2" else 8


def screened(
    query: Tensor,
    level: Level,
    ratio: float,
    keys: Tensor,
    room: int,
    k: int,
    allowed: Filter | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the best rows by upper bounds on their scores; see ``hmn.index.structures.screening``.

    Only compiled kernels do this: call it where ``screens`` is true.

    Args:
        query: ``(B, D)`` float32, on the CPU.
        level: lists of all rows in codes of 8 or 16 bits. ``along`` is the length of a row's decoded vector,
            plus the distance of that vector from the row divided by ``ratio``.
        ratio: divisor of the distances in ``along``.
        keys: ``(rows, D)`` float32, float16 or bfloat16.
        room: rows to keep per query, those with the highest bounds; only these are scored in full.
        k: results per query, at most ``room``.
        allowed: rows that each query may find; None for all.

    Returns:
        ``score`` (B, k) float32 and ``row`` (B, k) int64, best first, unused places ``-inf`` and ``-1``; and
        ``certain`` (B,) bool, true where no row left out can be among the best ``k``.

    Raises:
        NonFiniteError: a query holds NaN or infinity, or is too long.
    """
    kernels = kernels_for(query)
    if kernels is None:
        raise RuntimeError("screened runs on compiled kernels only, got none for this query: ask screens()")
    query, keys, count, features = _checked(query, keys)
    score = query.new_empty(count, k)
    row = query.new_empty(count, k, dtype=torch.int64)
    certain = query.new_empty(count, dtype=torch.bool)
    finite = kernels.screened(
        query.data_ptr(),
        count,
        features,
        level.compiled(kernels),
        ratio,
        [] if allowed is None else allowed.parts(),
        *key_rows(keys, features),
        room,
        k,
        score.data_ptr(),
        row.data_ptr(),
        certain.data_ptr(),
        torch.get_num_threads(),
    )
    if not finite:
        check_vectors(query, "query")
    return score, row, certain


def best_of(query: Tensor, keys: Tensor, candidate: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Score candidates in full and keep the best.

    Args:
        query: ``(B, D)`` float32.
        keys: ``(rows, D)`` float32, float16 or bfloat16.
        candidate: ``(B, C)`` int64 rows; ``-1`` is skipped and repeats count once.
        k: results per query.

    Returns:
        ``score`` (B, k) float32 and ``row`` (B, k) int64, best first, unused places ``-inf`` and ``-1``.
    """
    kernels = kernels_for(query)
    if kernels is None:
        return pytorch_buckets.best_of(query, keys, candidate, k)
    query, keys, count, features = _checked(query, keys)
    candidate = candidate.contiguous()
    score = query.new_empty(count, k)
    row = query.new_empty(count, k, dtype=torch.int64)
    kernels.best_of(
        query.data_ptr(),
        count,
        features,
        *key_rows(keys, features),
        address(candidate, torch.int64, (count, candidate.shape[-1]), "candidates"),
        candidate.shape[1],
        k,
        score.data_ptr(),
        row.data_ptr(),
        torch.get_num_threads(),
    )
    return score, row


def _checked(query: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, int, int]:
    """Contiguous queries and keys that fit each other, and the numbers of queries and of features."""
    shape = query.shape
    if query.dtype is not torch.float32 or len(shape) != 2 or shape[1:] != keys.shape[1:]:
        got = f"{tuple(shape)} of {query.dtype}"
        raise ShapeError(f"queries are {got}, expected float32 with the features of keys {tuple(keys.shape)}")
    return query.contiguous(), keys.contiguous(), *shape


def _rows(vectors: Tensor | None, features: int) -> tuple[int, int]:
    """Address and number of the vectors of lists; zeros for none."""
    if vectors is None:
        return 0, 0
    count = vectors.shape[0]
    return address(vectors, torch.float32, (count, features), "a level's directions"), count


def _lists(begin: Begin | None, queries: int) -> tuple[int, int, int]:
    """Addresses and number of the lists that queries enter first; zeros for none."""
    if begin is None:
        return 0, 0, 0
    shape = queries, begin.lists.shape[1]
    lists = address(begin.lists, torch.int64, shape, "lists to begin with")
    return lists, address(begin.base, torch.float32, shape, "their products"), shape[1]


def _enough(enough: Enough | None, queries: int) -> tuple[int, int, int, int, int]:
    """Addresses and numbers of what is enough; zeros for none."""
    if enough is None:
        return 0, 0, 0, 0, 0
    entries = address(enough.entries, torch.float32, (queries,), "what is enough")
    lacking = address(enough.lacking, torch.bool, (queries,), "what is lacking")
    return entries, enough.lists, enough.looked, enough.most, lacking


def _numbers(numbers: Tensor, dtype: torch.dtype, name: str) -> tuple[int, int]:
    """Address and number of numbers, one per child."""
    count = numbers.numel()
    return address(numbers, dtype, (count,), name), count
