"""Exact search: every key is scored, or ruled out by a bound on its score."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hmn._native.allowed.filter import Filter
from hmn.errors import check_flag
from hmn.index.among import Filtered
from hmn.index.storage.key_rows import KeyRows
from hmn.index.structures.base import Structure
from hmn.index.structures.screening import Screen
from hmn.results import SearchResult

BLOCK = 64
"""Columns per block in ``blockwise_topk``."""
CHUNK_SCORES = 1 << 24
"""Scores that are computed at a time, to bound the memory they need."""
FEW_SHARE = 32
"""Divisor of the number of cells; up to the quotient of allowed ones are scored where they lie."""
LEAST_QUERIES = 64
"""Lower limit of queries that are scored at a time, since each pass reads all keys."""


class ExactIndex(Structure[Screen]):
    """Finds the best of all N cells: the reference for every other structure.

    On the CPU, keys that many queries have searched are screened. Codes of 8 bits per feature (16 with AVX2)
    show which cells cannot be among the best, and only the others are scored in full. The codes take a
    quarter (half) of the memory of float32 keys.

    Args:
        keys: ``(N, D)`` keys to build the index on; None builds nothing yet.
        storage: type in which keys are kept: float32, float16 or bfloat16; None keeps their own.
        screened: whether keys may be screened. Give False if some of them change in place in a way that
            PyTorch cannot see: through NumPy, ``Tensor.data`` or another process.

    Raises:
        ShapeError: keys are not a float matrix.
        NonFiniteError: keys hold NaN or infinity.
    """

    kind = "exact"
    adapts = True

    def __init__(
        self, keys: Tensor | None = None, *, storage: torch.dtype | None = None, screened: bool = True
    ) -> None:
        super().__init__(storage)
        self.screened = check_flag("screened", screened)
        if keys is not None:
            self.build(keys)

    @property
    def has_structure(self) -> bool:
        """See ``Index.has_structure``: it needs nothing but the keys."""
        return False

    def scores_live(self, keys: Tensor) -> bool:
        """See ``Live.scores_live``: true where the keys are shared, not copied or converted."""
        rows = self._rows
        if rows is None or rows.cell_by_row is not None:
            return False
        held = rows.keys
        return held.data_ptr() == keys.data_ptr() and held.shape == keys.shape and held.dtype == keys.dtype

    def _make(self, rows: KeyRows) -> Screen:  # noqa: ARG002
        return Screen()

    def _search(
        self, rows: KeyRows, screen: Screen, query: Tensor, k: int, allowed: Filter | None = None
    ) -> SearchResult:
        """Search with codes if they pay; equal scores are in no particular order."""
        codes = screen.codes(len(query)) if self.screened and k <= len(rows) else None
        if codes is None:
            return _with_costs(rows, *_best_rows(rows, query, k, allowed))
        score, row, certain = codes.search(query, k, allowed)
        left = (~certain).nonzero().squeeze(1)
        if len(left):
            own = None if allowed is None else allowed.of(left)
            score[left], row[left] = _best_rows(rows, query[left], k, own)
        return _with_costs(rows, score, row)

    def _filtered(self, rows: KeyRows, screen: Screen, k: int) -> Filtered:
        def search(query: Tensor, allowed: Filter, share: Tensor) -> SearchResult:  # noqa: ARG001
            return self._search(rows, screen, query, k, allowed)

        return Filtered(max(k, len(rows) // FEW_SHARE), search)

    def _is_settled(self, rows: KeyRows, screen: Screen) -> bool:
        return not self.screened or screen.is_settled(rows)

    def _settle(self, rows: KeyRows, screen: Screen) -> None:
        screen.settle(rows)

    def _insert(self, rows: KeyRows, screen: Screen, touched: Tensor) -> None:
        screen.insert(rows, touched)

    def _discard(self, rows: KeyRows, screen: Screen, touched: Tensor) -> None:  # noqa: ARG002
        screen.discard(touched)

    def _write(self, rows: KeyRows, screen: Screen, touched: Tensor) -> None:
        screen.write(rows, touched)

    def _save(self, rows: KeyRows, screen: Screen) -> dict[str, Tensor]:  # noqa: ARG002
        return {}

    def _load(self, rows: KeyRows, state: Mapping[str, Tensor]) -> Screen:  # noqa: ARG002
        return Screen()

    def _describe(self, rows: KeyRows, screen: Screen) -> dict[str, int | float | str]:  # noqa: ARG002
        return {}


def search_all(rows: KeyRows, query: Tensor, k: int) -> SearchResult:
    """Score every row for queries ``(B, D)``; the result holds rows in place of cells."""
    return _with_costs(rows, *_best_rows(rows, query, k))


def _with_costs(rows: KeyRows, score: Tensor, row: Tensor) -> SearchResult:
    """The best rows ``(B, k)``, and what it costs each query to score all of them."""
    scored = torch.full((len(row),), len(rows), dtype=torch.int64, device=row.device)
    return SearchResult(score, row, scored.float() * (rows.keys.element_size() / 4), scored)


def _best_rows(rows: KeyRows, query: Tensor, k: int, allowed: Filter | None = None) -> tuple[Tensor, Tensor]:
    """Score every row: best ``score`` (B, k) and ``row`` (B, k); unused places hold ``-inf`` and ``-1``."""
    # 1. Score as many queries and as many keys at a time as the memory for their scores allows.
    # 2. Drop the scores of rows that hold no cell, and of those that are not allowed.
    # 3. Merge the best of these keys with the best so far.
    keys, live, b = rows.keys[: rows.used], rows.live(), len(query)
    if allowed is not None and allowed.is_shared:
        live, allowed = live[allowed.allows(live).squeeze(0)], None
    score = query.new_full((b, k), -torch.inf)
    row = torch.full((b, k), -1, dtype=torch.int64, device=query.device)
    queries_at_a_time = max(CHUNK_SCORES // max(len(keys), 1), LEAST_QUERIES)
    keys_at_a_time = CHUNK_SCORES // min(queries_at_a_time, max(b, 1))
    for start in range(0, b, queries_at_a_time):
        chosen = slice(start, start + queries_at_a_time)
        for first in range(0, len(keys), keys_at_a_time):
            scores = _products(query[chosen], keys[first : first + keys_at_a_time])  # (b, n)
            low = first  # where these rows begin in ``live``
            if len(live) < len(keys):
                ends = live.new_tensor([first, first + keys_at_a_time])
                low, high = torch.searchsorted(live, ends).tolist()
                scores = scores[:, live[low:high] - first]
            if allowed is not None:
                of_chosen = allowed.of(torch.arange(b, device=query.device)[chosen])
                scores.masked_fill_(~of_chosen.allows(live[low : low + scores.shape[1]]), -torch.inf)
            best, column = blockwise_topk(scores, min(k, scores.shape[1]))
            best = torch.cat([score[chosen], best], dim=1)  # (b, 2k)
            candidate = torch.cat([row[chosen], live[column + low]], dim=1)
            score[chosen], order = best.topk(k, dim=1)  # (b, k)
            row[chosen] = candidate.gather(1, order).masked_fill(score[chosen] == -torch.inf, -1)
    return score, row


def _products(query: Tensor, keys: Tensor) -> Tensor:
    """Inner products ``(B, N)`` in float32 of float32 queries with keys of any storage type."""
    if keys.dtype == torch.float32:
        return query @ keys.T
    parts = [query @ part.float().T for part in torch.split(keys, 1 << 16)]
    return torch.cat(parts, dim=1) if parts else query.new_empty(len(query), 0)


def blockwise_topk(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``torch.topk`` of each row of ``(B, N)``, sorted; several times as fast if k is much smaller than N.

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
