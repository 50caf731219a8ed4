"""The five parts of a memory network, on one page.

The input module, which turns a batch of inputs into queries, is any ``nn.Module``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import TypeVar

from hmn.index.protocol import Index, Searcher
from hmn.nn.candidates.strategy import Candidates
from hmn.results import Read

Output = TypeVar("Output", covariant=True)
"""Type of what an output module makes of a read."""


class CellMemory(Protocol):
    """N cells with keys of D features and, perhaps, values of V features."""

    def __len__(self) -> int:
        """Number of cells, N."""
        ...

    def keys_of(self, cells: Tensor) -> Tensor:
        """Live keys ``(C, D)`` of cells ``(C,)``; gradients flow through them where keys are trained."""
        ...

    def values_of(self, cells: Tensor) -> Tensor | None:
        """Values ``(..., V)`` of cells ``(...)``, or None if this memory has none."""
        ...

    def snapshot(self) -> Tensor:
        """Keys ``(N, D)`` that an index may search: the keys themselves, or a copy that may lag behind."""
        ...


WrittenTo = TypeVar("WrittenTo", bound=CellMemory, default=CellMemory, contravariant=True)
"""Type of the memory that a writer writes."""


class CellEncoder(Protocol):
    """Makes keys of cells from their features."""

    num_cells: int

    def __call__(self, cells: Tensor) -> Tensor:
        """Keys ``(C, D)`` of cells ``(C,)``, with gradients to the encoder's weights."""
        ...

    def all_keys(self) -> Iterator[Tensor]:
        """Keys of all cells in order, in parts ``(n, D)``, without gradients."""
        ...


class Reader(Protocol):
    """Attention over the cells of a memory with its index (``hmn.nn.memory.indexed.IndexedMemory``).

    Attributes:
        name: what the command line calls it.
        searcher: what ``read`` searches with: the indexed memory, or a wrapper around it.
    """

    name: str
    searcher: Searcher

    @property
    def index(self) -> Index:
        """The search structure of the memory."""
        ...

    def candidates(self, query: Tensor, target: Tensor, generator: torch.Generator) -> Candidates:
        """Cells that the training softmax normalises over, for the whole batch.

        Args:
            query: ``(B, D)``.
            target: ``(T,)`` cells that must be among them: the correct cells of the batch.
            generator: source of random draws, if the reader draws any.

        Returns:
            C distinct cells, ascending, and the probability with which each was drawn.
        """
        ...

    def read(self, query: Tensor, k: int) -> Read[Tensor | None]:
        """Read the ``k`` best cells of the memory's snapshot for each query ``(B, D)``, best first."""
        ...


class OutputModule(Protocol[Output]):
    """Turns what was read into answers."""

    def __call__(self, read: Read[Tensor | None]) -> Output:
        """Answers for a batch of reads."""
        ...


class Writer(Protocol[WrittenTo]):
    """Changes the memory in the course of reading, such as ``hmn.nn.CellWriter``."""

    def __call__(self, query: Tensor, memory: WrittenTo) -> None:
        """Write into the memory what the queries ``(B, D)`` say."""
        ...
