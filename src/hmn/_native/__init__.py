"""The compiled CPU kernels, and PyTorch twins that do the same wherever they cannot be used.

The kernels are used for tensors on the CPU if they were built when the package was installed; otherwise,
and on CUDA, the twins are. ``HMN_KERNELS=twin`` in the environment asks for the twins, ``portable``, ``avx2``
or ``avx512`` for a set of instructions.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hmn._native import codes
from hmn._native.fallback import buckets as candidates
from hmn._native.fallback import lists as filing
from hmn._native.fallback import search as twin
from hmn._native.finite import check_finite
from hmn._native.level import Level
from hmn.errors import ConfigError
from hmn.results import SearchResult

STORAGE = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


def _load() -> Any:
    wanted = os.environ.get("HMN_KERNELS", "")
    if wanted == "twin":
        return None
    try:
        from hmn._native import _kernels
    except ImportError:
        warnings.warn(
            "hmn was installed without a C++ compiler: searches run on PyTorch alone, several times slower; "
            "install a compiler and hmn again",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    if wanted:
        try:
            _kernels.use(wanted)
        except ValueError:
            names = ", ".join(["twin", *_kernels.available()])
            raise ConfigError(f"HMN_KERNELS is {wanted!r}, expected one of {names}") from None
    return _kernels


_kernels = _load()


def kernels() -> str:
    """What searches on the CPU run on: ``avx512``, ``avx2``, ``portable`` or ``twin``."""
    return "twin" if _kernels is None else str(_kernels.in_use())


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
    if _kernels is None or query.device.type != "cpu":
        check_finite(query, "query")
        return twin.search_levels(query, levels, directions, probes, keys, rescored, k, margins, weights)
    query, keys = _fitting(query, keys)
    directions = [None if one is None else one.contiguous() for one in directions]
    score = torch.empty(len(query), k)
    row = torch.empty(len(query), k, dtype=torch.int64)
    reads = torch.empty(len(query))
    scored = torch.empty(len(query), dtype=torch.int64)
    finite = _kernels.search(
        query.data_ptr(),
        *query.shape,
        [level.compiled(_kernels) for level in levels],
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
    return _kernels is not None and _kernels.in_use() != "portable"


def screening_bits() -> int:
    """Bits of the codes that are screened fastest.

    AVX2 multiplies pairs of 16 bits as fast as it does those of 8, which must not overflow; their bounds are
    fifty times as tight.
    """
    return 16 if kernels() == "avx2" else 8


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
    query, keys = _fitting(query, keys)
    score = torch.empty(len(query), k)
    row = torch.empty(len(query), k, dtype=torch.int64)
    certain = torch.empty(len(query), dtype=torch.bool)
    finite = _kernels.screened(
        query.data_ptr(),
        *query.shape,
        level.compiled(_kernels),
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


def list_rows(listed: Tensor, begin: Tensor, size: Tensor, filled: Tensor, candidate: Tensor) -> None:
    """Write the rows that lookups list one after another into the lines of their queries.

    Args:
        listed: ``(M,)`` int32 rows.
        begin: ``(B, L)`` int64, where each lookup's rows begin among them.
        size: ``(B, L)`` int64, how many they are.
        filled: ``(B,)`` int64, how many places of each line are taken already.
        candidate: ``(B, C)`` int64, contiguous, is changed; wide enough.
    """
    if _kernels is None or listed.device.type != "cpu":
        candidates.list_rows(listed, begin, size, filled, candidate)
        return
    listed, begin, size, filled = (one.contiguous() for one in (listed, begin, size, filled))
    _kernels.list_rows(
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
    if _kernels is None or candidate.device.type != "cpu":
        return candidates.most_frequent(candidate, limit)
    candidate, limit = candidate.contiguous(), min(limit, candidate.shape[1])
    kept = candidate.new_empty(len(candidate), limit)
    longest = _kernels.most_frequent(
        candidate.data_ptr(), *candidate.shape, limit, kept.data_ptr(), torch.get_num_threads()
    )
    return kept[:, :longest]


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
    if _kernels is None or query.device.type != "cpu":
        return candidates.best_of(query, keys, candidate, k)
    query, keys = _fitting(query, keys)
    if candidate.dtype != torch.int64 or candidate.dim() != 2 or len(candidate) != len(query):
        got = f"{tuple(candidate.shape)} of {candidate.dtype}"
        raise ValueError(f"candidates are {got}, expected int64 rows, as many as the {len(query)} queries")
    if candidate.numel() and int(candidate.max()) >= len(keys):
        raise ValueError(f"there is a candidate {int(candidate.max())}, expected rows below {len(keys)}")
    candidate = candidate.contiguous()
    score = torch.empty(len(query), k)
    row = torch.empty(len(query), k, dtype=torch.int64)
    _kernels.best_of(
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


def write_entries(
    level: Level, place: Tensor, vectors: Tensor, rows: Tensor, lists: Tensor, direction: Tensor
) -> None:
    """Write entries of a level: the part along the direction of their list in full, the rest in codes.

    Args:
        level: is changed: codes, along and step at these places.
        place: ``(n,)`` int64, distinct.
        vectors: ``(rows, D)`` float32, float16 or bfloat16.
        rows: ``(n,)`` int64 which of them the entries are.
        lists: ``(n,)`` int64 list of each entry.
        direction: ``(L, D)`` float32 vectors of the lists; ``(L, 1)`` where they have none.
    """
    if _kernels is None or vectors.device.type != "cpu" or level.bits == 16:
        codes.write_entries(level, place, vectors, rows, lists, direction)
        return
    vectors, direction = vectors.contiguous(), direction.contiguous()
    rows, place, lists = rows.contiguous(), place.contiguous(), lists.contiguous()
    directed = direction.shape[1] == vectors.shape[1]
    _kernels.encode(
        level.compiled(_kernels),
        vectors.data_ptr(),
        vectors.shape[1],
        STORAGE[vectors.dtype],
        rows.data_ptr(),
        len(rows),
        lists.data_ptr(),
        direction.data_ptr() if directed else 0,
        place.data_ptr(),
        torch.get_num_threads(),
    )


def take_out(level: Level, lists: Tensor, place: Tensor, where: Tensor) -> None:
    """Take entries out of their lists; the last of each list take their places.

    Args:
        level: is changed.
        lists: ``(n,)`` int64 list of each entry.
        place: ``(n,)`` int64, distinct.
        where: by child, int64: the place of each is followed; -1 for those that are taken out.
    """
    if _kernels is None or lists.device.type != "cpu":
        filing.take_out(level, lists, place, where)
        return
    lists, place = lists.contiguous(), place.contiguous()
    _kernels.take_out(
        level.compiled(_kernels), lists.data_ptr(), place.data_ptr(), len(lists), where.data_ptr()
    )


def enter(level: Level, room: Tensor, used: int, lists: Tensor, child: Tensor, where: Tensor) -> int:
    """Enter children at the ends of lists, without codes; a full list moves, to have room for twice as many.

    Args:
        level: is changed.
        room: ``(L,)`` int64 panels that each list may fill; is changed.
        used: panels in use.
        lists: ``(n,)`` int64 list of each child.
        child: ``(n,)`` int64, distinct.
        where: by child, int64: the place of each is followed.

    Returns:
        Panels in use then. If they are more than the level has nothing was changed.
    """
    if _kernels is None or lists.device.type != "cpu":
        return filing.enter(level, room, used, lists, child, where)
    lists, child = lists.contiguous(), child.contiguous()
    found: int = _kernels.enter(
        level.compiled(_kernels),
        room.data_ptr(),
        used,
        lists.data_ptr(),
        child.data_ptr(),
        len(lists),
        where.data_ptr(),
    )
    return found


def means(level: Level, lists: Tensor, vectors: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Means of what is in lists, longer vectors counting more; see ``filing.means_of``.

    Args:
        level: of the lists.
        lists: ``(n,)`` int64.
        vectors: by child, ``(rows, D)`` float32, float16 or bfloat16.
        weight: by child, float32; None where all weigh 1.

    Returns:
        ``(n, D)`` float32 means and ``(n,)`` float32 sums of weights.
    """
    if _kernels is None or lists.device.type != "cpu":
        return filing.means(level, lists, vectors, weight)
    lists, vectors = lists.contiguous(), vectors.contiguous()
    mean, total = torch.empty(len(lists), vectors.shape[1]), torch.empty(len(lists))
    _kernels.means(
        level.compiled(_kernels),
        lists.data_ptr(),
        len(lists),
        vectors.data_ptr(),
        vectors.shape[1],
        STORAGE[vectors.dtype],
        0 if weight is None else weight.data_ptr(),
        mean.data_ptr(),
        total.data_ptr(),
        torch.get_num_threads(),
    )
    return mean, total


def _fitting(query: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys as the kernels take them, which trust what they are given."""
    if query.dtype != torch.float32 or query.shape[1:] != keys.shape[1:]:
        got = f"{tuple(query.shape)} of {query.dtype}"
        raise ValueError(f"queries are {got}, expected float32 with {keys.shape[1]} features")
    return query.contiguous(), keys.contiguous()
