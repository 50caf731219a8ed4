"""Keeps groups in order while cells are added, removed and given other keys."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn.index.clustering.split_kmeans import divide
from hmn.index.structures.hierarchy.directions import on_basis, unit_means
from hmn.index.structures.hierarchy.groups import Groups

GROWN = 3
"""Upper limit of cells per group, in multiples of the intended number; larger groups are split."""
SHRUNK = 2
"""Divisor of the intended number of cells; groups with no more than the quotient are dropped."""
MANY = 4
"""Groups, in multiples of the intended number, up to which only empty ones are dropped.

Small groups help: few cells may have what sets them apart."""
FEW_CELLS = 2
"""Quotient, in cells per group, up to which only empty groups are dropped."""
DRIFT = 0.03
"""Distance that a group's unit mean may move before the group follows, in lengths of its mean."""
UNNOTICED = 16
"""Divisor of a group's cells; its mean is computed again once that many of them have changed."""
LOOSE = 1.1
"""Upper limit of the disorder of a group's cells: they move where it is higher; see ``Lists.disorder``."""
COSINES = 1 << 22
"""Upper limit of cells times pieces where a group is divided at once.

A group that needs more pieces is divided again. Thousands of equal keys, such as zeros, lie in one group."""
ROUNDS = 5
"""Rounds of assignment and averaging in each k-means."""


def add(groups: Groups, rows: Tensor) -> None:
    """File rows ``(n,)`` of new cells."""
    groups.grow_rows()
    group = groups.nearest(groups.rows.keys[rows])
    groups.enter(rows, group)
    follow(groups, group)


def remove(groups: Groups, rows: Tensor) -> None:
    """Take rows ``(n,)`` of removed cells out of their groups."""
    group = groups.group[rows]
    groups.leave(rows)
    follow(groups, group)


def update(groups: Groups, rows: Tensor) -> None:
    """File rows ``(n,)`` again after their keys have changed; cells whose group stays do not move."""
    group, before = groups.nearest(groups.rows.keys[rows]), groups.group[rows]
    moves = group != before
    stays = ~moves
    groups.encode(rows[stays])
    groups.changed.index_add_(0, group[stays], torch.ones_like(group[stays]))
    if bool(moves.any()):
        groups.leave(rows[moves])
        groups.enter(rows[moves], group[moves])
        group = torch.cat([group, before[moves]])
    follow(groups, group)


def follow(groups: Groups, touched: Tensor) -> None:
    """Bring groups ``(n,)`` in order after their cells have changed."""
    # 1. Drop groups that are nearly empty, and split those that have grown too large.
    # 2. Where the mean of a group's cells has moved, take the new one and write the codes of its cells again.
    # 3. Put cells in order where that makes bounds tighter, and write the bounds.
    if not len(touched):
        return
    changed = touched if len(touched) == 1 else torch.unique(touched)
    size = groups.size(changed)
    few = _few(groups)
    moved = bool(((size <= few) | (size > groups.bound)).any())
    if moved:
        changed = split_grown(groups, _drop_small(groups, changed, few))
    moved |= _turn(groups, changed)
    write_bounds(groups, changed, all_fronts=moved)


def write_bounds(groups: Groups, changed: Tensor, *, all_fronts: bool) -> None:
    """Put the cells of groups ``(g,)`` in order where that pays, and write bounds.

    Args:
        groups: changed.
        changed: groups whose cells have changed.
        all_fronts: whether codes of directions have moved, or groups have gone.
    """
    groups.cells.settle(changed, groups.place, LOOSE)
    groups.write_front(None if all_fronts else changed)


def split_grown(groups: Groups, chosen: Tensor) -> Tensor:
    """Split those of groups ``(g,)`` that are too large.

    Returns:
        All given and all new groups, ascending; the bounds of their cells are to be written.
    """
    parts = [chosen]
    while len(large := chosen[groups.size(chosen) > groups.bound]):
        chosen = _split(groups, large)
        parts.append(chosen)
    every: Tensor = torch.unique(torch.cat(parts))
    return every


def _few(groups: Groups) -> int:
    """Number of cells at which a group is dropped: none as long as there are not too many groups."""
    few = groups.bound // (GROWN * SHRUNK)
    intended = GROWN * len(groups.rows) / groups.bound
    return few if few > FEW_CELLS and len(groups) > MANY * intended else 0


