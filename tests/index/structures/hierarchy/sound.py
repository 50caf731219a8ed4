"""What holds of every hierarchy, after any change."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.structures.hierarchy.members import Filing, Members


def assert_sound(index: HierarchicalIndex) -> None:
    """Every cell is in one leaf, every group in one group above, and all of them say where."""
    tree = index.tree
    levels: list[Members] = [*tree.tiers, tree.cells]
    live = [*(tier.live() for tier in tree.tiers), tree.cells.rows.live()]
    for number, (level, members) in enumerate(zip(levels, live, strict=True)):
        groups = live[number - 1] if number else torch.tensor([0])
        assert_filed(level.filing, members, groups)
        if number:
            size = level.filing.size(groups)
            assert bool((size > 0).all()) or len(groups) == 1
            assert int(size.max()) <= tree.bounds[number - 1]
    for number, tier in enumerate(tree.tiers):
        assert tier.below is levels[number + 1]
        coded, inverse = tier.coded[live[number]].clone(), tier.inverse[live[number]].clone()
        tier.decode(live[number], tree.anchor(number))
        if number < 2:
            torch.testing.assert_close(tier.coded[live[number]], coded)
            torch.testing.assert_close(tier.inverse[live[number]], inverse)
        else:  # the rounding of their anchors' codes may have changed since
            assert bool(((tier.coded[live[number]] - coded).norm(dim=1) <= 0.2 * coded.norm(dim=1)).all())
        torch.testing.assert_close(tier.length[live[number]], tier.mean[live[number]].norm(dim=1))
        torch.testing.assert_close(tier.weight[live[number]], tier.below.means(live[number])[1])
        free = set(range(len(tier.mean))) - set(live[number].tolist())
        assert sorted(tier.free) == sorted(free)
        if tier.taught is not None:
            assert number == 0


def assert_filed(filing: Filing, members: Tensor, groups: Tensor) -> None:
    """Exactly these members are filed, each once, in one of these groups, where its place says."""
    entries, length = filing.lists.level.entries_of(torch.arange(len(filing.lists.level.length)))
    child = filing.lists.level.child[entries].long()
    assert sorted(child.tolist()) == members.tolist() == filing.live().tolist()
    assert torch.equal(entries[child.argsort()], filing.place[members])
    assert int(length.sum()) == len(filing.lists) == len(members)
    group = torch.repeat_interleave(torch.arange(len(length)), length)
    assert torch.equal(group[child.argsort()], filing.parent[members])
    assert set(group.tolist()) <= set(groups.tolist())


def assert_means_are_near(index: HierarchicalIndex, share: float) -> None:
    """The mean of every group is that of its members, but for a share of its length."""
    for tier in index.tree.tiers:
        live = tier.live()
        distance = (tier.mean[live] - tier.below.means(live)[0]).norm(dim=1)
        assert bool((distance <= share * tier.length[live] + 1e-5).all())
