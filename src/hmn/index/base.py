"""The protocol of every search structure, and the checks that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hmn._native.finite import check_finite
from hmn.errors import ConfigError, NonFiniteError, ShapeError
from hmn.typing import SearchResult


class Searcher(Protocol):
    """Finds cells for queries: an index, or what stands before one."""

    def search(self, query: Tensor, k: int) -> SearchResult:
        """Find, for each query ``(B, D)``, up to ``k`` cells; see ``Index.search``."""
        ...

    def __len__(self) -> int:
        """Number of cells, N."""
        ...


class Index(Protocol):
    """A structure over N keys of D features that finds the K cells of largest inner product with a query.

    Settings are given when it is made; ``build`` gives it the keys. Cell ids are the user's own and stable:
    adding and removing cells never changes the id of another. Under autocast and inference mode it computes
    as it does elsewhere. Threads may search at the same time, but nothing else while another changes it.
    """

    def build(self, keys: Tensor, cells: Tensor | None = None) -> None:
        """Search these keys from now on, in place of any before.

        Args:
            keys: ``(N, D)`` float32, float16 or bfloat16, finite; N may be 0. They are not copied if they
                are of the index's storage type, so that rows changed in place are scored as they are then.
            cells: ``(N,)`` int64 ids of the cells, distinct and not negative; 0 to N - 1 if not given.

        Raises:
            ShapeError: keys are not a float matrix, or the ids do not fit them.
            NonFiniteError: keys hold NaN or infinity.
        """
        ...

    def search(self, query: Tensor, k: int) -> SearchResult:
        """Find, for each query, the ``k`` cells with the largest inner product.

        Args:
            query: ``(B, D)`` float, finite.
            k: results a query, at least 1; may exceed the number of cells.

        Returns:
            ``score`` (B, k) and ``cell`` (B, k), best first; unused places hold ``-inf`` and ``-1``.

        Raises:
            NotFittedError: the index was not built.
            ShapeError: ``query`` has another number of features than the cells.
            NonFiniteError: ``query`` holds NaN or infinity.
            ConfigError: ``k`` is less than 1.
        """
        ...

    def add(self, cells: Tensor, keys: Tensor) -> None:
        """Add cells ``(n,)`` with keys ``(n, D)``.

        Raises:
            CellError: a cell is there already or twice among them; nothing is added then.
        """
        ...

    def remove(self, cells: Tensor) -> None:
        """Remove cells ``(n,)``.

        Raises:
            CellError: a cell is not there or twice among them; nothing is removed then.
        """
        ...

    def update(self, cells: Tensor, keys: Tensor) -> None:
        """Give cells ``(n,)`` that are there new keys ``(n, D)``.

        Raises:
            CellError: a cell is not there or twice among them; nothing is changed then.
        """
        ...

    def state_dict(self, *, with_keys: bool = True) -> dict[str, Tensor]:
        """What ``load_state_dict`` needs to search the same; ``with_keys=False`` leaves out the keys.

        The tensors are the index's own, not copies: save or clone them before the index is changed.
        """
        ...

    def load_state_dict(self, state: Mapping[str, Tensor], keys: Tensor | None = None) -> None:
        """Take back what ``state_dict`` gave, into an index of the same settings.

        Args:
            state: by name; what is kept of it is copied, so that changes to the index do not reach it.
            keys: ``(rows, D)``, the storage of the keys where the state was saved without them, or in place
                of those that it has; shared with the index as in ``build``.

        Raises:
            ShapeError: a tensor is missing or does not fit; the index is as it was then.
        """
        ...

    def stats(self) -> dict[str, int | float | str]:
        """Settings, sizes and shape of the structure, for people to read."""
        ...

    def __len__(self) -> int:
        """Number of cells, N."""
        ...


@runtime_checkable
class Teachable(Index, Protocol):
    """An index that learns from queries where the cells that they ask for are."""

    def learn(self, query: Tensor, cells: Tensor, *, vectors: bool = True) -> None:
        """Learn that each query ``(Q, D)`` is to find its cell ``(Q,)``: how far to look, and where."""
        ...

    def forget(self) -> None:
        """Forget where to look, before keys move."""
        ...


def check_keys(keys: Tensor, name: str = "keys") -> Tensor:
    """Refuse keys that are not a finite float matrix ``(N, D)``; returns them, detached."""
    if keys.dim() != 2 or not keys.is_floating_point():
        got = f"{tuple(keys.shape)} of {keys.dtype}"
        raise ShapeError(f"{name} are {got}, expected a float matrix (cells, features)")
    check_finite(keys, name)
    return keys.detach()


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
    """Refuse queries that do not fit keys of so many features; returns them in float32, detached.

    Without ``finite`` whoever searches refuses NaN and infinity.
    """
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
    query = query.detach().to(torch.float32)
    if finite:
        check_finite(query, "query")
    return query


def as_ids(cells: Tensor, name: str = "cells") -> Tensor:
    """Refuse cell ids that are not whole numbers ``(n,)``; returns them as int64."""
    whole = not cells.is_floating_point() and not cells.is_complex() and cells.dtype != torch.bool
    if cells.dim() != 1 or not whole:
        got = f"{tuple(cells.shape)} of {cells.dtype}"
        raise ShapeError(f"{name} are {got}, expected int64 ids (cells,)")
    return cells.detach().to(torch.int64)
