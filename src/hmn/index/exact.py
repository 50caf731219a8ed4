"""Exact search: every key is scored."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn.index.base import check_keys, check_query
from hmn.typing import SearchResult

BLOCK = 64
CHUNK_SCORES = 1 << 24


class ExactIndex:
    """Scores all N cells for every query; the reference of every other structure.

    It shares the keys' storage and makes no copy: rows changed in place are seen by the next search.

    Args:
        keys: ``(N, D)`` float32; N may be 0.

    Raises:
        ShapeError: keys are not a float matrix.
        NonFiniteError: keys hold NaN or infinity.
    """

    def __init__(self, keys: Tensor) -> None:
        self.keys = check_keys(keys)

    def __len__(self) -> int:
        """Number of cells, N."""
        return len(self.keys)

    def update(self, keys: Tensor) -> None:
        """Search ``(N, D)`` other keys from now on."""
        self.keys = check_keys(keys)

    def search(self, query: Tensor, k: int) -> SearchResult:
        """See ``Index.search``. Equal scores are in no particular order."""
        query = check_query(query, self.keys.shape[1], k).to(self.keys.dtype)
        n, b = len(self.keys), len(query)
        score = query.new_full((b, k), -torch.inf, dtype=torch.float32)
        cell = torch.full((b, k), -1, dtype=torch.int64, device=query.device)
        rows = max(1, CHUNK_SCORES // max(n, 1))
        for start in range(0, b if n else 0, rows):
            part = slice(start, start + rows)
            best, at = blockwise_topk(query[part] @ self.keys.T, min(k, n))
            score[part, : best.shape[1]], cell[part, : at.shape[1]] = best.float(), at
        scored = torch.full((b,), n, dtype=torch.int64, device=query.device)
        return SearchResult(score, cell, scored.float(), scored)


def blockwise_topk(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``torch.topk`` of each row of ``(B, N)``, sorted, several times as fast for k much smaller than N.

    The k best of a row lie in the k blocks of columns with the largest maxima, so only these are sorted.
    """
    b, n = score.shape
    blocks = n // BLOCK
    if blocks < 4 * k:
        best = score.topk(k, dim=1)
        return best.values, best.indices
    body = score[:, : blocks * BLOCK].reshape(b, blocks, BLOCK)
    kept = body.amax(dim=2).topk(k, dim=1, sorted=False).indices  # (B, k)
    column = (kept.unsqueeze(2) * BLOCK + torch.arange(BLOCK, device=score.device)).flatten(1)
    tail = torch.arange(blocks * BLOCK, n, device=score.device).expand(b, -1)
    column = torch.cat([column, tail], dim=1)  # (B, k * BLOCK + rest)
    best = score.gather(1, column).topk(k, dim=1)
    return best.values, column.gather(1, best.indices)
