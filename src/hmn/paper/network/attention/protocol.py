"""What the attention of a row does in training and at test time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.paper.network.question_words import Asked
from hmn.results import SearchResult


class Attention(Protocol):
    """Attention over the cells of a memory."""

    def loss(
        self, query: Tensor, asked: Asked, numbers: NDArray[np.int64], generator: torch.Generator
    ) -> tuple[Tensor, int]:
        """Loss of a batch, a scalar, and the number of cells that its softmax normalises over.

        Args:
            query: ``(B, D)`` queries of the questions.
            asked: all questions.
            numbers: ``(B,)`` numbers of those in the batch.
            generator: source of random draws.
        """
        ...

    def search(self, query: Tensor, texts: Sequence[str], k: int) -> SearchResult:
        """The k best cells of each question, by its query ``(B, D)`` and its text."""
        ...

    def state(self) -> dict[str, Tensor]:
        """State that training changes beside the words."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state`` returned."""
        ...

    def tune(self, query: Tensor) -> dict[str, Any]:
        """Bring the search to the reads that it may spend, on queries such as are asked now.

        Returns:
            How it was set, for the results file; empty if there is nothing to tune.
        """
        ...
