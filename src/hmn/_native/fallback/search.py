"""Search through levels of coded lists, in PyTorch: the path on a GPU, and the reference in tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hmn._native.allowed.filter import Enough, Filter
from hmn._native.codes import codes_of
from hmn._native.fallback.buckets import best_of
from hmn._native.level import IN_FULL, LANES, Begin, Level
from hmn._native.watch import Steps
from hmn.results import SearchResult

PART_NUMBERS = 1 << 26
"""Floats decoded at a time."""


def search_levels(
    query: Tensor,
    levels: Sequence[Level],
    directions: Sequence[Tensor | None],
    probes: Sequence[int],
    keys: Tensor,
    rescored: int,
    k: int,
    weights: Sequence[Tensor] | None = None,
    *,
    held: Sequence[Tensor] | None = None,
    begin: Begin | None = None,
    allowed: Filter | None = None,
    enough: Enough | None = None,
    steps: Steps | None = None,
) -> SearchResult:
    """See ``hmn._native.search.search_levels``; ``steps``, if given, takes down what is looked at."""
    # 1. from level to level: score the entries of the lists entered, and enter the children of the best
    # 2. in the last level, collect candidate rows
    # 3. score these in full
    spent = torch.zeros(len(query), dtype=torch.int64, device=query.device)  # bytes
    if begin is None:
        begin = Begin(spent.new_zeros(len(query), 1), query.new_zeros(len(query), 1))
    lists, base = begin
    factors: Sequence[Tensor | None] = [None] * len(levels) if weights is None else weights
    sizes: list[Tensor | None] = [*(held or []), *[None] * len(levels)]
    for level, direction, wanted, weight, size in zip(
        levels[:-1], directions, probes, factors[:-1], sizes[: len(probes)], strict=True
    ):
        entry, score, count = _scan(query, level, lists, base, wanted, weight, size)  # (B, wanted)
        lists = _children(level, entry)
        spent += count * level.entry_bytes
        if direction is None:
            base = score.masked_fill(entry < 0, 0.0)
            base = base if weight is None else base / weight[lists.clamp(min=0)]
        else:
            spent += (lists >= 0).sum(dim=1) * direction[0].nbytes
            base = (direction[lists.clamp(min=0)] * query.unsqueeze(1)).sum(dim=2)
        if enough is not None and allowed is not None and level is levels[-2]:
            lists, base = _enough(levels[-1], lists, base, allowed, enough)
        if steps is not None:
            steps.note(count, lists)
    if levels[-1].bits == IN_FULL:
        count, candidate = torch.zeros_like(spent), _members(levels[-1], lists)
        scored = (candidate >= 0).sum(dim=1)
        if allowed is not None:
            candidate = candidate.masked_fill(~allowed.allows(candidate), -1)
    else:
        held_last = sizes[len(probes)]
        entry, _, count = _scan(
            query, levels[-1], lists, base, rescored, factors[-1], held_last, allowed=allowed
        )
        candidate = _children(levels[-1], entry)
        scored = (candidate >= 0).sum(dim=1)
    if steps is not None:
        steps.note(count)
    spent += count * levels[-1].entry_bytes + scored * keys.shape[1] * keys.element_size()
    score, row = best_of(query, keys, candidate, k)
    return SearchResult(score, row, spent.float() / (4 * max(1, keys.shape[1])), scored)


def _enough(
    level: Level, lists: Tensor, base: Tensor, allowed: Filter, enough: Enough
) -> tuple[Tensor, Tensor]:
    """The lists ``(B, L)`` to enter, best first, and their products; see ``Enough``."""
    base, order = base.masked_fill(lists < 0, -torch.inf).sort(dim=1, descending=True, stable=True)
    lists = lists.gather(1, order)
    length, longest = _lengths(level, lists)
    counts = [base[:0]]
    size = max(1, PART_NUMBERS // max(1, lists.shape[1] * longest))
    for lines in torch.split(torch.arange(len(lists), device=lists.device), size):
        entry = _entries(level, lists[lines], length[lines], longest)  # (b, L * longest)
        allows = allowed.of(lines).allows(_children(level, entry))
        counts.append(allows.view(len(lines), lists.shape[1], longest).sum(dim=2).float())
    count = torch.cat(counts)  # (B, L)
    there = (count > 0).long()
    few_lists = there.cumsum(1) - there < enough.lists
    few_entries = count.cumsum(1) - count < enough.entries.unsqueeze(1)
    enough.lacking.copy_((there.sum(dim=1) < enough.lists) | (count.sum(dim=1) < enough.entries))
    enters = (there > 0) & (few_lists | few_entries)
    return lists.masked_fill(~enters, -1), base.masked_fill(~enters, 0.0)


def _members(level: Level, lists: Tensor) -> Tensor:
    """Children ``(B, E)`` of all entries of the lists ``(B, L)`` that each query enters, padded with -1."""
    entry = _entries(level, lists, *_lengths(level, lists))
    return _children(level, entry)


def _lengths(level: Level, lists: Tensor) -> tuple[Tensor, int]:
    """Entries ``(B, L)`` of each list that is entered, 0 where it is -1, and the largest of these numbers."""
    length = level.length.long()[lists.clamp(min=0)].masked_fill(lists < 0, 0)
    return length, int(length.max()) if length.numel() else 0


def _entries(level: Level, lists: Tensor, length: Tensor, longest: int) -> Tensor:
    """Slots ``(B, L * longest)`` of all entries of lists ``(B, L)``, -1 behind the last of each list."""
    number = torch.arange(longest, device=lists.device)
    slot = (level.first_panel[lists.clamp(min=0)] * LANES).unsqueeze(2) + number  # (B, L, longest)
    return slot.masked_fill(number >= length.unsqueeze(2), -1).flatten(1)


def _best(score: Tensor, entry: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best k scores of each row and their entries; unused places hold -inf and -1."""
    best, column = score.topk(min(k, score.shape[1]), dim=1)
    chosen = entry.gather(1, column).masked_fill(best == -torch.inf, -1)
    missing = k - best.shape[1]
    if missing:
        best = torch.nn.functional.pad(best, (0, missing), value=-torch.inf)
        chosen = torch.nn.functional.pad(chosen, (0, missing), value=-1)
    return best, chosen


