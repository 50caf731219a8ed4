"""Checks that all structures share: keys, queries, ids and settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from operator import index

import torch
from torch import Tensor

from hmn._native.finite import check_finite, check_vectors
from hmn.errors import CellError, ConfigError, NonFiniteError, ShapeError


def check_tensor(value: object, name: str) -> None:
    """Refuse anything but a tensor, such as a NumPy array or a list."""
    if not isinstance(value, Tensor):
        got = type(value).__name__
        raise ShapeError(f"got {name} of type {got}, expected a tensor: convert with torch.as_tensor")


def check_keys(keys: Tensor, name: str = "keys") -> Tensor:
    """Refuse keys that are not a finite float matrix ``(N, D)``; returns them, detached.

    Keys that are too long for inner products in float32 are refused too; values may have any length.
    """
    check_tensor(keys, name)
    if keys.dim() != 2 or not keys.is_floating_point():
        got = f"{tuple(keys.shape)} of {keys.dtype}"
        raise ShapeError(f"{name} are {got}, expected a float matrix (cells, features)")
    (check_finite if name == "values" else check_vectors)(keys, name)
    return keys.detach()


def _is_whole(value: object) -> bool:
    """Whether a value is a whole number, one of NumPy included."""
    return type(value) is int or isinstance(value, Integral)


def as_storage(keys: Tensor, storage: torch.dtype, name: str = "keys") -> Tensor:
    """Finite keys ``(N, D)`` in the type in which they are kept.

    Raises:
        NonFiniteError: a number is too large for it.
    """
    kept = keys.to(storage)
    if kept.dtype != keys.dtype and not bool(torch.isfinite(kept).all()):
        row = int((~torch.isfinite(kept)).any(dim=1).nonzero()[0])
        raise NonFiniteError(
            f"{name}: row {row} holds {float(keys[row].abs().max()):.3g}, expected numbers up to "
            f"{torch.finfo(storage).max:.3g} to keep them as {storage}: scale them or choose another storage"
        )
    return kept


def check_query(query: Tensor, features: int, k: int, *, finite: bool = True) -> Tensor:
    """Refuse queries that do not fit keys of D ``features``; returns them in float32, detached.

    With ``finite=False`` NaN and infinity pass: the kernels that search refuse them.
    """
    if not _is_whole(k) or k < 1:
        raise ConfigError(
            f"k is {k!r}, expected a whole number of at least 1: the number of results per query"
        )
    check_tensor(query, "query")
    if query.dim() != 2 or not query.is_floating_point():
        got = f"{tuple(query.shape)} of {query.dtype}"
        raise ShapeError(f"query is {got}, expected a float matrix (queries, features)")
    if query.shape[1] != features:
        raise ShapeError(
            f"query has {query.shape[1]} features but the memory has {features}: "
            "make queries as the keys were made, such as by the model that the memory was saved with"
        )
    # each of these calls takes as long as a lock, so none is made for nothing
    if query.requires_grad:
        query = query.detach()
    if query.dtype != torch.float32:
        query = query.to(torch.float32)
    if finite:
        check_vectors(query, "query")
    return query


def as_ids(cells: Tensor, name: str = "cells") -> Tensor:
    """Refuse cell ids that are not whole numbers ``(n,)``; returns them as int64."""
    check_tensor(cells, name)
    whole = not cells.is_floating_point() and not cells.is_complex() and cells.dtype != torch.bool
    if cells.dim() != 1 or not whole:
        got = f"{tuple(cells.shape)} of {cells.dtype}"
        raise ShapeError(f"{name} are {got}, expected one dimension of int64 ids")
    return cells.detach().to(torch.int64)


def check_not_negative(cells: Tensor) -> None:
    """Refuse ids of cells that are negative."""
    if bool((cells < 0).any()):
        raise CellError(f"cell {int(cells.min())} is negative, expected ids from 0 on")


def check_distinct(cells: Tensor) -> None:
    """Refuse ids of cells that are given twice."""
    distinct, count = torch.unique(cells, return_counts=True)
    if len(distinct) < len(cells):
        raise CellError(f"cell {int(distinct[count > 1][0])} is given twice, expected distinct ids")


def check_count(name: str, value: object, least: int = 1) -> int:
    """A setting that counts something.

    Raises:
        ConfigError: it is not a whole number, or less than ``least``.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return value


def check_counts(name: str, value: int | Sequence[int] | str) -> tuple[int, ...]:
    """One count per level, from a number, a sequence of numbers, or text such as ``"64x4096"``.

    Raises:
        ConfigError: it is none of these, or a count is less than 1.
    """
    try:
        if isinstance(value, str):
            counts = tuple(int(part) for part in value.split("x"))
        else:
            counts = tuple(map(index, value if isinstance(value, Iterable) else [value]))
    except (ValueError, TypeError):
        counts = ()
    if not counts or min(counts) < 1:
        raise ConfigError(
            f"{name} is {value!r}, expected a count of at least 1, or one for each level as in 64x4096"
        )
    return counts
