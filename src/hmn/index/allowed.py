"""Which cells a search may find: some of them, or those whose number in a column lies within limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.errors import ConfigError, ShapeError
from hmn.index.checks import as_ids, as_tensor


class Where(NamedTuple):
    """Cells whose number in a column lies within limits, which each query may have of its own.

    The column may hold sequences, tenants, or times:

    >>> index.search(query, 10, allowed=Where(tenant_of_cell, tenant_of_query))
    >>> index.search(query, 10, allowed=Where(time_of_cell, now - 3_600, now))

    Attributes:
        column: ``(N,)`` whole numbers: entry i is the number of cell i. Cells beyond the end are not found.
        low: lower limit: a whole number, or ``(B,)``, one for each query.
        high: upper limit, which cells may reach; None for ``low``. One below ``low`` allows no cell.
    """

    column: Tensor | NDArray[Any] | Sequence[int]
    low: int | Tensor | NDArray[Any] | Sequence[int]
    high: int | Tensor | NDArray[Any] | Sequence[int] | None = None


Allowed: TypeAlias = Tensor | NDArray[Any] | Sequence[int] | Sequence[bool] | Where
"""Cells that a search may find: a mask ``(N,)`` of bool by cell id, ids ``(n,)``, or a ``Where``."""


def check_where(where: Where, queries: int) -> tuple[Tensor, Tensor, Tensor]:
    """The column ``(N,)``, and lower and upper limits of each query ``(B,)`` or of all ``(1,)``, as int64.

    Raises:
        ShapeError: they are not whole numbers, or do not fit the queries.
    """
    column = as_ids(where.column, "the column of allowed")
    low = _limits(where.low, queries, "low")
    high = low if where.high is None else _limits(where.high, queries, "high")
    if len(low) != len(high):
        low, high = low.expand(queries), high.expand(queries)
    return column, low, high


def flattened(allowed: Allowed | None, query: object) -> Allowed | None:
    """The same for queries ``(B, D)`` that were given as ``(..., D)``, with limits ``(...)`` or ``(B,)``.

    Raises:
        ShapeError: limits have other dimensions than the queries.
    """
    if not isinstance(allowed, Where):
        return allowed
    lead = tuple(as_tensor(query, "query", floats=True).shape[:-1])
    limits: list[Any] = [allowed.low, allowed.high]
    for number, name in enumerate(("low", "high")):
        limit = limits[number]
        if limit is None or isinstance(limit, Real):
            continue
        limit = as_tensor(limit, f"{name} of allowed")
        if limit.dim() and tuple(limit.shape) not in (lead, (math.prod(lead),)):
            got = f"{tuple(limit.shape)} for queries {lead}"
            raise ShapeError(f"{name} of allowed is {got}, expected one number, or one for each query")
        limits[number] = limit.reshape(-1) if limit.dim() else limit
    return Where(allowed.column, *limits)


def check_allowed(allowed: object) -> Tensor:
    """A mask ``(N,)`` of bool, or ids ``(n,)`` of int64.

    Raises:
        ShapeError: it is neither.
    """
    if isinstance(allowed, list | tuple) and not allowed:
        return torch.empty(0, dtype=torch.int64, device="cpu")
    given = as_tensor(allowed, "allowed")
    if given.dim() != 1 or given.is_floating_point() or given.is_complex():
        got = f"{tuple(given.shape)} of {given.dtype}"
        raise ShapeError(
            f"allowed is {got}, expected a mask (N,) of bool, ids (n,) of int64, or a Where: "
            "for a set of each query's own, give Where(column, low, high) with a number for each query"
        )
    return given.detach() if given.dtype == torch.bool else as_ids(given, "allowed")


def check_no_allowed(allowed: object, searcher: str, instead: str) -> None:
    """Refuse ``allowed`` where it cannot be followed.

    Raises:
        ConfigError: it is not None.
    """
    if allowed is not None:
        raise ConfigError(f"{searcher} got allowed, expected None, since it searches all cells: {instead}")


def _limits(value: object, queries: int, name: str) -> Tensor:
    """A limit of all queries ``(1,)``, or one of each ``(B,)``, as int64."""
    one = isinstance(value, Real) or getattr(value, "ndim", 1) == 0
    if one:
        value = value.reshape(1) if isinstance(value, Tensor) else [value]
    limits = as_ids(value, f"{name} of allowed")
    if not one and len(limits) != queries:
        raise ShapeError(
            f"{name} of allowed has {len(limits)} numbers for {queries} queries, "
            "expected one number, or one for each query"
        )
    return limits
