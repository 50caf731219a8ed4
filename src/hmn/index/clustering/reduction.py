"""Reductions: extra columns give all keys one length, which turns inner products into cosines.

A reduction decides only where a cell is filed (its cluster, bucket or leaf) and where a query looks. Scores
are always inner products of the keys and queries themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hmn._native.finite import LONGEST
from hmn.errors import ConfigError, ShapeError, expected_one_of
from hmn.index.storage.saved import Saved, refuse


@runtime_checkable
class Reduction(Protocol):
    """Columns appended to keys (P) and queries (Q), so that cosines rank keys as inner products do."""

    @property
    def name(self) -> str:
        """Name that ``make_reduction`` knows it by."""
        ...

    def fit(self, keys: Tensor) -> None:
        """Find the scale of keys ``(n, D)``; n may be 0."""
        ...

    def keys(self, keys: Tensor) -> Tensor:
        """P of keys ``(n, D)`` of any float type: ``(n, D')`` float32."""
        ...

    def queries(self, query: Tensor) -> Tensor:
        """Q of queries ``(B, D)``: ``(B, D')`` float32."""
        ...

    def features(self, d: int) -> int:
        """D', the features of reduced keys that had D."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What was found by ``fit``; names begin with ``reduction.``."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` gave; other entries of the state are left alone.

        Raises:
            ShapeError: the state is that of another reduction; then nothing is changed.
        """
        ...


class PaperReduction:
    """P(x) = [x, 1/2 - |x|^2, 1/2 - |x|^4, ..., 1/2 - |x|^(2^m)], x scaled so that the longest has norm u.

    Then |P(x)|^2 = m/4 + |x|^(2^(m+1)), which is m/4 for all keys within u^(2^(m+1)), so that the order by
    cosine is nearly that by inner product. A key that is added later and is more than 1/u times as long as
    the longest fitted gets the columns of a key of norm 1.

    Source: Shrivastava and Li, "Improved asymmetric locality sensitive hashing (ALSH) for maximum inner
    product search", 2014; used by Chandar et al., "Hierarchical memory networks", 2016.

    Args:
        u: norm of the longest key after scaling, between 0 and 1.
        m: appended columns, at least 1.

    Raises:
        ConfigError: u or m is out of range.
    """

    name = "paper"

    def __init__(self, u: float = 0.83, m: int = 3) -> None:
        if not 0 < u < 1:
            raise ConfigError(f"u is {u}, expected a number between 0 and 1")
        if m < 1:
            raise ConfigError(f"m is {m}, expected at least 1: use NoReduction to append nothing")
        self.u = u
        self.m = m
        self._longest = 0.0

    def fit(self, keys: Tensor) -> None:
        """See ``Reduction.fit``."""
        self._longest = _longest(keys)

    def keys(self, keys: Tensor) -> Tensor:
        """See ``Reduction.keys``."""
        factor = self.u / self._longest if self._longest else 1.0
        wide = factor > torch.finfo(torch.float32).max  # as of keys of 1e-42
        keys = (keys.double() * factor).float() if wide else keys.float() * factor
        power = torch.linalg.vector_norm(keys, dim=1, keepdim=True).clamp(max=1)
        columns = [keys]
        for _ in range(self.m):
            power = power.square()
            columns.append(0.5 - power)
        return torch.cat(columns, dim=1)

    def queries(self, query: Tensor) -> Tensor:
        """See ``Reduction.queries``."""
        return _padded(query, self.m)

    def features(self, d: int) -> int:
        """See ``Reduction.features``."""
        return d + self.m

    def state_dict(self) -> dict[str, Tensor]:
        """See ``Reduction.state_dict``."""
        return {"reduction.paper": _numbers(self.u, self.m, self._longest)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See ``Reduction.load_state_dict``."""
        u, m, longest = _entry(state, "reduction.paper", 3)
        if (u, m) != (self.u, self.m):
            raise ShapeError(f"the state is of u={u} and m={m:.0f}, expected u={self.u} and m={self.m}")
        self._longest = longest


class OneColumnReduction:
    """P(x) = [x, sqrt(max|x|^2 - |x|^2)]: all keys get one length, so cosines rank them as inner products do.

    A key that is added later and is longer than the longest fitted gets 0: it is filed by its own cosine.

    Source: Bachrach et al., "Speeding up the Xbox recommender system using a Euclidean transformation for
    inner-product spaces", 2014; Neyshabur and Srebro, "On symmetric and asymmetric LSHs for inner product
    search", 2015.
    """

    name = "one-column"

    def __init__(self) -> None:
        self._longest = 0.0

    def fit(self, keys: Tensor) -> None:
        """See ``Reduction.fit``."""
        self._longest = _longest(keys)

    def keys(self, keys: Tensor) -> Tensor:
        """See ``Reduction.keys``."""
        norm = _norm(keys).clamp(max=self._longest).unsqueeze(1)
        # as a product of two factors, since a difference of squares loses digits near the largest norm
        column = ((self._longest - norm) * (self._longest + norm)).sqrt()
        column = column.clamp(max=torch.finfo(torch.float32).max)
        return torch.cat([keys.float(), column.float()], dim=1)

    def queries(self, query: Tensor) -> Tensor:
        """See ``Reduction.queries``."""
        return _padded(query, 1)

    def features(self, d: int) -> int:
        """See ``Reduction.features``."""
        return d + 1

    def state_dict(self) -> dict[str, Tensor]:
        """See ``Reduction.state_dict``."""
        return {"reduction.one_column": _numbers(self._longest)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See ``Reduction.load_state_dict``."""
        (self._longest,) = _entry(state, "reduction.one_column", 1)


class NoReduction:
    """P(x) = x: cells are filed by their own keys."""

    name = "none"

    def fit(self, keys: Tensor) -> None:
        """See ``Reduction.fit``; there is nothing to find."""

    def keys(self, keys: Tensor) -> Tensor:
        """See ``Reduction.keys``."""
        return keys.float()

    def queries(self, query: Tensor) -> Tensor:
        """See ``Reduction.queries``."""
        return query.float()

    def features(self, d: int) -> int:
        """See ``Reduction.features``."""
        return d

    def state_dict(self) -> dict[str, Tensor]:
        """See ``Reduction.state_dict``."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See ``Reduction.load_state_dict``."""
        others = [name for name in state if isinstance(name, str) and name.startswith("reduction.")]
        if others:
            raise ShapeError(
                f"the state has {others[0]}, expected no reduction: make the index with that one"
            )


REDUCTIONS = {"paper": PaperReduction, "one-column": OneColumnReduction, "none": NoReduction}
"""Class of a reduction, by its name in settings."""


def make_reduction(name: str) -> Reduction:
    """The reduction called ``paper``, ``one-column`` or ``none``, with its usual settings.

    Raises:
        ConfigError: no reduction has that name.
    """
    if name not in REDUCTIONS:
        raise ConfigError(f"there is no reduction {name!r}, {expected_one_of(name, REDUCTIONS)}")
    reduction: Reduction = REDUCTIONS[name]()
    return reduction


def as_reduction(reduction: object, usual: str) -> Reduction:
    """A reduction that is given as such, by its name, or as None for the usual one.

    Raises:
        ConfigError: it is something else.
    """
    if reduction is None or isinstance(reduction, str):
        return make_reduction(usual if reduction is None else reduction)
    if not isinstance(reduction, Reduction) or isinstance(reduction, type):
        raise ConfigError(
            f"reduction is {reduction!r}, expected a name ({', '.join(REDUCTIONS)}) or an object"
        )
    return reduction


def _norm(keys: Tensor) -> Tensor:
    """Norms ``(n,)`` in float64, in which squares of float32 numbers cannot overflow."""
    norm: Tensor = torch.linalg.vector_norm(keys, dim=1, dtype=torch.float64)
    return norm


def _longest(keys: Tensor) -> float:
    return float(_norm(keys).max()) if len(keys) else 0.0


def _padded(query: Tensor, columns: int) -> Tensor:
    return torch.nn.functional.pad(query.float(), (0, columns))


def _numbers(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64, device="cpu")


def _entry(state: Mapping[str, Tensor], name: str, size: int) -> list[float]:
    saved = Saved(state, torch.device("cpu"), "an index with this reduction")
    numbers: list[float] = saved.tensor(name, torch.float64, (size,)).tolist()
    if not all(0 <= number <= LONGEST for number in numbers):
        refuse(name, f"{numbers}", f"numbers from 0 to {LONGEST:.3g}")
    return numbers
