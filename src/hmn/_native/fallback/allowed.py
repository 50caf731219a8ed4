"""Search among few allowed rows, in PyTorch; see ``hmn._native.allowed.few``."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hmn._native.allowed.filter import Filter
from hmn._native.fallback.buckets import best_of
from hmn._native.level import Level
from hmn.results import SearchResult

SCATTER = 2_654_435_761
"""Odd factor by whose multiples rows are sampled: cells of one sequence or tenant often lie in steps."""
LISTED = 1 << 22
"""Upper limit of rows that are listed at a time, where there is more than one query."""
PART_NUMBERS = 1 << 26
"""Floats computed at a time."""


def share_allowed(allowed: Filter, used: int, sampled: int) -> Tensor:
    """See ``hmn._native.allowed.few.share_allowed``."""
    number = torch.arange(min(used, sampled), device=allowed.low.device)
    row = number if used <= sampled else number * SCATTER % used
    live = len(row) if allowed.cell is None else (allowed.cell[row] >= 0).sum().clamp(min=1)
    return allowed.allows(row).sum(dim=1).expand(len(allowed.low)) / live


def count_allowed(level: Level, allowed: Filter) -> Tensor:
    """See ``hmn._native.allowed.few.count_allowed``."""
    lists = torch.arange(len(level.length), device=level.length.device)
    row, length = level.children_of(lists)
    number = lists.repeat_interleave(length)
    return torch.zeros_like(level.length).index_add_(0, number, allowed.allows(row).squeeze(0).int())


def score_few(
    query: Tensor, keys: Tensor, allowed: Filter, asked: Tensor, used: int, few: int, k: int
) -> tuple[SearchResult, Tensor]:
    """See ``hmn._native.allowed.few.score_few``."""
    score = query.new_full((len(query), k), -torch.inf)
    row = torch.full((len(query), k), -1, dtype=torch.int64, device=query.device)
    scored, done = torch.zeros_like(row[:, 0]), torch.zeros_like(asked)
    if bool(asked.any()):
        for lines, candidate in _listed(allowed, asked.nonzero().squeeze(1), used, few):
            if candidate.dim() == 1:
                score[lines], row[lines] = _best_of_all(query[lines], keys, candidate, k)
                scored[lines] = len(candidate)
            else:
                score[lines], row[lines] = best_of(query[lines], keys, candidate, k)
                scored[lines] = (candidate >= 0).sum(dim=1)
            done[lines] = True
    reads = scored.float() * (keys.element_size() / 4)
    return SearchResult(score, row, reads, scored), done


def _best_of_all(query: Tensor, keys: Tensor, row: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best of rows ``(n,)`` for all queries."""
    score = query.new_full((len(query), k), -torch.inf)
    best = torch.full((len(query), k), -1, dtype=torch.int64, device=query.device)
    for part in torch.split(row, max(1, PART_NUMBERS // max(len(query), query.shape[1]))):
        scores = torch.cat([score, query @ keys[part].float().T], dim=1)  # (B, k + n)
        score, order = scores.topk(k, dim=1)
        best = torch.cat([best, part.expand(len(query), -1)], dim=1).gather(1, order)
    return score, best


def _listed(allowed: Filter, lines: Tensor, used: int, few: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Queries ``(b,)`` that may find few rows: all find these ``(n,)``, or each its own line ``(b, C)``."""
    # 1. Sort the rows that any query may find by their number: those of each query lie side by side.
    # 2. Give some queries at a time, each with a line of its rows.
    row = torch.arange(used, device=lines.device)
    number, has = (part.squeeze(0) for part in allowed.numbers(row.unsqueeze(0)))
    row, number = row[has], number[has]
    if allowed.is_shared:
        wanted = number if number.dtype == torch.bool else (number >= allowed.low) & (number <= allowed.high)
        if int(wanted.sum()) <= few:
            yield lines, row[wanted]
        return
    low, high = allowed.low[lines], allowed.high[lines]
    number, order = number.sort()
    row = row[order]
    begin = torch.searchsorted(number, low)
    size = (torch.searchsorted(number, high, right=True) - begin).clamp(min=0)  # (b,)
    chosen = (size <= few).nonzero().squeeze(1)
    longest = int(size[chosen].max()) if len(chosen) else 0
    within = torch.arange(longest, device=lines.device)
    for part in torch.split(chosen, max(1, LISTED // max(1, longest))):
        if not len(part):
            continue
        place = begin[part].unsqueeze(1) + within  # (b, C)
        there = within < size[part].unsqueeze(1)
        candidate = row[place.clamp(max=len(row) - 1)] if len(row) else place
        yield lines[part], candidate.masked_fill(~there, -1)
