"""The protocol of every search structure, and the checks that all of them share."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from hmn.errors import ConfigError, NonFiniteError, ShapeError
from hmn.typing import SearchResult


class Index(Protocol):
    """A structure over N keys of D features that finds the K cells of largest inner product with a query."""

    def search(self, query: Tensor, k: int) -> SearchResult:
        """Find, for each query, the ``k`` cells with the largest inner product.

        Args:
            query: ``(B, D)`` float32, finite.
            k: results a query, at least 1; may exceed the number of cells.

        Returns:
            ``score`` (B, k) and ``cell`` (B, k), best first; unused places hold ``-inf`` and ``-1``.

        Raises:
            ShapeError: ``query`` has another number of features than the cells.
            NonFiniteError: ``query`` holds NaN or infinity.
            ConfigError: ``k`` is less than 1.
        """
        ...

    def update(self, keys: Tensor) -> None:
        """Take ``(N, D)`` new keys in place of the old ones; the number of cells may change."""
        ...

    def __len__(self) -> int:
        """Number of cells, N."""
        ...


def check_keys(keys: Tensor, name: str = "keys") -> Tensor:
    """Refuse keys that are not a finite float matrix ``(N, D)``; returns them, detached."""
    if keys.dim() != 2 or not keys.is_floating_point():
        got = f"{tuple(keys.shape)} of {keys.dtype}"
        raise ShapeError(f"{name} are {got}, expected a float matrix (cells, features)")
    check_finite(keys, name)
    return keys.detach()


def check_query(query: Tensor, features: int, k: int) -> Tensor:
    """Refuse queries that do not fit keys of so many features; returns them, detached."""
    if k < 1:
        raise ConfigError(f"k is {k}, expected at least 1: ask for one result or more")
    if query.dim() != 2 or not query.is_floating_point():
        got = f"{tuple(query.shape)} of {query.dtype}"
        raise ShapeError(f"query is {got}, expected a float matrix (queries, features)")
    if query.shape[1] != features:
        raise ShapeError(
            f"query has {query.shape[1]} features but the memory has {features}: "
            "encode it with the model that the memory was saved with"
        )
    check_finite(query, "query")
    return query.detach()


def check_finite(rows: Tensor, name: str) -> None:
    """Refuse NaN and infinity in a matrix, naming the first bad row."""
    # a sum is finite whenever no entry is NaN or infinite (short of overflow), at a tenth of the cost
    if bool(torch.isfinite(rows.sum())):
        return
    bad = (~torch.isfinite(rows)).any(dim=1).nonzero()
    if len(bad):
        raise NonFiniteError(
            f"{name}: row {int(bad[0])} holds NaN or infinity ({len(bad)} such rows), "
            "expected finite numbers: remove or repair these rows"
        )
