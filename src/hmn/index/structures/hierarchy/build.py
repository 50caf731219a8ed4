"""Builds a hierarchy: how many groups each tier gets, and which cells belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hmn._native.fallback.lists import means_of
from hmn.index.clustering.kmeans import assign, kmeans
from hmn.index.clustering.split_kmeans import divide
from hmn.index.storage.coded_lists import Lists
from hmn.index.storage.key_rows import KeyRows
from hmn.index.structures.hierarchy.members import Cells, Filing, Members
from hmn.index.structures.hierarchy.tier import GROUP_BITS, Tier
from hmn.index.structures.hierarchy.tree import Tree
from hmn.index.structures.hierarchy.upkeep import ROUNDS, bounds_for, split_grown

LEAF_SIZE = 12
"""Cells per leaf."""
LEAVES_PER_GROUP = 10
"""Leaves per group of the tier above them."""
GROUPS_PER_GROUP = 3
"""Groups per group of the next tier up, in tiers further up."""
FEW_GROUPS = 1500
"""Groups that the first tier may have, whatever the number of cells."""
CELLS_PER_FIRST_GROUP = 300
"""Cells per group of a first tier that has more groups than ``FEW_GROUPS``.

More groups say more about where a query's cells are. Among a million cells in 2,000 clusters, a query reads
719 cells through 833 groups, and 579 through 2,500. Among ten million it reads 48,000 cells through 833
groups, and 4,300 through 27,777."""
COSINES = 1 << 25
"""Upper limit of members times pieces where a group is divided; what stays too large is split afterwards.

Without it, a few hundred thousand equal keys, such as zeros, would take all memory."""
MOST_TO_ROOT = 9.0
"""Upper limit of groups of the first tier beyond ``FEW_GROUPS``, in square roots of the number of cells."""


def counts_for(cells: int) -> tuple[int, ...]:
    """Default number of groups of each tier, from the first tier to the leaves."""
    counts = [max(1, cells // LEAF_SIZE)]
    enough = max(FEW_GROUPS, min(cells // CELLS_PER_FIRST_GROUP, int(MOST_TO_ROOT * cells**0.5)))
    while counts[0] > enough:
        counts.insert(0, counts[0] // (LEAVES_PER_GROUP if len(counts) == 1 else GROUPS_PER_GROUP))
    return tuple(counts)


def build(
    rows: KeyRows,
    counts: Sequence[int],
    *,
    code_bits: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Tree:
    """Make the tiers over all cells and write all codes; ``calibrate`` says how far to look.

    Args:
        rows: rows of keys, none of them freed.
        counts: groups of each tier. A tier gets fewer where there are fewer cells, and more where groups come
            out too large and are split.
        code_bits: bits per feature of the codes of cells.
        seed: seed of all randomness.
        on_progress: called with the number of steps done and the number of all steps.
    """
    # 1. Divide the cells from the top: into groups of the first tier, each of those into groups of the next.
    # 2. Make the tiers from the bottom, since each refers to what is below it.
    # 3. Write the codes from the top, since they are relative to those above, and split large groups.
    n, steps = len(rows), len(counts) + 1
    counts = [max(1, min(count, n)) for count in counts]
    keys = rows.keys[:n]  # (N, D)
    generator = torch.Generator().manual_seed(seed)
    divisions: list[tuple[Tensor, Tensor]] = []
    for number, count in enumerate(counts):
        if on_progress is not None:
            on_progress(number, steps)
        above = divisions[-1][1] if divisions else None
        divisions.append(_divide(keys, above, count, generator))
    cells = _cells(rows, divisions[-1][1], code_bits)
    tiers: list[Tier] = []
    for parent, group in reversed(divisions):
        tiers.insert(0, _tier(keys, parent, group, tiers[0] if tiers else cells))
    tiers[0].taught = torch.zeros_like(tiers[0].mean)
    tree = Tree(tiers, cells, bounds_for(n, counts), seed)
    tree.write_codes()
    for number in reversed(range(len(tiers))):
        split_grown(tree, number, tiers[number].live())
    if on_progress is not None:
        on_progress(steps, steps)
    return tree


def _divide(
    keys: Tensor, above: Tensor | None, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Divide the cells into groups of one tier, each within one group of the tier above.

    Args:
        keys: ``(N, D)``.
        above: ``(N,)`` group of each cell in the tier above; None for the first tier.
        count: groups of this tier, at most N, or 1.
        generator: source of all randomness.

    Returns:
        The group ``(G,)`` of the tier above that holds each group, and the group ``(N,)`` of each cell. G is
        at least 1, and at most about ``count``.
    """
    n = len(keys)
    if not n:
        empty = torch.zeros(0, dtype=torch.int64, device=keys.device)
        return empty.new_zeros(1), empty
    if above is None:
        centroid = kmeans(keys, count, generator=generator, iterations=ROUNDS)
        group = assign(keys, centroid)[0]
        above = torch.zeros_like(group)
    else:
        held = torch.bincount(above)
        pieces = torch.minimum((held.float() * (count / n)).round().long().clamp(min=1), held)
        pieces = torch.minimum(pieces, (COSINES // held.clamp(min=1)).clamp(min=2))
        group = divide(keys, above, pieces, generator=generator, rounds=ROUNDS)
    group = torch.unique(group, return_inverse=True)[1]  # number groups without gaps
    parent = torch.zeros(int(group.max()) + 1, dtype=torch.int64, device=keys.device)
    return parent.index_copy_(0, group, above), group


def _cells(rows: KeyRows, leaf: Tensor, code_bits: int) -> Cells:
    """The cells, to be filed in leaves ``(N,)``."""
    lists = Lists(rows.features, code_bits, leaf.device)
    cells = Cells(rows, Filing(lists, leaf, torch.full_like(leaf, -1)))
    cells.grow()
    return cells


def _tier(keys: Tensor, parent: Tensor, group: Tensor, below: Members) -> Tier:
    """A tier without codes yet: ``parent`` ``(G,)`` of each group, and ``group`` ``(N,)`` of each cell."""
    mean, weight = means_of(keys, None, group, len(parent))  # (G, D), (G,)
    lists = Lists(keys.shape[1], GROUP_BITS, keys.device)
    return Tier(
        filing=Filing(lists, parent, torch.zeros_like(parent)),
        below=below,
        mean=mean,
        weight=weight,
        taught=None,
        width=0.0,
    )
