"""Search among allowed cells: where they are few, all of them are scored; otherwise the structure filters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hmn._native import best_listed, replaced
from hmn._native.level import Filter, Listed
from hmn.index.allowed import Allowed, Where, check_allowed, check_where
from hmn.index.checks import check_not_negative
from hmn.index.storage.key_rows import KeyRows
from hmn.results import SearchResult

SAMPLED = 1024
"""Rows by which the share of allowed rows is estimated, where there are more."""
SCATTER = 2_654_435_761
"""Odd factor by whose multiples rows are sampled: cells of one sequence or tenant often lie in steps."""
SURELY_MORE = 4
"""Factor by which estimated allowed rows must exceed a limit so that nobody counts them."""
LISTED_ROWS = 1 << 22
"""Upper limit of rows that are listed at a time for queries with sets of their own, to bound memory."""


class Filtered(NamedTuple):
    """How a structure searches among allowed rows.

    Attributes:
        few: number of allowed rows up to which scoring all of them is as fast.
        search: searches queries ``(b, D)``, given their filter and the share ``(b,)`` of rows that each may
            find, as estimated.
    """

    few: int
    search: Callable[[Tensor, Filter, Tensor], SearchResult]


def filter_of(allowed: Allowed, rows: KeyRows, queries: int) -> Filter:
    """The filter that a user gave for this number of queries.

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
    mask = torch.zeros(rows.used, dtype=torch.bool, device=device)
    mask[rows.rows_of(torch.unique(given))] = True
    return Filter(mask, none, none)


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
    share = _share(rows, allowed)  # (1,) or (B,)
    every = share == 1
    if bool(every.any()):
        every &= _allows_all(rows, allowed)
    if allowed.is_shared and bool(every):
        return search(query)
    share, every = share.expand(len(query)), every.expand(len(query))
    few, counted = len(rows), ~every
    if filtered is not None:
        few = listed_up_to(filtered.few)
        counted &= share * len(rows) <= SURELY_MORE * few
    result, scored = _score_few(rows, query, k, allowed, counted, few)
    others = ~every & ~scored
    if bool(every.any()):
        lines = every.nonzero().squeeze(1)
        result = replaced(result, lines, search(query[lines]))
    if filtered is not None and bool(others.any()):
        lines = others.nonzero().squeeze(1)
        more = filtered.search(query[lines], allowed.of(lines), share[lines])
        result = replaced(result, lines, more)
    return result


def listed_up_to(few: int) -> int:
    """Number of allowed rows up to which all of them are scored, where a structure names ``few``."""
    return few


def score_allowed(rows: KeyRows, query: Tensor, k: int, allowed: Filter) -> SearchResult:
    """Score every allowed row for queries ``(B, D)``; the result holds rows in place of cells."""
    counted = torch.ones(len(query), dtype=torch.bool, device=query.device)
    return _score_few(rows, query, k, allowed, counted, len(rows))[0]


def _score_few(
    rows: KeyRows, query: Tensor, k: int, allowed: Filter, counted: Tensor, few: int
) -> tuple[SearchResult, Tensor]:
    """Score allowed rows for those queries, of ``counted`` (B,), that may find at most ``few`` of them.

    Returns:
        The result, with no cells for all other queries; and which queries ``(B,)`` were searched.
    """
    batch = len(query)
    whole = torch.zeros(batch, dtype=torch.int64, device=query.device)
    result = SearchResult(
        query.new_full((batch, k), -torch.inf), whole.new_full((batch, k), -1), query.new_zeros(batch), whole
    )
    scored = torch.zeros_like(counted)
    if not bool(counted.any()):
        return result, scored
    lists = _shared_list if allowed.is_shared else _lists
    for lines, listed in lists(rows, allowed, counted, few):
        score, row, count = best_listed(query[lines], rows.keys, listed, k)
        reads = count * (rows.keys.element_size() / 4)
        result = replaced(result, lines, SearchResult(score, row, reads, count))
        scored[lines] = True
    return result, scored


