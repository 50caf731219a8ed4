"""The most recent queries of training, from which an index learns where queries lead."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hmn.index.protocol import Index, Teachable
from hmn.store.contents import tensor_like

KEPT = 16_384
"""Number of queries that are kept, the most recent ones."""
ENOUGH = 2_048
"""Number of queries from which an index begins to learn."""


class QueryLog:
    """The most recent queries of training, each with its best-scoring right cell.

    Args:
        index: Index of the network. Nothing is kept unless it is ``Teachable``.
        kept: Number of queries that are kept.
    """

    def __init__(self, index: Index, kept: int = KEPT) -> None:
        self._index, self._kept = index, kept
        self._query = torch.zeros(0, 0)
        self._cell = torch.zeros(0, dtype=torch.int64)
        self._seen = 0

    def note(self, query: Tensor, cell: Tensor, score: Tensor, right: Tensor) -> None:
        """Keep the queries of a step that have a right candidate.

        Args:
            query: ``(B, D)`` queries.
            cell: ``(C,)`` candidates.
            score: ``(B, C)`` scores.
            right: ``(B, C)`` mask of the right candidates.
        """
        if not isinstance(self._index, Teachable):
            return
        has_right = right.any(dim=1)  # (B,)
        best = score.detach().masked_fill(~right, -torch.inf).argmax(dim=1)  # (B,)
        query, chosen = query.detach()[has_right].float().cpu(), cell[best[has_right]].cpu()
        if not len(self._query):
            self._query = torch.zeros(self._kept, query.shape[1])
            self._cell = torch.zeros(self._kept, dtype=torch.int64)
        row = torch.arange(self._seen, self._seen + len(query)) % self._kept  # oldest rows are overwritten
        self._query[row], self._cell[row] = query, chosen
        self._seen += len(query)

    def teach(self, *, vectors: bool = True) -> None:
        """Let the index learn from the queries, if there are enough of them; see ``Teachable.learn``."""
        if isinstance(self._index, Teachable) and self._seen >= ENOUGH:
            count = min(self._seen, self._kept)
            self._index.learn(self._query[:count], self._cell[:count], vectors=vectors)

    def forget(self) -> None:
        """Let the index forget what will be wrong once the keys change."""
        if isinstance(self._index, Teachable) and len(self._index):
            self._index.forget()

    def state(self) -> dict[str, Tensor]:
        """State for ``load``; empty if nothing was kept."""
        if not self._seen:
            return {}
        count = min(self._seen, self._kept)
        return {
            "query": self._query[:count],
            "cell": self._cell[:count],
            "seen": torch.tensor(self._seen),
        }

    def load(self, state: Mapping[str, Tensor], cells: int) -> None:
        """Restore a state from ``state``.

        Args:
            state: Tensors by name.
            cells: Number of cells of the memory.

        Raises:
            ValueError: The state does not fit.
        """
        if not state:
            return
        query, seen = state["query"], int(tensor_like(state, "seen", torch.tensor(0)))
        cell = tensor_like(state, "cell", torch.zeros(min(seen, self._kept), dtype=torch.int64))
        if query.dtype != torch.float32 or query.dim() != 2 or len(query) != len(cell):
            raise ValueError(
                f"query is {tuple(query.shape)} of {query.dtype}, expected ({len(cell)}, D) floats"
            )
        if len(cell) and not 0 <= int(cell.min()) <= int(cell.max()) < cells:
            raise ValueError(f"cell holds {int(cell.min())} to {int(cell.max())}, expected 0 to {cells - 1}")
        self._seen = seen
        self._query = torch.zeros(self._kept, query.shape[1])
        self._cell = torch.zeros(self._kept, dtype=torch.int64)
        self._query[: len(cell)], self._cell[: len(cell)] = query, cell
