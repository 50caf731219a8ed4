"""Questions of the training so far, from which an index learns where questions go."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hmn.index.protocol import Index, Teachable

KEPT = 16_384
ENOUGH = 2_048


class Lessons:
    """The last questions that passed in training, as queries with the right cell that scored best.

    Args:
        index: of the network; nothing is kept where it learns nothing.
        kept: questions that are kept, the last ones.
    """

    def __init__(self, index: Index, kept: int = KEPT) -> None:
        self._index, self._kept = index, kept
        self._query = torch.zeros(0, 0)
        self._cell = torch.zeros(0, dtype=torch.int64)
        self._seen = 0

    def note(self, query: Tensor, cell: Tensor, score: Tensor, right: Tensor) -> None:
        """Keep the questions of a step.

        Args:
            query: ``(B, D)``.
            cell: ``(C,)`` candidates.
            score: ``(B, C)``.
            right: ``(B, C)`` bool, which are right; questions without a right one are not kept.
        """
        if not isinstance(self._index, Teachable):
            return
        there = right.any(dim=1)
        best = score.detach().masked_fill(~right, -torch.inf).argmax(dim=1)
        query, chosen = query.detach()[there].float().cpu(), cell[best[there]].cpu()
        if not len(self._query):
            self._query = torch.zeros(self._kept, query.shape[1])
            self._cell = torch.zeros(self._kept, dtype=torch.int64)
        place = torch.arange(self._seen, self._seen + len(query)) % self._kept
        self._query[place], self._cell[place] = query, chosen
        self._seen += len(query)

    def teach(self, *, vectors: bool = True) -> None:
        """Let the index learn from what was kept, if it is enough; see ``Teachable.learn``."""
        if isinstance(self._index, Teachable) and self._seen >= ENOUGH:
            count = min(self._seen, self._kept)
            self._index.learn(self._query[:count], self._cell[:count], vectors=vectors)

    def forget(self) -> None:
        """Let the index forget what will be wrong when keys move."""
        if isinstance(self._index, Teachable) and len(self._index):
            self._index.forget()

    def state(self) -> dict[str, Tensor]:
        """What ``load`` takes back: nothing where nothing was kept."""
        if not self._seen:
            return {}
        count = min(self._seen, self._kept)
        return {
            "query": self._query[:count],
            "cell": self._cell[:count],
            "seen": torch.tensor(self._seen),
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        if not state:
            return
        self._seen, count = int(state["seen"]), len(state["query"])
        self._query = torch.zeros(self._kept, state["query"].shape[1])
        self._cell = torch.zeros(self._kept, dtype=torch.int64)
        self._query[:count], self._cell[:count] = state["query"], state["cell"]
