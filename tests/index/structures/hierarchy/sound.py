"""What holds of groups after any change."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from hmn._native.level import LANES
from hmn.index.structures.hierarchy.directions import from_basis, on_basis, unit_means
from hmn.index.structures.hierarchy.groups import Groups
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.structures.hierarchy.upkeep import DRIFT, LOOSE, UNNOTICED


def assert_sound(index: HierarchicalIndex) -> None:
    """Every cell is in one group, and codes, directions and bounds are what they would be if made again."""
    groups = index.groups
    assert_filed(groups)
    assert_directed(groups)
    assert_coded(groups)
    assert_bounded(groups)


def assert_filed(groups: Groups) -> None:
    """Exactly the rows with cells are filed, each once, in the group that it says and where it says."""
    live, cells, level = groups.live(), groups.rows.live(), groups.cells.level
    every = torch.arange(len(level.length))
    slot, length = level.entries_of(every)
    child = level.child[slot].long()
    assert len(level.length) == len(groups.slot)
    assert sorted(child.tolist()) == cells.tolist() == (groups.group >= 0).nonzero().squeeze(1).tolist()
    assert torch.equal(groups.place[child], slot)
    assert torch.equal(groups.group[child], every.repeat_interleave(length))
    assert int(length.sum()) == len(groups.cells) == len(groups.rows)
    size = groups.size(live)
    assert bool((size > 0).all()) or len(live) == 1
    assert int(size.max()) <= groups.bound
    length = groups.rows.keys[cells].float().norm(dim=1).clamp(min=1e-30)
    torch.testing.assert_close(groups.inverse[cells], 1 / length, rtol=1e-5, atol=0.0)
    free = set(range(len(groups.slot))) - set(live.tolist())
    assert sorted(groups.free) == sorted(free)
    assert all(int(level.length[group]) == 0 for group in free)


def assert_directed(groups: Groups) -> None:
    """Directions are what codes say, and these are near the means of the cells."""
    live, room = groups.live(), groups.slot
    slot, length = groups.routing.level.entries_of(torch.tensor([0]))
    child = groups.routing.level.child[slot].long()
    assert int(length) == len(groups) == len(live)
    assert sorted(child.tolist()) == live.tolist()
    assert torch.equal(room[child], slot)
    coded = groups.routing.vectors_at(room[live], torch.zeros_like(live), torch.zeros(1, 1))
    direction = from_basis(coded, groups.basis, groups.rows.features)
    torch.testing.assert_close(groups.direction[live], direction)
    torch.testing.assert_close(groups.unit[live], torch.nn.functional.normalize(direction, dim=1, eps=1e-30))
    step = groups.routing.level.step[room[live]].unsqueeze(1)
    assert bool(((coded - groups.mean[live]).abs() <= 3 * step + 1e-6).all())  # the ends may be cut off
    assert torch.equal(groups.barred == 0, room >= 0)
    assert torch.equal(groups.barred == -torch.inf, room < 0)
    cells = groups.rows.live()
    mean = unit_means(groups.rows.keys, cells, groups.group[cells], len(room))
    mean = on_basis(mean, groups.basis)[live]
    distance = (mean - groups.mean[live]).norm(dim=1)
    noticed = groups.changed[live] * UNNOTICED < groups.size(live)
    assert bool(noticed.all()) or len(live) == 1
    untouched = groups.changed[live] == 0
    assert bool((distance <= 1.001 * DRIFT * groups.mean[live].norm(dim=1) + 1e-5)[untouched].all())


def assert_coded(groups: Groups) -> None:
    """Writing all codes again would change nothing that is in use."""
    cells, again = groups.rows.live(), copy.deepcopy(groups.cells)
    place = groups.place[cells]
    again.encode(place, groups.rows.keys, cells, groups.group[cells], groups.direction)
    for name in ("along", "step", "size"):
        wanted, got = getattr(again.level, name)[place], getattr(groups.cells.level, name)[place]
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    assert torch.equal(again.level.codes, groups.cells.level.codes)
    # bfloat16 numbers that a sum in another order rounds the other way may differ in the last bit
    for name in ("fine", "screen"):
        wanted, got = getattr(again.level, name), getattr(groups.cells.level, name)
        assert int((wanted != got).sum()) <= 1e-3 * got.numel()


def assert_bounded(groups: Groups) -> None:
    """Bounds are those of the panels, raised to those that follow; each group's first is in front of it."""
    level, slots = groups.cells.level, groups.slot
    assert level.bound is not None and level.size is not None
    front = torch.tensor([[0.0], [-1.0]]).repeat(1, len(groups.routing.level.codes) * LANES)
    for group in groups.live().tolist():
        cells = level.child[level.entries_of(torch.tensor([group]))[0]].long()
        bound = bounds_of(groups.rows.keys[cells].double(), groups.direction[group].double())
        first = int(level.first_panel[group])
        got = level.bound[first : first + len(bound)].double()
        torch.testing.assert_close(got, bound, rtol=1e-3, atol=1e-6)
        if len(cells):
            front[:, slots[group]] = level.bound[first]
    assert torch.equal(groups.front, front)
    assert bool((groups.cells.disorder(groups.live()) <= LOOSE * 1.001).all())


def bounds_of(keys: Tensor, direction: Tensor) -> Tensor:
    """Bounds ``(panels, 2)`` of a list of keys ``(n, D)`` float64 in this order."""
    square = float(direction.square().sum())
    along = keys @ direction / (square if square > 0 else 1.0)
    rest = (keys - along.unsqueeze(1) * direction).norm(dim=1)
    length = keys.norm(dim=1).clamp(min=1e-30)
    bounds = []
    for begin in reversed(range(0, len(keys), LANES)):
        panel = slice(begin, begin + LANES)
        longest = length[panel].max()
        share = rest[panel].square().sum().div(length[panel].square().sum() * keys.shape[1]).sqrt()
        own = torch.stack([longest * along[panel].sum() / length[panel].sum(), longest * share])
        bounds.append(torch.maximum(own, bounds[-1]) if bounds else own)
    return torch.stack(bounds[::-1]) if bounds else torch.zeros(0, 2, dtype=torch.float64)
