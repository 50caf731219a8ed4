"""The compiled CPU kernels, and PyTorch twins that do the same wherever they cannot be used.

The kernels are used for tensors on the CPU if they were built when the package was installed; otherwise,
and on CUDA, the twins are. ``HMN_KERNELS=twin`` in the environment asks for the twins, ``portable``, ``avx2``
or ``avx512`` for a set of instructions.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hmn._native import candidates, twin
from hmn._native.level import Level
from hmn.errors import ConfigError

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
    directions: Sequence[Tensor],
    probes: Sequence[int],
    keys: Tensor,
    rescored: int,
    k: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the best rows through levels of lists of coded entries; see ``hmn.index.cluster``.

    Every query enters the one list of the first level. Of the entries that it scores by their codes, the best
    ``probes[0]`` are entered as lists of the second level, and so on; of the last level's, the best
    ``rescored`` are scored in full.

    Args:
        query: ``(B, D)`` float32.
        levels: at least one; the children of each are lists of the next, of the last rows of the keys.
        directions: the vectors ``(lists, D)`` float32 of the lists of each level but the first.
        probes: lists to enter at each level but the first.
        keys: ``(rows, D)`` float32, float16 or bfloat16.
        rescored: rows that are scored in full, at least ``k``.
        k: results a query.

    Returns:
        ``score`` (B, k) float32 and ``row`` (B, k) int64, best first, unused places ``-inf`` and ``-1``, and
        ``scanned`` (B, levels) int64, the entries whose codes were scored.
    """
    if _kernels is None or query.device.type != "cpu":
        return twin.search_levels(query, levels, directions, probes, keys, rescored, k)
    score = torch.empty(len(query), k)
    row = torch.empty(len(query), k, dtype=torch.int64)
    scanned = torch.empty(len(query), len(levels), dtype=torch.int64)
    _kernels.search(
        query.contiguous(),
        [level.compiled(_kernels) for level in levels],
        [_matrix(one) for one in directions],
        list(probes),
        _matrix(keys),
        rescored,
        score,
        row,
        scanned,
        torch.get_num_threads(),
    )
    return score, row, scanned


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
    score = torch.empty(len(query), k)
    row = torch.empty(len(query), k, dtype=torch.int64)
    _kernels.best_of(
        query.contiguous(), _matrix(keys), candidate.contiguous(), score, row, torch.get_num_threads()
    )
    return score, row


def _matrix(rows: Tensor) -> Any:
    storage = STORAGE[rows.dtype]
    return _kernels.matrix(
        rows.contiguous() if storage == 0 else rows.contiguous().view(torch.int16), storage
    )