def _share(rows: KeyRows, allowed: Filter) -> Tensor:
    """Share of rows that all queries ``(1,)``, or each ``(B,)``, may find, by a sample of the rows."""
    number = torch.arange(min(rows.used, SAMPLED), device=rows.keys.device)
    sample = number if rows.used <= SAMPLED else number * SCATTER % rows.used
    cells = rows.cells_at(sample)
    return allowed.allows(sample).sum(dim=1) / (cells >= 0).sum().clamp(min=1)


def _allows_all(rows: KeyRows, allowed: Filter) -> Tensor:
    """Whether all queries ``(1,)``, or each ``(B,)``, may find every row."""
    _, number = _numbered(rows, allowed)
    if number.dtype == torch.bool:
        return (number.sum() == len(rows)).view(1)  # rows without a cell have no number, or False
    if len(number) < len(rows):
        return torch.zeros_like(allowed.low, dtype=torch.bool)
    lowest, highest = number.aminmax()
    return (allowed.low <= lowest) & (highest <= allowed.high)


def _numbered(rows: KeyRows, allowed: Filter) -> tuple[Tensor | None, Tensor]:
    """The rows that have a number, and their numbers; None for the rows from 0 on."""
    if allowed.cell is None:
        return None, allowed.number[: rows.used]
    live = rows.live()
    number, has = (part.squeeze(0) for part in allowed.numbers(live.unsqueeze(0)))
    return live[has], number[has]


def _shared_list(
    rows: KeyRows, allowed: Filter, counted: Tensor, few: int
) -> Iterator[tuple[Tensor, Listed]]:
    """The queries ``(b,)`` and their list, where all queries may find the same rows."""
    row, number = _numbered(rows, allowed)
    if number.dtype != torch.bool:
        number = (number >= allowed.low) & (number <= allowed.high)
    found = number.nonzero().squeeze(1)
    if len(found) <= few:
        lines = counted.nonzero().squeeze(1)
        begin, size = found.new_zeros(1), found.new_tensor([len(found)])
        yield lines, Listed(found if row is None else row[found], begin, size, torch.zeros_like(lines))


def _lists(rows: KeyRows, allowed: Filter, counted: Tensor, few: int) -> Iterator[tuple[Tensor, Listed]]:
    """Queries ``(b,)`` and their lists, where each query has limits of its own; some of them at a time."""
    # 1. Sort the rows that any query may find by their number: those of each query lie side by side.
    # 2. Queries with the same limits share a list.
    # 3. Give as many lists at a time as their rows allow.
    lines = counted.nonzero().squeeze(1)
    limits = torch.stack([allowed.low[lines], allowed.high[lines]], dim=1)
    limits, which = torch.unique(limits, dim=0, return_inverse=True)  # (L, 2), (b,)
    low, high = limits.T.contiguous()
    row, number = _numbered(rows, allowed)
    wanted = (number >= low.min()) & (number <= high.max())
    if bool((low == high).all()):
        place = torch.searchsorted(low, number).clamp(max=len(low) - 1)
        wanted &= low[place] == number
    found = wanted.nonzero().squeeze(1)
    number, order = number[found].sort()
    found = found[order] if row is None else row[found[order]]
    begin = torch.searchsorted(number, low)
    size = (torch.searchsorted(number, high, right=True) - begin).clamp(min=0)  # (L,)
    total = torch.where(size <= few, size, 0).cumsum(0)
    part = (total // LISTED_ROWS).masked_fill(size > few, -1)  # (L,)
    for each in torch.unique(part[part >= 0]).tolist():
        chosen = part == each
        asked = chosen[which].nonzero().squeeze(1)
        renumbered = chosen.cumsum(0) - 1
        yield lines[asked], Listed(found, begin[chosen], size[chosen], renumbered[which[asked]])
