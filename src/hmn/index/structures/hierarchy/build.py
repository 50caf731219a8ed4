"""Builds groups: k-means on whole keys, directions on few features, and short codes of what these leave."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hmn._native.codes import split
from hmn.index.clustering.kmeans import MANY_POINTS, assign, kmeans, unit_rows
from hmn.index.storage.coded_lists import Lists
from hmn.index.storage.key_rows import KeyRows
from hmn.index.storage.short_codes import ShortCodes
from hmn.index.structures.hierarchy.directions import choose_basis, on_basis, unit_means
from hmn.index.structures.hierarchy.groups import CELL_BITS, ROUTING_BITS, Groups
from hmn.index.structures.hierarchy.upkeep import GROWN, split_grown, write_bounds

PER_ROOT = 2.0
"""Groups per square root of the number of cells."""
FEWEST_CELLS = 16
"""Cells per group below which no more groups are made: one panel."""
MOST_CELLS = 1024
"""Cells per group above which more groups are made."""
ROUNDS = 5
"""Rounds of assignment and averaging in the k-means."""
MANY_CELLS = 1 << 17
"""Number of cells above which k-means works on fewer of them, which costs a little and halves its time."""
ENOUGH = 1 << 16
"""Upper limit of keys that it works on then, as long as there are 40 per group."""
CLUSTERED = 1 << 20
"""Upper limit of keys that k-means on few features works on, and of keys assigned at a time."""
SAMPLED = 1 << 14
"""Upper limit of cells to whose rests the short codes are fitted."""
MEASURED = 40_000
"""Upper limit of keys whose lengths are looked at."""
ALIKE = 0.4
"""Mean from which on keys count as alike in length; see ``evenness``."""
LONG = 0.999
"""Share of the keys that are no longer than one that counts as long."""
PARTS = ((64, 16), (160, 24))
"""Up to how many features, how many parts short codes have."""
MOST_PARTS = 32
"""Parts of short codes beyond that."""


def count_for(cells: int, even: float = 1.0) -> int:
    """Default number of groups; ``even`` says how alike keys are in length."""
    enough = max(int(PER_ROOT * math.sqrt(even * cells)), int(even * cells) // MOST_CELLS)
    return max(1, min(cells // FEWEST_CELLS, enough))


def evenness(keys: Tensor, seed: int) -> float:
    """How alike keys ``(n, D)`` are in length: 1 for all the same, near 0 for few that are long.

    Short keys are rarely among the best, so that they need no groups. It is the square of the mean of (length
    / the length that one in a thousand exceeds) to the fourth, of some of the keys, in terms of ``ALIKE``.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(
        max(1, len(keys)), (min(len(keys), MEASURED),), generator=generator, device=generator.device
    )
    length = torch.linalg.vector_norm(keys[chosen.to(keys.device)], dim=1, dtype=torch.float64)  # (n,)
    long = float(length.quantile(LONG)) if len(length) else 0.0
    if long <= 0:
        return 1.0
    mean = float((length / long).clamp(max=1).pow(4).mean())
    return min(1.0, mean / ALIKE) ** 2


