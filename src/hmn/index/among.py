"""Search among allowed cells: where they are few, all of them are scored; otherwise the structure filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hmn._native import replaced, score_few, share_allowed
from hmn._native.allowed.filter import Filter
from hmn.index.allowed import Allowed, Where, check_allowed, check_where
from hmn.index.checks import check_not_negative
from hmn.index.storage.key_rows import KeyRows
from hmn.results import SearchResult

SAMPLED = 1024
"""Rows by which the share of allowed rows is estimated, where there are more."""
SURELY_MORE = 4
"""Factor by which estimated allowed rows must exceed a limit so that nobody counts them."""
FEWEST = 256
"""Lower limit of the allowed rows that are few."""
TOGETHER = 16
"""Number of queries from which on it is much faster to score the same rows for all of them."""
FEW_TOGETHER = 4
"""Factor of the rows that are few then."""
LISTED_ROWS = 1 << 24
"""Upper limit of rows that are listed at a time for queries with sets of their own, to bound memory."""


class Filtered(NamedTuple):
    """How a structure searches among allowed rows.

    Attributes:
        few: number of allowed rows up to which scoring all of them, for a query alone, is as fast.
        search: searches queries ``(b, D)``, given their filter and the share ``(b,)`` of rows that each may
            find, as estimated.
    """

    few: int
    search: Callable[[Tensor, Filter, Tensor], SearchResult]


def filter_of(allowed: Allowed, rows: KeyRows, queries: int) -> Filter | None:
    """The filter that a user gave for this number of queries; None for all rows.

    Raises:
        CellError: an allowed cell does not exist.
        ShapeError: it is neither a mask, nor ids, nor a ``Where`` that fits the queries.
    """
    device = rows.keys.device
    if isinstance(allowed, Where):
        column, low, high = (part.to(device).contiguous() for part in check_where(allowed, queries))
        return Filter(column, low, high, rows.cell_by_row)
    given, none = check_allowed(allowed), torch.zeros(1, dtype=torch.int64, device=device)
    if given.dtype == torch.bool:
        return Filter(given.to(device).contiguous(), none, none, rows.cell_by_row)
    check_not_negative(given)
    row = rows.rows_of(torch.unique(given))
    mask = torch.zeros(rows.used, dtype=torch.bool, device=device)
    return None if len(row) == len(rows) else Filter(mask.index_fill_(0, row, value=True), none, none)


def search_among(
    rows: KeyRows,
    query: Tensor,
    k: int,
    allowed: Filter,
    search: Callable[[Tensor], SearchResult],
    filtered: Filtered | None,
) -> SearchResult:
    """Search among allowed rows; the result holds rows in place of cells.

    Args:
        rows: the keys.
        query: ``(B, D)`` float32, finite, on the device of the keys.
        k: results per query.
        allowed: which rows each query may find.
        search: searches all rows, for queries ``(b, D)``.
        filtered: how the structure searches allowed rows; None scores all of these, however many they are.
    """
    # 1. Queries that may find every row are searched as if there were no filter.
    # 2. Those that may find few rows have all of these scored.
    # 3. The structure searches the others, and passes over rows that are not allowed.
    if not len(rows) or not len(query):
        return search(query)
    share = share_allowed(allowed, len(query), rows.used, SAMPLED)  # (1,) or (B,)
    factor = FEW_TOGETHER if allowed.is_shared and len(query) >= TOGETHER else 1
    few = len(rows) if filtered is None else listed_up_to(max(FEWEST, filtered.few) * factor)
    surely = SURELY_MORE * few / len(rows)  # share from which on nobody counts
    if allowed.is_shared:
        own = float(share)
        if own == 1 and bool(_allows_all(rows, allowed)):
            return search(query)
        if filtered is None or own <= surely:
            result, done = _score_few(rows, query, k, allowed, None, few)
            if filtered is None or bool(done[0]):
                return result
        if factor > 1:
            allowed = allowed.as_mask()
        return filtered.search(query, allowed, share.expand(len(query)))
    every = share == 1
    if bool(every.any()):
        every &= _allows_all(rows, allowed)
    asked = ~every if filtered is None else ~every & (share <= surely)
    result, done = _score_few(rows, query, k, allowed, asked, few)
    for chosen, way in ((every, None), (~every & ~done, filtered)):
        lines = chosen.nonzero().squeeze(1)
        if len(lines):
            some = query[lines]
            more = search(some) if way is None else way.search(some, allowed.of(lines), share[lines])
            result = more if len(lines) == len(query) else replaced(result, lines, more)
    return result


def listed_up_to(few: int) -> int:
    """Number of allowed rows up to which all of them are scored, where a structure names ``few``."""
    return few


def score_allowed(rows: KeyRows, query: Tensor, k: int, allowed: Filter) -> SearchResult:
    """Score every allowed row for queries ``(B, D)``; the result holds rows in place of cells."""
    return _score_few(rows, query, k, allowed, None, len(rows))[0]


def _score_few(
    rows: KeyRows, query: Tensor, k: int, allowed: Filter, asked: Tensor | None, few: int
) -> tuple[SearchResult, Tensor]:
    """See ``score_few``; as many queries at a time as the memory for their lists of rows allows."""
    size = len(query) if allowed.is_shared else max(1, LISTED_ROWS // max(1, few))
    if len(query) <= size:
        return score_few(query, rows.keys, allowed, asked, rows.used, few, k)
    parts = [
        score_few(
            *(query[lines], rows.keys, allowed.of(lines), None if asked is None else asked[lines]),
            *(rows.used, few, k),
        )
        for lines in torch.split(torch.arange(len(query), device=query.device), size)
    ]
    result = SearchResult(*(torch.cat(column) for column in zip(*(part for part, _ in parts), strict=True)))
    return result, torch.cat([done for _, done in parts])


def _allows_all(rows: KeyRows, allowed: Filter) -> Tensor:
    """Whether all queries ``(1,)``, or each ``(B,)``, may find every row."""
    number = allowed.number[: rows.used]
    if allowed.cell is not None:
        given, has = allowed.numbers(rows.live().unsqueeze(0))
        number = given[has]
    if number.dtype == torch.bool:
        return (number.sum() == len(rows)).view(1)  # rows without a cell have no number, or False
    if len(number) < len(rows):
        return torch.zeros_like(allowed.low, dtype=torch.bool)
    lowest, highest = number.aminmax()
    return (allowed.low <= lowest) & (highest <= allowed.high)
