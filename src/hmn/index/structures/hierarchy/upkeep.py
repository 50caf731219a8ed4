"""Keeps a hierarchy in order while cells are added, removed and given other keys."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hmn._native.fallback.lists import means_of
from hmn._native.level import LANES
from hmn.index.clustering.split_kmeans import divide
from hmn.index.structures.hierarchy.routing import nearest
from hmn.index.structures.hierarchy.tree import Tree

GROWN = 3
"""Upper limit of members per group, in multiples of the intended number; larger groups are split."""
SHRUNK = 2
"""Divisor of the intended number of members; groups with no more than the quotient are dropped."""
FEW_MEMBERS = 2
"""Quotient, in members per group, up to which only empty groups are dropped.

If three members per group are intended, about half of all groups hold one or two."""
DRIFT = 0.03
"""Distance that the mean of a group's members may move before the group follows, in lengths of its mean."""
COSINES = 1 << 22
"""Upper limit of members times pieces where a group is divided at once.

A group that needs more pieces is divided again. Thousands of equal keys, such as zeros, lie in one group."""
ROUNDS = 5
"""Rounds of assignment and averaging in each k-means."""


def bounds_for(cells: int, counts: Sequence[int]) -> tuple[int, ...]:
    """Upper limit of members per group, for each tier of a hierarchy built over this number of cells."""
    members = [*counts[1:], cells]
    intended = [max(2, -(-below // count)) for below, count in zip(members, counts, strict=True)]
    return tuple(GROWN * size for size in intended)


def add(tree: Tree, rows: Tensor) -> None:
    """File rows ``(n,)`` of new cells."""
    cells, last = tree.cells, tree.tiers[-1]
    cells.grow()
    leaf = nearest(tree.tiers, cells.points(rows))
    cells.enter(rows, leaf, last.coded)
    follow(tree, leaf)


def remove(tree: Tree, rows: Tensor) -> None:
    """Take rows ``(n,)`` of removed cells out of their leaves."""
    leaf = tree.cells.filing.parent[rows]
    tree.cells.leave(rows)
    follow(tree, leaf)


def update(tree: Tree, rows: Tensor) -> None:
    """File rows ``(n,)`` again after their keys have changed."""
    # 1. Find the leaf whose direction each new key is nearest to.
    # 2. Cells whose leaf stays the same are only encoded again; the others move.
    # 3. Bring in order the leaves that cells moved into or out of, and those whose first cell was written.
    #    The latter makes writing all cells of a leaf one by one check its mean once, not for each of them.
    cells, last = tree.cells, tree.tiers[-1]
    leaf, before = nearest(tree.tiers, cells.points(rows)), cells.filing.parent[rows]
    moves = leaf != before
    cells.encode(rows[~moves], last.coded)
    first = cells.filing.place[rows] == cells.filing.lists.level.first_panel[before] * LANES
    disturbed = before[moves | first]
    cells.leave(rows[moves])
    cells.enter(rows[moves], leaf[moves], last.coded)
    follow(tree, torch.cat([leaf[moves], disturbed]))


def follow(tree: Tree, leaves: Tensor) -> None:
    """Bring the groups in order after the members of these leaves ``(n,)`` have changed."""
    # From the last tier to the first, for groups whose members have changed:
    # 1. Drop groups that are nearly empty, and split those that have grown too large.
    # 2. Where the mean of a group's members has moved away from the group's own, take the new one, file the
    #    group again by it, and write its code and those of its members.
    # 3. Go on with the groups of the tier above that lost, gained or held one of these groups.
    groups = leaves
    for number in reversed(range(len(tree.tiers))):
        tier = tree.tiers[number]
        groups = torch.unique(groups)
        groups = groups[tier.filing.parent[groups] >= 0]
        groups, emptied = _drop_small(tree, number, groups)
        groups = split_grown(tree, number, groups)
        mean, weight = tier.below.means(groups)  # (g, D), (g,)
        distance = torch.linalg.vector_norm(mean - tier.mean[groups], dim=1)
        tier.weight[groups] = weight
        moved = (distance > DRIFT * tier.length[groups]).nonzero().squeeze(1)
        far = groups[moved]
        tier.set_means(far, mean[moved])
        if tier.taught is not None:
            tier.taught[far] = 0.0  # what was learned about another mean is no longer true
        held = tier.filing.parent[groups]  # before some of them move
        gained = _move(tree, number, far)
        tree.recode(number, far)
        groups = torch.cat([emptied, held, gained])


def split_grown(tree: Tree, number: int, groups: Tensor) -> Tensor:
    """Split those of a tier's groups ``(g,)`` that exceed its bound; returns all given and all new groups."""
    members = tree.tiers[number].below.filing
    parts = [groups]
    while len(large := groups[members.size(groups) > tree.bounds[number]]):
        groups = _split(tree, number, large)
        parts.append(groups)
    every: Tensor = torch.unique(torch.cat(parts))
    return every


def _drop_small(tree: Tree, number: int, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Drop those of a tier's groups ``(g,)`` that hold few members, which go to the nearest other groups.

    Returns:
        The groups that stay, with all that gained a member; the groups of the tier above that lost one.
    """
    tier = tree.tiers[number]
    below = tier.below
    few = tree.bounds[number] // (GROWN * SHRUNK)
    small = below.filing.size(groups) <= (few if few > FEW_MEMBERS else 0)
    kept, dropped = groups[~small], groups[small]
    if not len(dropped):
        return kept, dropped
    if len(dropped) == len(tier):
        kept, dropped = dropped[:1], dropped[1:]  # one stays, for cells that are added later
    member, _ = below.filing.in_groups(dropped)
    below.leave(member)
    emptied = tier.filing.parent[dropped]
    tier.drop(dropped)
    if not len(member):
        return kept, emptied
    group = nearest(tree.tiers[: number + 1], below.points(member))
    below.enter(member, group, tier.coded)
    below.encode_below(member)
    return torch.unique(torch.cat([kept, group])), emptied


def _move(tree: Tree, number: int, groups: Tensor) -> Tensor:
    """File groups ``(g,)`` of a tier in the nearest groups above; returns those above that gained one."""
    tier = tree.tiers[number]
    if number == 0 or not len(groups):
        return groups[:0]
    above = nearest(tree.tiers[:number], tier.points(groups))
    moves = above != tier.filing.parent[groups]
    groups, above = groups[moves], above[moves]
    tier.leave(groups)
    tier.enter(groups, above, tree.anchor(number))
    return above


def _split(tree: Tree, number: int, groups: Tensor) -> Tensor:
    """Divide groups ``(g,)`` of a tier into groups of half the bound, or more; returns all of these."""
    # 1. Divide the members of each group into pieces of like direction.
    # 2. The first piece of a group stays in it. The others become new groups, in the same group above, and
    #    take over what was taught to the old one.
    # 3. Move their members to the new groups, and write the codes of all these groups and their members.
    tier = tree.tiers[number]
    below, anchor = tier.below, tree.anchor(number)
    member, size = below.filing.in_groups(groups)  # (m,), (g,)
    half = tree.bounds[number] // 2
    most = torch.minimum(size, (COSINES // size).clamp(min=2))
    pieces = torch.minimum(most, (size + half) // max(1, half))
    source, piece = _divide(below.points(member), size, pieces, tree.seed)  # (p,), (m,)
    stays = torch.ones_like(source, dtype=torch.bool)  # (p,)
    stays[1:] = source[1:] != source[:-1]
    fresh, origin = tier.take(int((~stays).sum())), groups[source[~stays]]
    target = torch.empty_like(source)  # (p,) group of each piece
    target[stays], target[~stays] = groups, fresh
    mean, tier.weight[target] = means_of(below.points(member), below.weights(member), piece, len(target))
    tier.set_means(target, mean)
    if tier.taught is not None:
        tier.taught[fresh] = tier.taught[origin]
    tier.enter(fresh, tier.filing.parent[origin], anchor)
    moves = ~stays[piece]  # (m,)
    below.leave(member[moves])
    below.enter(member[moves], target[piece][moves], tier.coded)
    tree.recode(number, target)
    return target


def _divide(points: Tensor, size: Tensor, pieces: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Divide the members of each group into pieces of like direction.

    Args:
        points: ``(m, D)`` vectors of the members, group by group.
        size: ``(g,)`` members of each group.
        pieces: ``(g,)`` pieces of each group.
        seed: seed of the k-means.

    Returns:
        ``(p,)`` position of its group, 0 to g - 1, for each piece that is not empty, ascending; and ``(m,)``
        piece of each member, 0 to p - 1.
    """
    part = torch.repeat_interleave(torch.arange(len(size), device=size.device), size)  # (m,)
    generator = torch.Generator().manual_seed(seed)
    piece = divide(points, part, pieces, generator=generator, rounds=ROUNDS)  # (m,)
    # where all members of a group ended in one piece, direction cannot part them: deal them out in turn
    first = pieces.cumsum(0) - pieces  # (g,)
    highest = torch.zeros_like(first).scatter_reduce_(0, part, piece, "amax", include_self=False)
    lowest = torch.zeros_like(first).scatter_reduce_(0, part, piece, "amin", include_self=False)
    position = torch.arange(len(piece), device=piece.device) - (size.cumsum(0) - size)[part]
    dealt = first[part] + position % pieces[part]
    piece = torch.where((highest == lowest)[part], dealt, piece)
    used, piece = torch.unique(piece, return_inverse=True)
    return part.new_zeros(len(used)).index_copy_(0, piece, part), piece
