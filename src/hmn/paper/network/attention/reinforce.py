"""Hard attention trained by REINFORCE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.nn.attention.hard import HardAttention
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.paper.network.attention.loss import single_cells
from hmn.paper.network.question_words import Asked
from hmn.results import SearchResult
from hmn.store.contents import tensor_like


class ReinforceAttention:
    """Hard attention: the reward is 1 if the drawn cell is right.

    Every step draws with its own generator, so that an interrupted run continues with the same draws.

    Args:
        indexed: the fixed cells, with exact search.
    """

    def __init__(self, indexed: IndexedMemory[Memory]) -> None:
        self._indexed = indexed
        initial = HardAttention(indexed.memory)
        device = indexed.memory.keys.device
        self._baseline, self._steps = initial.baseline.to(device), initial.steps.to(device)

    def loss(
        self, query: Tensor, asked: Asked, numbers: NDArray[np.int64], generator: torch.Generator
    ) -> tuple[Tensor, int]:
        """See ``Attention.loss``."""
        seed = int(torch.randint(1 << 62, (1,), generator=generator))
        attention = HardAttention(self._indexed.memory, seed=seed).train()
        attention.baseline, attention.steps = self._baseline, self._steps  # which the loss moves in place
        read = attention(query)
        single = single_cells(asked, numbers)
        if single is None:
            cell, place = torch.unique(read.cell, return_inverse=True)  # (C,), (B, 1)
            right, _ = asked.target.masks(numbers, cell)  # (B, C)
            reward = right.gather(1, place.view(-1, 1)).squeeze(1)  # (B,)
        else:
            reward = read.cell.squeeze(1) == single.to(read.cell.device)  # (B,)
        return attention.loss(read, reward), len(self._indexed)

    def search(self, query: Tensor, texts: Sequence[str], k: int) -> SearchResult:  # noqa: ARG002
        """See ``Attention.search``; the best cell is the one that hard attention reads."""
        return self._indexed.search(query, k)

    def tune(self, query: Tensor) -> dict[str, Any]:  # noqa: ARG002
        """See ``Attention.tune``: nothing to tune."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """See ``Attention.state``: the moving average of the rewards."""
        return {"baseline": self._baseline, "steps": self._steps}

    def load(self, state: dict[str, Tensor]) -> None:
        """See ``Attention.load``."""
        self._baseline.copy_(tensor_like(state, "baseline", self._baseline))
        self._steps.copy_(tensor_like(state, "steps", self._steps))
