"""What the compiled kernels do, in PyTorch: the reference in tests, and the path on CUDA."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hmn._native.codes import codes_of
from hmn._native.fallback.buckets import best_of
from hmn._native.level import IN_FULL, LANES, Level
from hmn.results import SearchResult

PART_NUMBERS = 1 << 26
"""At most so many numbers are gathered at once."""


def search_levels(
    query: Tensor,
    levels: Sequence[Level],
    directions: Sequence[Tensor | None],
    probes: Sequence[int],
    keys: Tensor,
    rescored: int,
    k: int,
    margins: Sequence[float] | None = None,
    weights: Sequence[Tensor] | None = None,
) -> SearchResult:
    """See ``hmn._native.search_levels``."""
    spent = torch.zeros(len(query), dtype=torch.int64, device=query.device)
    lists = torch.zeros(len(query), 1, dtype=torch.int64, device=query.device)
    base = torch.zeros(len(query), 1, device=query.device)
    norm = torch.linalg.vector_norm(query, dim=1, keepdim=True, dtype=torch.float64).float()
    margins = [torch.inf] * len(probes) if margins is None else margins
    given: Sequence[Tensor | None] = [None] * len(levels) if weights is None else weights
    for level, direction, wanted, margin, weight in zip(
        levels[:-1], directions, probes, margins, given[:-1], strict=True
    ):
        found, score, count = _scan(query, level, lists, base, wanted, weight)
        if margin < torch.inf:
            found = found.masked_fill(score < score[:, :1] - margin * norm, -1)
        lists = _children(level, found)
        spent += count * level.entry_bytes
        if direction is None:
            base = score.masked_fill(found < 0, 0.0)
            base = base if weight is None else base / weight[lists.clamp(min=0)]
        else:
            spent += (lists >= 0).sum(dim=1) * direction[0].nbytes
            base = (direction[lists.clamp(min=0)] * query.unsqueeze(1)).sum(dim=2)
    if levels[-1].bits == IN_FULL:
        count, candidate = torch.zeros_like(spent), _members(levels[-1], lists)
    else:
        found, _, count = _scan(query, levels[-1], lists, base, rescored, given[-1])
        candidate = _children(levels[-1], found)
    scored = (candidate >= 0).sum(dim=1)
    spent += count * levels[-1].entry_bytes + scored * keys.shape[1] * keys.element_size()
    score, row = best_of(query, keys, candidate, k)
    return SearchResult(score, row, spent / (4 * max(1, keys.shape[1])), scored)


def _members(level: Level, lists: Tensor) -> Tensor:
    """Children ``(B, E)`` of all entries of the lists ``(B, L)`` that each query enters, -1 for none."""
    length = level.length.long()[lists.clamp(min=0)].masked_fill(lists < 0, 0)  # (B, L)
    longest = int(length.max()) if length.numel() else 0
    place = torch.arange(longest, device=lists.device)
    entry = (level.first_panel[lists.clamp(min=0)] * LANES).unsqueeze(2) + place  # (B, L, longest)
    return _children(level, entry.masked_fill(place >= length.unsqueeze(2), -1).flatten(1))


def _best(score: Tensor, number: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best k of each row, with what they stand for; unused places hold -inf and -1."""
    best, at = score.topk(min(k, score.shape[1]), dim=1)
    found = number.gather(1, at).masked_fill(best == -torch.inf, -1)
    missing = k - best.shape[1]
    if missing:
        best = torch.nn.functional.pad(best, (0, missing), value=-torch.inf)
        found = torch.nn.functional.pad(found, (0, missing), value=-1)
    return best, found


def _children(level: Level, entry: Tensor) -> Tensor:
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
) -> tuple[Tensor, Tensor, Tensor]:
    """The best entries ``(B, wanted)`` of the lists ``(B, L)`` that each query enters, by their codes.

    Returns:
        The entries, their scores, and how many were scored ``(B,)``.
    """
    features = query.shape[1]
    largest = query.abs().amax(dim=1, keepdim=True)
    scale = largest / 127
    number = (query * torch.where(largest > 0, 127 / largest, 0.0)).round()
    length = level.length.long()[lists.clamp(min=0)].masked_fill(lists < 0, 0)  # (B, L)
    longest = int(length.max()) if length.numel() else 0
    place = torch.arange(longest, device=query.device)
    shared = None
    if len(level.length) == 1 and lists.shape[1] == 1:
        # all queries enter the one list that there is: its codes are unpacked once, not for each of them
        shared = codes_of(level, level.first_panel * LANES + place, features) - level.zero  # (E, D)
    best = query.new_full((len(query), wanted), -torch.inf)
    found = torch.full((len(query), wanted), -1, dtype=torch.int64, device=query.device)
    entries = lists.shape[1] * longest
    part = max(1, PART_NUMBERS // max(1, entries * (features if shared is None else 1)))
    for at in range(0, len(query) if entries else 0, part):
        rows = slice(at, at + part)
        entry = (level.first_panel[lists[rows].clamp(min=0)] * LANES).unsqueeze(2) + place  # (b, L, longest)
        entry = entry.masked_fill(place >= length[rows].unsqueeze(2), -1).flatten(1)
        if shared is None:
            codes = codes_of(level, entry.clamp(min=0), features)  # (b, E, D)
            product = scale[rows] * ((codes - level.zero) @ number[rows].unsqueeze(2)).squeeze(2)
        else:
            product = scale[rows] * (number[rows] @ shared.T)
        spread = base[rows].repeat_interleave(longest, dim=1)
        score = level.along[entry.clamp(min=0)] * spread + level.step[entry.clamp(min=0)] * product
        if weight is not None:
            score = score * weight[level.child[entry.clamp(min=0)].long()]
        best[rows], found[rows] = _best(score.masked_fill(entry < 0, -torch.inf), entry, wanted)
    return found, best, length.sum(dim=1)
