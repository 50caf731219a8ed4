"""Lists that change, in PyTorch; ``kernels/lists.cpp`` does the same."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn._native.level import LANES, LINE, Level

PART = 1 << 18
"""Points averaged at a time."""


def take_out(level: Level, lists: Tensor, slot: Tensor, slot_of: Tensor) -> None:
    """See ``hmn._native.lists.take_out``."""
    # 1. the last slots of each list, one for each entry taken out, will be free: the list's tail
    # 2. entries in a tail that stay move to the slots left empty before it
    # 3. the tails are cleared and the lists get shorter
    changed, which, count = torch.unique(lists, return_inverse=True, return_counts=True)
    length = level.length[changed].long()
    end = level.first_panel[changed] * LANES + length - count  # slot at which each tail begins
    number = torch.arange(len(lists), device=lists.device)
    tail = (end - count.cumsum(0) + count).repeat_interleave(count) + number  # (n,)
    hole = slot < end[which]
    source = tail[~torch.isin(tail, slot)]
    target = slot[hole][which[hole].argsort(stable=True)]  # one per source, list by list
    slot_of[level.child[slot].long()] = -1
    copy_entries(level, source, target)
    slot_of[level.child[target].long()] = target
    level.child[tail] = -1
    level.length[changed] = (length - count).to(torch.int32)


def enter(level: Level, room: Tensor, used: int, lists: Tensor, child: Tensor, slot_of: Tensor) -> int:
    """See ``hmn._native.lists.enter``."""
    # 1. lists without room for their new children move behind the panels in use
    # 2. the children are written at the ends of the lists
    changed, which, count = torch.unique(lists, return_inverse=True, return_counts=True)
    length = level.length[changed].long()
    needed = (length + count + LANES - 1) // LANES  # panels
    grown = needed > room[changed]
    moving, wanted = changed[grown], torch.maximum(needed[grown], 2 * room[changed[grown]])
    end = used + int(wanted.sum())
    if end > len(level.codes):
        return end
    if len(moving):
        _move(level, moving, used + wanted.cumsum(0) - wanted, slot_of)
        room[moving] = wanted
    order = which.argsort(stable=True)
    number = torch.arange(len(lists), device=lists.device) - (count.cumsum(0) - count)[which[order]]
    slot = (level.first_panel[changed] * LANES + length)[which[order]] + number
    level.child[slot] = child[order].to(torch.int32)
    slot_of[child[order]] = slot
    level.length[changed] = (length + count).to(torch.int32)
    return end


def copy_entries(level: Level, source: Tensor, target: Tensor) -> None:
    """Copy entries at slots ``source`` (n,) to slots ``target`` (n,), distinct."""
    for column in (level.along, level.step, level.child, level.fine, level.size):
        if column is not None:
            column[target] = column[source]
    to, at = (target // LANES, target % LANES), (source // LANES, source % LANES)
    level.codes[to[0], :, to[1]] = level.codes[at[0], :, at[1]]
    if level.screen is not None:
        words = level.screen.view(torch.int32)
        parts = level.screen.view(*level.screen.shape[:2], LINE // LANES, LANES)
        words[to[0], 0, to[1]] = words[at[0], 0, at[1]]
        parts[to[0], 1:, :, to[1]] = parts[at[0], 1:, :, at[1]]


def means(level: Level, lists: Tensor, vectors: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """See ``hmn._native.lists.means``."""
    child, length = level.children_of(lists)
    group = torch.repeat_interleave(torch.arange(len(lists), device=lists.device), length)
    return means_of(vectors[child], None if weight is None else weight[child], group, len(lists))


def means_of(points: Tensor, weight: Tensor | None, group: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Means ``(groups, D)`` of points ``(n, D)`` with weights ``(n,)``, by group, and the sums of weights.

    Longer points count more: a mean is multiplied by the ratio of the points' mean length when each is
    weighted by its length to their plain mean length.
    """
    # weight, weight * length and weight * length^2, summed per group
    moments = torch.zeros(groups, 3, dtype=torch.float64, device=points.device)
    total = torch.zeros(groups, points.shape[1], dtype=torch.float32, device=points.device)
    for begin in range(0, len(points), PART):  # in parts: the intermediate tensors are as large as the points
        part = slice(begin, begin + PART)
        vector = points[part].float()
        factor = vector.new_ones(len(vector)) if weight is None else weight[part]  # (p,)
        length = vector.square().sum(dim=1).sqrt().double()  # (p,)
        tiny = length < 1e-15  # squares of tiny numbers vanish in float32
        if bool(tiny.any()):
            length[tiny] = torch.linalg.vector_norm(vector[tiny], dim=1, dtype=torch.float64)
        weighted = factor.double(), factor * length, factor * length * length
        moments.index_add_(0, group[part], torch.stack(weighted, dim=1))
        total.index_add_(0, group[part], vector * factor.unsqueeze(1))
    count, first, second = moments.unbind(dim=1)
    # the mean is total / count, and the ratio of lengths is (second / first) / (first / count)
    share = second / torch.where(first > 0, first * first, 1.0)
    return total * share.float().unsqueeze(1), count.float()


def _move(level: Level, lists: Tensor, first: Tensor, slot_of: Tensor) -> None:
    """Move lists ``(m,)`` to begin at other panels ``(m,)``."""
    old, length = level.entries_of(lists)  # (entries,), (m,)
    new = old + ((first - level.first_panel[lists]) * LANES).repeat_interleave(length)
    panels = (length + LANES - 1) // LANES  # (m,)
    number = torch.arange(int(panels.sum()), device=lists.device)
    number = number - (panels.cumsum(0) - panels).repeat_interleave(panels)
    source = level.first_panel[lists].repeat_interleave(panels) + number
    for whole in (level.codes, level.screen):
        if whole is not None:
            whole[first.repeat_interleave(panels) + number] = whole[source]
    for rows in (level.fine, level.size):
        if rows is not None:
            rows[new] = rows[old]
    for column in (level.along, level.step, level.child):
        column[new] = column[old]
    level.child[old] = -1
    level.first_panel[lists] = first
    slot_of[level.child[new].long()] = new