def bound_for(cells: int, count: int) -> int:
    """Upper limit of cells per group, where there are this number of groups."""
    return GROWN * max(2, -(-cells // count))


def least_bound_for(cells: int) -> int:
    """Upper limit of cells per group with the default number of groups."""
    return GROWN * max(FEWEST_CELLS, min(MOST_CELLS, math.ceil(math.sqrt(cells) / PER_ROOT)))


def parts_for(features: int) -> int:
    """Default number of parts of short codes."""
    return next((parts for most, parts in PARTS if features <= most), MOST_PARTS)


def build(
    rows: KeyRows,
    count: int | None,
    *,
    parts: int | None,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Groups:
    """Make groups of all cells; ``calibrate`` says how far to look.

    Args:
        rows: rows of keys.
        count: number of groups; fewer where there are fewer cells, and more where groups come out too large
            and are split. None for the default.
        parts: parts of short codes; None for the default.
        seed: seed of all randomness.
        on_progress: called with the number of steps done and the number of all steps.
    """
    n, steps = len(rows), 3

    def said(done: int) -> None:
        if on_progress is not None:
            on_progress(done, steps)

    generator = torch.Generator().manual_seed(seed)
    said(0)
    live = rows.live()
    keys = rows.keys[:n] if n == rows.used else rows.keys[live]
    wanted = count_for(n, evenness(keys, seed)) if count is None else max(1, min(count, n))
    bound = max(bound_for(n, wanted), least_bound_for(n) if count is None else 0)
    basis, own, direction = _divided(keys, wanted, generator)
    group = torch.full((len(rows.keys),), -1, dtype=torch.int64, device=own.device).index_copy_(0, live, own)
    said(1)
    short = _fitted(rows, group, direction, parts_for(rows.features) if parts is None else parts, generator)
    number, mean = torch.arange(len(direction), device=group.device), on_basis(direction, basis)
    routing, slot = _routing(number, mean)
    cells = Lists(rows.features, CELL_BITS, group.device, short)
    cells.more(len(mean))
    groups = Groups(rows, basis, routing, slot, mean, cells, group, torch.full_like(group, -1), bound, seed)
    groups.build_lists(short)
    said(2)
    write_bounds(groups, split_grown(groups, groups.live()), all_fronts=True)
    said(steps)
    return groups


def renew(groups: Groups) -> None:
    """Fit basis, directions and codes again to the cells as they are now, which stay in their groups."""
    generator = torch.Generator().manual_seed(groups.seed)
    live, cell = groups.live(), groups.rows.live()
    direction = unit_means(groups.rows.keys, cell, groups.group[cell], len(groups.slot))  # (room, D)
    groups.basis = choose_basis(direction[live], groups.size(live))
    groups.mean = on_basis(direction, groups.basis)
    groups.routing, groups.slot[live] = _routing(live, groups.mean)
    groups.decode(live)
    groups.build_lists(_fitted(groups.rows, groups.group, groups.direction, groups.short.parts, generator))


def _divided(keys: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor | None, Tensor, Tensor]:
    """Basis of directions, group ``(N,)`` of each cell, and directions ``(G, D)``; G is at least 1."""
    # 1. k-means on whole keys finds groups.
    # 2. Where few features tell these apart, k-means on them alone finds better ones: the other features only
    #    moved the means by chance.
    n, features = keys.shape
    if not n:
        return (
            None,
            torch.zeros(0, dtype=torch.int64, device=keys.device),
            keys.new_zeros(1, features).float(),
        )
    many = MANY_POINTS if n <= MANY_CELLS else ENOUGH
    centroid = kmeans(keys, min(count, n), generator=generator, iterations=ROUNDS, many=many)
    group, direction = _means(keys, assign(keys, centroid)[0])
    basis = choose_basis(direction, torch.bincount(group))
    if basis is not None:
        chosen = torch.randperm(n, generator=generator, device=generator.device)[:CLUSTERED].to(keys.device)
        points = on_basis(keys[chosen.sort().values].float(), basis)  # (s, m)
        centroid = kmeans(
            points, min(count, len(points)), generator=generator, iterations=ROUNDS, many=ENOUGH
        )
        parts = [assign(on_basis(part.float(), basis), centroid)[0] for part in torch.split(keys, CLUSTERED)]
        group, direction = _means(keys, torch.cat(parts))
    return basis, group, direction


def _means(keys: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Groups ``(N,)``, numbered without gaps, and the unit mean ``(G, D)`` of each."""
    used, group = torch.unique(group, return_inverse=True)
    return group, unit_means(keys, None, group, len(used))


def _routing(groups: Tensor, mean: Tensor) -> tuple[Lists, Tensor]:
    """A list of the codes of groups ``(G,)``, whose means are ``(room, m)``, and their places ``(G,)``."""
    routing = Lists(mean.shape[1], ROUTING_BITS, groups.device)
    return routing, routing.build(torch.zeros_like(groups), groups, mean, mean.new_zeros(1, 1))


def _fitted(
    rows: KeyRows, group: Tensor, direction: Tensor, parts: int, generator: torch.Generator
) -> ShortCodes:
    """Short codes fitted to what the directions ``(room, D)`` of their groups leave of the cells."""
    live = rows.live()
    chosen = torch.randperm(len(live), generator=generator, device=generator.device)[:SAMPLED]
    chosen = live[chosen.sort().values.to(live.device)]
    keys = unit_rows(rows.keys[chosen].float())  # squares of very long ones do not fit float32
    return ShortCodes.fit(unit_rows(split(keys, direction[group[chosen]])[1]), parts, generator)
