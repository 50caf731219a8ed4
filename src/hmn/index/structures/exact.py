"""Exact search: the best of all keys, which are all scored, or shown by a bound to be out of the question."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hmn.index.checks import check_query
from hmn.index.precision import structure
from hmn.index.storage.key_rows import Rows, built
from hmn.index.structures.screening import Screen
from hmn.results import SearchResult

BLOCK = 64
CHUNK_SCORES, LEAST_QUERIES = 1 << 24, 64
"""Scores at a time, and queries at a time at least: each pass over the keys reads all of them."""


@structure
class ExactIndex:
    """Finds the best of all N cells; the reference of every other structure.

    On the CPU, keys that are asked again and again are screened: codes of 8 bits (16 with AVX2), a quarter
    (half) of the memory of float32 keys, show which cells cannot be among the best, and only the others are
    scored in full.

    Args:
        keys: ``(N, D)`` to begin with, as in ``build``; nothing is built if not given.
        storage: type in which keys are kept: float32, float16 or bfloat16; as they come if not given.
        screened: whether keys may be screened. Ask for False where they are changed in place in a way that
            PyTorch cannot see: through NumPy, ``Tensor.data`` or another process.

    Raises:
        ShapeError: keys are not a float matrix.
        NonFiniteError: keys hold NaN or infinity.
    """

    def __init__(
        self, keys: Tensor | None = None, *, storage: torch.dtype | None = None, screened: bool = True
    ) -> None:
        self.storage, self.screened = storage, screened
        self._rows: Rows | None = None
        self._screen = Screen()
        if keys is not None:
            self.build(keys)

    def __len__(self) -> int:
        """Number of cells, N."""
        return 0 if self._rows is None else len(self._rows)

    def build(self, keys: Tensor, cells: Tensor | None = None) -> None:
        """See ``Index.build``."""
        self._rows = Rows(keys, cells, self.storage)
        self._screen.forget()

    def add(self, cells: Tensor, keys: Tensor) -> None:
        """See ``Index.add``."""
        built(self._rows).add(cells, keys)
        self._screen.forget()

    def remove(self, cells: Tensor) -> None:
        """See ``Index.remove``."""
        built(self._rows).remove(cells)
        self._screen.forget()

    def update(self, cells: Tensor, keys: Tensor) -> None:
        """See ``Index.update``."""
        self._screen.write(built(self._rows), cells, keys)

    def search(self, query: Tensor, k: int) -> SearchResult:
        """See ``Index.search``. Equal scores are in no particular order."""
        rows = built(self._rows)
        query = check_query(query, rows.features, k).to(rows.keys.device)
        n, b = len(rows), len(query)
        codes = self._screen.codes(rows, b) if self.screened and k <= n else None
        if codes is None:
            score, found = _best_rows(rows, query, k)
        else:
            score, found, certain = codes.search(query, k)
            left = (~certain).nonzero().squeeze(1)
            if len(left):
                score[left], found[left] = _best_rows(rows, query[left], k)
        scored = torch.full((b,), n, dtype=torch.int64, device=query.device)
        reads = scored * (rows.keys.element_size() / 4)
        return SearchResult(score, rows.cells_at(found), reads.float(), scored)

    def state_dict(self, *, with_keys: bool = True) -> dict[str, Tensor]:
        """See ``Index.state_dict``."""
        return built(self._rows).state_dict(with_keys=with_keys)

    def load_state_dict(self, state: Mapping[str, Tensor], keys: Tensor | None = None) -> None:
        """See ``Index.load_state_dict``."""
        self._rows = Rows.from_state(state, keys, self.storage)
        self._screen.forget()

    def stats(self) -> dict[str, int | float | str]:
        """See ``Index.stats``."""
        return {"structure": "exact", **built(self._rows).stats()}


def _best_rows(rows: Rows, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Score every row; the best ``score`` (B, k) and ``row`` (B, k), unused places ``-inf`` and ``-1``."""
    keys, live, b = rows.keys[: rows.used], rows.live(), len(query)
    score = query.new_full((b, k), -torch.inf)
    found = torch.full((b, k), -1, dtype=torch.int64, device=query.device)
    part = max(CHUNK_SCORES // max(len(keys), 1), LEAST_QUERIES)
    at_once = CHUNK_SCORES // min(part, max(b, 1))
    for start in range(0, b, part):
        chosen = slice(start, start + part)
        for first in range(0, len(keys), at_once):
            scores = _products(query[chosen], keys[first : first + at_once])
            if len(live) < len(keys):
                ends = torch.tensor([first, first + at_once], device=live.device)
                low, high = torch.searchsorted(live, ends).tolist()
                scores = scores[:, live[low:high] - first]
            else:
                low = first
            best, at = blockwise_topk(scores, min(k, scores.shape[1]))
            best = torch.cat([score[chosen], best], dim=1)
            at = torch.cat([found[chosen], live[at + low]], dim=1)
            score[chosen], order = best.topk(k, dim=1)
            found[chosen] = at.gather(1, order)
    return score, found


def _products(query: Tensor, keys: Tensor) -> Tensor:
    """Inner products ``(B, N)`` in float32 of float32 queries with keys of any storage type."""
    if keys.dtype == torch.float32:
        return query @ keys.T
    parts = [query @ part.float().T for part in torch.split(keys, 1 << 16)]
    return torch.cat(parts, dim=1) if parts else query.new_empty(len(query), 0)


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