def _drop_small(groups: Groups, chosen: Tensor, few: int) -> Tensor:
    """Drop those of groups ``(g,)`` with at most ``few`` cells, which go to the nearest other groups.

    Returns:
        The groups that stay, with all that gained a cell.
    """
    small = groups.size(chosen) <= few
    kept, dropped = chosen[~small], chosen[small]
    if len(dropped) == len(groups):
        kept, dropped = torch.cat([kept, dropped[:1]]), dropped[1:]  # one stays, for cells to come
    member, _ = groups.members(dropped)
    groups.leave(member)
    groups.drop(dropped)
    if len(member):
        group = groups.nearest(groups.rows.keys[member])
        groups.enter(member, group)
        kept = torch.unique(torch.cat([kept, group]))
    return kept


def _turn(groups: Groups, chosen: Tensor) -> bool:
    """Give those of groups ``(g,)`` whose means have moved other directions; says whether there were any."""
    due = chosen[groups.changed[chosen] * UNNOTICED >= groups.size(chosen)]
    if not len(due):
        return False
    mean, before = groups.means(due), groups.mean[due]  # (d, m)
    groups.changed[due] = 0
    far = (mean - before).norm(dim=1) > DRIFT * before.norm(dim=1)
    moved = due[far]
    if not len(moved):
        return False
    groups.set_means(moved, mean[far])
    groups.encode(groups.members(moved)[0])
    return True


def _split(groups: Groups, large: Tensor) -> Tensor:
    """Divide groups ``(g,)`` into groups of half the bound, or more; returns all of these."""
    # 1. Divide the cells of each group into pieces of like direction.
    # 2. The first piece of a group stays in it. The others become new groups.
    # 3. Move their cells to the new groups, longest first, and write the codes of the others again.
    keys = groups.rows.keys
    member, size = groups.members(large)  # (m,), (g,)
    half = groups.bound // 2
    most = torch.minimum(size, (COSINES // size).clamp(min=2))
    pieces = torch.minimum(most, (size + half) // max(1, half))
    source, piece = _divide(keys[member], size, pieces, groups.seed)  # (p,), (m,)
    stays = torch.ones_like(source, dtype=torch.bool)  # (p,)
    stays[1:] = source[1:] != source[:-1]
    target = torch.empty_like(source)  # (p,) group of each piece
    target[stays], target[~stays] = large, groups.take(int((~stays).sum()))
    moves = ~stays[piece]  # (m,)
    groups.leave(member[moves])
    groups.set_means(target, on_basis(unit_means(keys, member, piece, len(target)), groups.basis))
    groups.enter(member[moves], target[piece][moves])
    groups.encode(member[~moves])
    groups.changed[target] = 0
    return target


def _divide(points: Tensor, size: Tensor, pieces: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Divide the cells of each group into pieces of like direction.

    Args:
        points: ``(m, D)`` keys of the cells, group by group.
        size: ``(g,)`` cells of each group.
        pieces: ``(g,)`` pieces of each group.
        seed: seed of the k-means.

    Returns:
        ``(p,)`` position of its group, 0 to g - 1, for each piece that is not empty, ascending; and ``(m,)``
        piece of each cell, 0 to p - 1.
    """
    part = torch.repeat_interleave(torch.arange(len(size), device=size.device), size)  # (m,)
    generator = torch.Generator().manual_seed(seed)
    piece = divide(points, part, pieces, generator=generator, rounds=ROUNDS)  # (m,)
    # where all cells of a group ended in one piece, direction cannot part them: deal them out in turn
    first = pieces.cumsum(0) - pieces  # (g,)
    highest = torch.zeros_like(first).scatter_reduce_(0, part, piece, "amax", include_self=False)
    lowest = torch.zeros_like(first).scatter_reduce_(0, part, piece, "amin", include_self=False)
    position = torch.arange(len(piece), device=piece.device) - (size.cumsum(0) - size)[part]
    dealt = first[part] + position % pieces[part]
    piece = torch.where((highest == lowest)[part], dealt, piece)
    used, piece = torch.unique(piece, return_inverse=True)
    return part.new_zeros(len(used)).index_copy_(0, piece, part), piece
