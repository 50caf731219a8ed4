"""Entries into and out of lists, and means of what is in them, in PyTorch: ``kernels/filing.cpp`` as well."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn._native.level import LANES, Level

PART = 1 << 18


def take_out(level: Level, lists: Tensor, place: Tensor, where: Tensor) -> None:
    """See ``hmn._native.take_out``."""
    one, which, count = torch.unique(lists, return_inverse=True, return_counts=True)
    length = level.length[one].long()
    # of the places at the end of each list that will be free, those still held must move
    end = level.first_panel[one] * LANES + length - count
    within = torch.arange(len(lists), device=lists.device)
    tail = (end - count.cumsum(0) + count).repeat_interleave(count) + within
    hole = place < end[which]
    source = tail[~torch.isin(tail, place)]
    target = place[hole][which[hole].argsort(stable=True)]
    where[level.child[place].long()] = -1
    for column in (level.along, level.step, level.child):
        column[target] = column[source]
    level.codes[target // LANES, :, target % LANES] = level.codes[source // LANES, :, source % LANES]
    where[level.child[target].long()] = target
    level.child[tail] = -1
    level.length[one] = (length - count).to(torch.int32)


def enter(level: Level, room: Tensor, used: int, lists: Tensor, child: Tensor, where: Tensor) -> int:
    """See ``hmn._native.enter``."""
    one, which, count = torch.unique(lists, return_inverse=True, return_counts=True)
    length = level.length[one].long()
    needed = (length + count + LANES - 1) // LANES
    grown = needed > room[one]
    moving, wanted = one[grown], torch.maximum(needed[grown], 2 * room[one[grown]])
    end = used + int(wanted.sum())
    if end > len(level.codes):
        return end
    if len(moving):
        _move(level, moving, used + wanted.cumsum(0) - wanted, where)
        room[moving] = wanted
    order = which.argsort(stable=True)
    within = torch.arange(len(lists), device=lists.device) - (count.cumsum(0) - count)[which[order]]
    place = (level.first_panel[one] * LANES + length)[which[order]] + within
    level.child[place] = child[order].to(torch.int32)
    where[child[order]] = place
    level.length[one] = (length + count).to(torch.int32)
    return end


def means(level: Level, lists: Tensor, vectors: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """See ``hmn._native.means``."""
    child, length = level.children_of(lists)
    part = torch.repeat_interleave(torch.arange(len(lists), device=lists.device), length)
    return means_of(vectors[child], None if weight is None else weight[child], part, len(lists))


def means_of(points: Tensor, weight: Tensor | None, group: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Means ``(groups, D)`` of points ``(n, D)`` of weights ``(n,)`` by their group, and sums of weights.

    Longer points count more: the mean is as much longer as their lengths weighted by themselves are.
    """
    moments = torch.zeros(groups, 3, dtype=torch.float64, device=points.device)
    total = torch.zeros(groups, points.shape[1], device=points.device)
    for begin in range(0, len(points), PART):  # what is made of the points for a moment is as large as they
        of = slice(begin, begin + PART)
        vector = points[of].float()
        by = vector.new_ones(len(vector)) if weight is None else weight[of]
        length = vector.square().sum(dim=1).sqrt().double()
        moments.index_add_(0, group[of], torch.stack([by.double(), by * length, by * length * length], dim=1))
        total.index_add_(0, group[of], vector * by.unsqueeze(1))
    count, first, second = moments.unbind(dim=1)
    share = second / torch.where(first > 0, first * first, 1.0)  # longer by second * count / first^2
    return total * share.float().unsqueeze(1), count.float()


def _move(level: Level, lists: Tensor, first: Tensor, where: Tensor) -> None:
    """Move lists ``(m,)`` to begin at other panels ``(m,)``."""
    old, length = level.entries_of(lists)
    new = old + ((first - level.first_panel[lists]) * LANES).repeat_interleave(length)
    panels = (length + LANES - 1) // LANES
    within = torch.arange(int(panels.sum()), device=lists.device)
    within = within - (panels.cumsum(0) - panels).repeat_interleave(panels)
    source = level.first_panel[lists].repeat_interleave(panels) + within
    level.codes[first.repeat_interleave(panels) + within] = level.codes[source]
    for column in (level.along, level.step, level.child):
        column[new] = column[old]
    level.child[old] = -1
    level.first_panel[lists] = first
    where[level.child[new].long()] = new