def _children(level: Level, entry: Tensor) -> Tensor:
    """What entries stand for, -1 for entry -1."""
    if not len(level.child):
        return entry  # all -1
    return level.child[entry.clamp(min=0)].long().masked_fill(entry < 0, -1)


def _scan(
    query: Tensor,
    level: Level,
    lists: Tensor,
    base: Tensor,
    wanted: int,
    weight: Tensor | None = None,
    held: Tensor | None = None,
    allowed: Filter | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The best entries ``(B, wanted)`` of the lists ``(B, L)`` that each query enters, by their codes.

    Args:
        query: ``(B, D)``.
        level: level of the lists.
        lists: ``(B, L)`` int64, -1 for none.
        base: ``(B, L)`` inner product of each query with the direction of each list.
        wanted: entries to return per query.
        weight: factor of the scores, by child.
        held: what each child holds; entries of children that hold nothing are passed over.
        allowed: children that each query may find; entries of others are passed over.

    Returns:
        The entries, their scores, and the number scored per query ``(B,)``.
    """
    # 1. round queries to 8 bits, as the kernels do, so that both find the same
    # 2. decode the entries of a part of the batch at a time and multiply
    # 3. combine with along, step and weight, and keep the best
    features = query.shape[1]
    largest = query.abs().amax(dim=1, keepdim=True)
    scale = largest / 127  # (B, 1)
    rounded = (query * torch.where(largest > 0, 127 / largest, 0.0)).round()  # (B, D)
    length, longest = _lengths(level, lists)
    shared = None
    if len(level.length) == 1 and lists.shape[1] == 1:
        # the level has one list, which all queries enter: decode it once
        slot = level.first_panel * LANES + torch.arange(longest, device=query.device)
        shared = codes_of(level, slot, features) - level.zero  # (E, D)
    best = query.new_full((len(query), wanted), -torch.inf)
    chosen = torch.full((len(query), wanted), -1, dtype=torch.int64, device=query.device)
    entries = lists.shape[1] * longest
    part = max(1, PART_NUMBERS // max(1, entries * (features if shared is None else 1)))
    for begin in range(0, len(query) if entries else 0, part):
        rows = slice(begin, begin + part)
        entry = _entries(level, lists[rows], length[rows], longest)  # (b, E)
        spread = base[rows].repeat_interleave(longest, dim=1)  # (b, E)
        if len(entry) == 1:  # skip what only fills up short lists
            entry, spread = entry[:, entry[0] >= 0], spread[:, entry[0] >= 0]
        if shared is None:
            codes = codes_of(level, entry.clamp(min=0), features)  # (b, E, D)
            product = scale[rows] * ((codes - level.zero) @ rounded[rows].unsqueeze(2)).squeeze(2)
        else:
            product = scale[rows] * (rounded[rows] @ shared.T)
        score = level.along[entry.clamp(min=0)] * spread + level.step[entry.clamp(min=0)] * product
        if weight is not None:
            score = score * weight[level.child[entry.clamp(min=0)].long()]
        if held is not None:
            entry = entry.masked_fill(held[level.child[entry.clamp(min=0)].long()] == 0, -1)
        if allowed is not None:
            own = allowed.of(torch.arange(len(query), device=query.device)[rows])
            entry = entry.masked_fill(~own.allows(_children(level, entry)), -1)
        best[rows], chosen[rows] = _best(score.masked_fill(entry < 0, -torch.inf), entry, wanted)
    return chosen, best, length.sum(dim=1)
