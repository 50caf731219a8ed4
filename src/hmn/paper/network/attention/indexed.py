"""Full softmax and K-MIPS attention, by the library's own readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.nn.parts import Reader
from hmn.paper.network.attention.loss import candidate_nll, cells_to_add
from hmn.paper.network.question_words import Asked
from hmn.results import SearchResult

Tune = Callable[[Tensor], dict[str, Any]]
"""Brings a search to its reads, on queries ``(B, D)``; returns how it was set."""


class IndexedAttention:
    """Attention by a reader of an indexed memory.

    Args:
        reader: reader of ``indexed``.
        indexed: the fixed cells, with their index.
        tune: brings the reader's search to its reads, if it is to be tuned.
    """

    def __init__(self, reader: Reader, indexed: IndexedMemory[Memory], tune: Tune | None = None) -> None:
        self.reader, self.indexed, self._tune = reader, indexed, tune

    def loss(
        self, query: Tensor, asked: Asked, numbers: NDArray[np.int64], generator: torch.Generator
    ) -> tuple[Tensor, int]:
        """See ``Attention.loss``."""
        keys = self.indexed.memory.keys
        target = cells_to_add(query, keys, asked, numbers)  # (T,)
        cell = self.reader.candidates(query, target, generator).cell  # (C,)
        return candidate_nll(query, keys, cell, asked, numbers), len(cell)

    def search(self, query: Tensor, texts: Sequence[str], k: int) -> SearchResult:  # noqa: ARG002
        """See ``Attention.search``."""
        return self.reader.searcher.search(query, k)

    def tune(self, query: Tensor) -> dict[str, Any]:
        """See ``Attention.tune``."""
        return {} if self._tune is None else self._tune(query)

    def state(self) -> dict[str, Tensor]:
        """See ``Attention.state``: none."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """See ``Attention.load``."""
