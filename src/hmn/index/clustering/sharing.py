"""Points that several processes hold together, each a part of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor


class Sharing(Protocol):
    """Joins what the processes know of their own points. All of them make the same calls, in the same order.

    Attributes:
        alone: whether there is one process, which holds all points.
    """

    alone: bool

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows ``(n, ...)`` of all processes, in their order."""
        ...

    def total(self, numbers: Tensor) -> Tensor:
        """Numbers ``(n, ...)``, n the same in each process, added up over all of them."""
        ...

    def of_first(self, work: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
        """What ``work`` returns in the first process, in all of them."""
        ...


class Alone:
    """One process, which holds all points."""

    alone = True

    def gathered(self, rows: Tensor) -> Tensor:
        """See ``Sharing.gathered``."""
        return rows

    def total(self, numbers: Tensor) -> Tensor:
        """See ``Sharing.total``."""
        return numbers

    def of_first(self, work: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
        """See ``Sharing.of_first``."""
        return list(work())


ALONE = Alone()
"""The usual sharing: there is none."""
