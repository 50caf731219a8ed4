"""Lists that lie by falling length, in PyTorch; ``kernels/ordered.cpp`` does the same."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native.fallback.lists import copy_entries
from hmn._native.level import LANES, LINE, WORD, Encoder, Level

SHORTEST = 1e-30
"""Lower limit of lengths, so that it is safe to divide by them."""


def write_screen(level: Level, slot: Tensor, vector: Tensor, towards: Tensor, short: Encoder) -> None:
    """See ``hmn._native.lists.write_screen``; ``vector`` and the lists' directions ``towards`` by entry."""
    assert level.screen is not None and level.size is not None
    along = level.along[slot]
    rest = torch.addcmul(vector, along.unsqueeze(1), towards, value=-1)
    codes, step = short.encode(rest)
    panel, lane = slot // LANES, slot % LANES
    level.screen.view(torch.int32)[panel, 0, lane] = _words(along, step)
    halves = codes.view(len(codes), -1, 2, WORD)  # (n, lines, 2, 4)
    packed = halves[:, :, 0] | halves[:, :, 1] << 4
    level.screen.view(*level.screen.shape[:2], LINE // LANES, LANES)[panel, 1:, :, lane] = packed
    lengths = torch.linalg.vector_norm(vector, dim=1), torch.linalg.vector_norm(rest, dim=1)
    level.size[slot] = torch.stack(lengths, dim=1)
    write_fine(level, slot)


def write_fine(level: Level, slot: Tensor) -> None:
    """Write rows of codes of entries at slots ``(n,)``, from ``codes``, ``along`` and ``step``."""
    assert level.fine is not None
    packed = level.codes[slot // LANES, :, slot % LANES].flatten(1)  # (n, 4 G)
    width = level.fine.shape[1] - WORD
    codes = torch.cat([packed & 15, packed >> 4], dim=1)  # (n, 8 G)
    codes = F.pad(codes, (0, 2 * width - codes.shape[1]))
    words = _words(level.along[slot], level.step[slot]).unsqueeze(1).view(torch.uint8)  # (n, 4)
    level.fine[slot] = torch.cat([words, codes[:, :width] | codes[:, width:] << 4], dim=1)


def write_bounds(level: Level, lists: Tensor, features: int) -> None:
    """See ``hmn._native.lists.write_bounds``."""
    assert level.size is not None and level.bound is not None
    slot, panel, last = _panels_of(level, lists)
    length = level.size[slot, 0].clamp(min=SHORTEST)
    longest = length.new_zeros(len(last)).scatter_reduce_(0, panel, length, "amax")
    parts = torch.stack([level.along[slot], level.size[slot, 1], length], dim=1) / longest[panel].unsqueeze(1)
    parts = torch.cat([parts, parts.square()], dim=1)
    total = parts.new_zeros(len(last), 6).index_add_(0, panel, parts)
    bound = torch.stack([total[:, 0] / total[:, 2], total[:, 4] / total[:, 5]], dim=1)
    bound[:, 1] = (bound[:, 1] / max(1, features)).sqrt()
    which = torch.empty_like(last).index_copy_(0, panel, slot // LANES)
    level.bound[which] = suffix_max(bound * longest.unsqueeze(1), last)


def disorder(level: Level, lists: Tensor) -> Tensor:
    """See ``hmn._native.lists.disorder``."""
    assert level.size is not None
    slot, panel, last = _panels_of(level, lists)
    length = level.size[slot, 0].clamp(min=SHORTEST)
    longest = suffix_max(length.new_zeros(len(last)).scatter_reduce_(0, panel, length, "amax"), last)
    first = torch.bincount(panel, minlength=len(last))
    first = first.cumsum(0) - first  # (p,) where each panel begins among the entries
    ideal = length[falling(length, last[panel])][first]
    panels = (level.length[lists] + LANES - 1) // LANES  # (m,)
    number = torch.arange(len(lists), device=lists.device).repeat_interleave(panels)
    return length.new_ones(len(lists)).scatter_reduce_(0, number, longest / ideal, "amax")


def settle(level: Level, lists: Tensor, slot_of: Tensor, loose: float) -> None:
    """See ``hmn._native.lists.settle``; lists that are looser are sorted."""
    assert level.size is not None
    lists = lists[disorder(level, lists) > loose]
    slot, length = level.entries_of(lists)
    number = torch.arange(len(lists), device=lists.device).repeat_interleave(length)
    copy_entries(level, slot[falling(level.size[slot, 0], number)], slot)
    slot_of[level.child[slot].long()] = slot


def falling(length: Tensor, lists: Tensor) -> Tensor:
    """Order ``(n,)`` of entries of given lengths and lists: list by list, the longest first."""
    order = length.argsort(descending=True, stable=True)
    return order[lists[order].argsort(stable=True)]


def suffix_max(values: Tensor, last: Tensor) -> Tensor:
    """Values ``(p, ...)``, each raised to the largest from it to the position ``last`` (p,) of its run."""
    position = torch.arange(len(last), device=last.device)
    distance, longest = 1, int((last - position).max()) if len(last) else 0
    while distance <= longest:
        values = torch.maximum(values, values[torch.minimum(position + distance, last)])
        distance *= 2
    return values


def _panels_of(level: Level, lists: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The entries and panels of lists ``(m,)``, both list by list; panels are numbered from 0 on.

    Returns:
        Slot ``(n,)`` and panel ``(n,)`` of each entry; the last panel ``(p,)`` of the list of each panel.
    """
    slot, length = level.entries_of(lists)
    panels = (length + LANES - 1) // LANES  # (m,)
    end = panels.cumsum(0)
    last = (end - 1).repeat_interleave(panels)
    first = (end - panels).repeat_interleave(length)
    panel = first + slot // LANES - level.first_panel[lists].repeat_interleave(length)
    return slot, panel, last


def _words(along: Tensor, step: Tensor) -> Tensor:
    """Words ``(n,)`` int32 with two numbers as bfloat16: the coefficient above, the factor below."""
    upper = along.bfloat16().view(torch.int16).int() << 16
    return upper | (step.bfloat16().view(torch.int16).int() & 0xFFFF)
