"""Checks that all structures share: keys, queries, ids and settings."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from numbers import Integral
from operator import index

import numpy as np
import torch
from torch import Tensor

from hmn._native.finite import check_finite, check_vectors
from hmn.errors import CellError, ConfigError, NonFiniteError, ShapeError

FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
"""Types of keys and queries."""
FEW = 256
"""Upper limit of ids that Python compares in less time than PyTorch."""
STRIDED = torch.strided
"""Layout of dense tensors."""
MOST_RESULTS = (1 << 31) - 1
"""Upper limit of results per query."""


def as_tensor(value: object, name: str, *, floats: bool = False) -> Tensor:
    """What a user hands over, as a dense tensor: the door of every public entry.

    Args:
        value: a tensor; a NumPy array, which is shared; or lists of numbers, which are copied.
        name: what it is, for messages.
        floats: whether whole numbers in lists stand for floats, as they do in vectors.

    Raises:
        ShapeError: it is sparse, nested, quantized, without numbers (on ``meta``), or something else.
    """
    tensor = value if isinstance(value, Tensor) else _from_numbers(value, name, floats=floats)
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta or tensor.is_quantized:
        if tensor.is_meta:
            raise ShapeError(
                f"{name} is on the meta device, where it holds no numbers, expected numbers: give model and "
                "data a device, as with model.to_empty(device=...) and model.load_state_dict(...)"
            )
        kinds = {"nested": tensor.is_nested, "quantized": tensor.is_quantized, "sparse": True}
        kind = next(kind for kind, so in kinds.items() if so)
        raise ShapeError(f"{name} is {kind}, expected a dense tensor: convert it, as with to_dense()")
    return tensor


def _from_numbers(value: object, name: str, *, floats: bool) -> Tensor:
    """A tensor of a NumPy array, which is shared, or of lists of numbers."""
    listed = isinstance(value, list | tuple | range)
    if not listed and (not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray)):
        got = type(value).__name__
        raise ShapeError(
            f"{name} is of type {got}, expected a tensor, a NumPy array or lists of numbers: "
            "convert it, as with torch.as_tensor"
        )
    try:
        array = np.asarray(value)
        if listed and floats and array.dtype.kind in "iu":
            array = array.astype(np.float32)
        if not array.dtype.isnative or any(stride < 0 for stride in array.strides):
            array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "not writable": it is only read
            return torch.from_numpy(array)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = str(error).partition(". ")[0].partition(":")[0]
        raise ShapeError(
            f"{name} is not an array of numbers ({reason}), expected rows of one length: convert it"
        ) from None


def check_keys(keys: object, name: str = "keys") -> Tensor:
    """Refuse keys that are not a finite float matrix ``(N, D)``; returns them, detached.

    Keys that are too long for inner products in float32 are refused too; values may have any length.
    """
    keys = check_matrix(as_tensor(keys, name, floats=True), name)
    (check_finite if name == "values" else check_vectors)(keys, name)
    return keys.detach()


def check_matrix(keys: Tensor, name: str = "keys") -> Tensor:
    """Refuse keys that are not a float matrix ``(N, D)``, whatever they hold."""
    if keys.dim() != 2 or keys.dtype not in FLOATS:
        got = f"{tuple(keys.shape)} of {keys.dtype}"
        raise ShapeError(f"{name} are {got}, expected a float matrix (cells, features)")
    if not keys.shape[1]:
        raise ShapeError(f"{name} are {tuple(keys.shape)}, expected at least one feature")
    return keys


def check_k(k: object) -> int:
    """The number of results per query.

    Raises:
        ConfigError: it is not a whole number from 1 to 2^31 - 1.
    """
    number = _as_whole(k)
    if number is None or not 1 <= number <= MOST_RESULTS:
        raise ConfigError(
            f"k is {k!r}, expected a whole number of at least 1, below 2^31: the number of results per query"
        )
    return number


def _as_whole(value: object) -> int | None:
    """A whole number as an ``int``, one of NumPy included; None for anything else, such as True."""
    return None if isinstance(value, bool) or not isinstance(value, Integral) else index(value)


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


def check_callable(name: str, value: object) -> None:
    """Refuse what is neither a function nor None."""
    if value is not None and not callable(value):
        raise ConfigError(f"{name} is {value!r}, expected a function, or None")


def check_query(query: object, features: int, k: object, *, finite: bool = True) -> Tensor:
    """Refuse queries that do not fit keys of D ``features``; returns them in float32, detached.

    With ``finite=False`` NaN and infinity pass: the kernels that search refuse them.
    """
    if type(k) is not int or not 1 <= k <= MOST_RESULTS:
        check_k(k)
    # a call of as_tensor takes as long as a lock, so plain tensors go without
    if type(query) is not Tensor or query.layout is not STRIDED or query.is_meta or query.is_nested:
        query = as_tensor(query, "query", floats=True)
    if query.dim() != 2 or query.dtype not in FLOATS:
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
        if query.dtype == torch.float64:  # numbers beyond float32 are too long, not infinite
            check_vectors(query, "query")
        query = query.to(torch.float32)
    if finite:
        check_vectors(query, "query")
    return query


def as_ids(cells: object, name: str = "cells") -> Tensor:
    """Refuse cell ids that are not whole numbers ``(n,)``; returns them as int64."""
    given, cells = cells, as_tensor(cells, name)
    if not cells.numel() and not isinstance(given, Tensor):
        cells = cells.to(torch.int64)  # NumPy takes an empty list for floats
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
    if len(cells) <= FEW and len(set(cells.tolist())) == len(cells):
        return
    distinct, count = torch.unique(cells, return_counts=True)
    if len(distinct) < len(cells):
        raise CellError(f"cell {int(distinct[count > 1][0])} is given twice, expected distinct ids")


def check_count(name: str, value: object, least: int = 1) -> int:
    """A setting that counts something.

    Raises:
        ConfigError: it is not a whole number, or less than ``least``.
    """
    number = _as_whole(value)
    if number is None or not least <= number < 1 << 63:
        raise ConfigError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return number


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
