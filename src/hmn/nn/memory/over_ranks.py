"""Memories with an index, as layers, readers and networks take them: here, or on several ranks."""

from __future__ import annotations

from typing import Any, Protocol, cast

from torch import Tensor, nn

from hmn.errors import ConfigError
from hmn.index.allowed import Allowed
from hmn.index.protocol import Index, Searcher
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.parts import CellMemory
from hmn.results import SearchResult


class RemoteMemory(CellMemory, Protocol):
    """A memory whose cells lie on several ranks: keys and values are fetched together."""

    def rows_of(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Live keys ``(..., D)`` and values ``(..., V)`` of cells ``(...)``, fetched from their ranks."""
        ...


class IndexedOverRanks(Protocol):
    """A memory on several ranks with its indexes: ``hmn.distributed.ShardedMemory``.

    It has all other methods of ``IndexedMemory``, too.
    """

    @property
    def memory(self) -> RemoteMemory:
        """The cells of all ranks."""
        ...

    @property
    def index(self) -> Index:
        """The search structure of this rank."""
        ...

    def in_step(self, *, training: bool = False) -> Searcher:
        """What searches the cells of all ranks."""
        ...

    def search(self, query: Tensor, k: int, allowed: Allowed | None = None) -> SearchResult:
        """Find the ``k`` best cells of all ranks for each query ``(B, D)``."""
        ...

    def attach(self, layer: nn.Module) -> None:
        """Note that ``layer.memory`` is this memory."""
        ...

    def log_total(self, query: Tensor) -> Tensor:
        """Log of the sum of ``exp(score)`` over the cells of all ranks, for queries ``(B, D)``: ``(B,)``."""
        ...


def is_indexed(memory: object) -> bool:
    """Whether something is a memory with its index: an ``IndexedMemory``, or a memory on several ranks."""
    return callable(getattr(memory, "in_step", None)) and not isinstance(memory, type)


def is_remote(memory: object) -> bool:
    """Whether a memory's cells lie on several ranks, which fetch them together."""
    return hasattr(memory, "rows_of")


def checked_indexed(indexed: Any) -> IndexedMemory[CellMemory]:
    """Refuse anything but a memory with its index."""
    if not is_indexed(indexed):
        raise ConfigError(
            f"indexed is {type(indexed).__name__}, expected hmn.IndexedMemory: make one with "
            "IndexedMemory(memory, index)"
        )
    return cast("IndexedMemory[CellMemory]", indexed)
