"""Cells that come, go and change: groups follow, split and go."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from tests.index.reference import clustered
from tests.index.structures.hierarchy.sound import assert_sound
from torch import Tensor

from hmn._native import backend
from hmn._native.level import LANES
from hmn.index.clustering.split_kmeans import divide
from hmn.index.structures.hierarchy import upkeep
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.structures.hierarchy.upkeep import DRIFT, GROWN


def built(keys: Tensor, groups: int | None = None) -> HierarchicalIndex:
    index = HierarchicalIndex(groups)
    index.build(keys)
    return index


def largest_group(index: HierarchicalIndex) -> Tensor:
    """The group ``(1,)`` with the most cells."""
    live = index.groups.live()
    return live[index.groups.size(live).argmax()].view(1)


def cosines(vectors: Tensor, directions: Tensor) -> Tensor:
    """Cosine ``(n, G)`` of each vector with each direction."""
    vectors, directions = vectors.double(), directions.double()
    return (vectors / vectors.norm(dim=1, keepdim=True)) @ (
        directions / directions.norm(dim=1, keepdim=True)
    ).T


def test_groups_follow_what_is_added_and_removed() -> None:
    keys, _ = clustered(0, 2_000, 1)
    index = built(keys)
    generator = torch.Generator().manual_seed(0)
    for number in range(6):
        fresh = keys[:200] + (0.2 + number) * torch.randn(200, 32, generator=generator)
        index.add(torch.arange(200) + 2_000 + 200 * number, fresh)
        assert_sound(index)
        index.remove(torch.arange(100) + 100 * number)
        assert_sound(index)


@pytest.mark.parametrize("features", [1, 2, 7, 100])
def test_single_cells_of_any_length_come_and_go(features: int) -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(300, features, generator=generator)
    keys = keys * torch.randn(300, 1, generator=generator).exp()
    index = built(keys[:200].clone())
    for cell in range(200, 300):
        index.add(torch.tensor([cell]), keys[cell : cell + 1])
        index.update(torch.tensor([cell - 150]), 3 * keys[cell : cell + 1])
        index.remove(torch.tensor([cell - 200]))
        if cell % 10 == 0:
            assert_sound(index)
    assert_sound(index)


def test_cells_go_to_the_group_that_their_new_keys_are_nearest_to() -> None:
    keys, _ = clustered(9, 1_000, 1)
    index = built(keys.clone(), 60)
    groups, right = index.groups, 0
    for cell in torch.arange(0, 1_000, 50).view(-1, 1):
        live = groups.live()
        wanted = live[cosines(-keys[cell], groups.direction[live]).argmax(dim=1)]
        assert int(wanted) != int(groups.group[cell])
        index.update(cell, -keys[cell])
        right += int(wanted) == int(groups.group[cell])
    assert_sound(index)
    assert right >= 19  # unless the group was split just then


def test_a_cell_whose_group_stays_does_not_move_among_the_lists() -> None:
    keys, _ = clustered(1, 1_000, 1)
    index = built(keys.clone(), 20)
    group, place = index.groups.group.clone(), index.groups.place.clone()
    index.update(torch.tensor([7]), 1.01 * keys[7:8])
    assert torch.equal(index.groups.group, group) and torch.equal(index.groups.place, place)
    assert_sound(index)


def test_cells_are_put_in_order_where_one_of_them_grows() -> None:
    keys, _ = clustered(1, 1_000, 1)
    index = built(keys.clone(), 10)
    group = largest_group(index)
    last = index.groups.members(group)[0][-1:]
    front = index.groups.front[:, index.groups.slot[group]].clone()
    index.update(last, 9 * keys[last])
    assert_sound(index)
    assert int(last) in index.groups.members(group)[0][:LANES].tolist()  # its first panel
    assert bool((index.groups.front[:, index.groups.slot[group]] > front).all())


def test_small_groups_stay_unless_there_are_very_many_and_empty_ones_go() -> None:
    keys, _ = clustered(0, 1_000, 1)
    index = built(keys, 60)
    groups = index.groups
    group, count = largest_group(index), len(groups)
    cells = groups.members(group)[0]
    index.remove(cells[1:])
    assert groups.group[cells[:1]].tolist() == group.tolist() and len(groups) == count
    index.remove(cells[:1])
    assert int(group) in groups.free and len(groups) == count - 1
    assert_sound(index)


def test_members_of_a_group_that_shrinks_go_to_the_nearest_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "MANY", 0)
    keys, _ = clustered(0, 1_000, 1)
    index = built(keys, 60)
    groups = index.groups
    live, group = groups.live(), largest_group(index)
    cells = groups.members(group)[0]
    cosine = cosines(keys[cells[:3]], groups.direction[live]).masked_fill(live == group, -1.0)
    index.remove(cells[3:])
    assert_sound(index)
    assert int(group) in groups.free
    assert torch.equal(groups.group[cells[:3]], live[cosine.argmax(dim=1)])


@pytest.mark.parametrize(("intended", "fewest"), [(2, 1), (4, 1), (14, 8), (20, 11)])
def test_groups_are_dropped_at_half_the_intended_cells_or_when_empty(
    intended: int, fewest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "MANY", 0)
    keys, _ = clustered(3, 600, 1)
    index = built(keys, 30)
    groups, group = index.groups, largest_group(index)
    cells = groups.members(group)[0]
    groups.bound = GROWN * intended
    index.remove(cells[fewest:])
    few = upkeep._few(groups)
    assert int(groups.size(group)) == fewest > few
    index.remove(cells[fewest - 1 : fewest])
    assert int(group) in groups.free
    assert not bool((groups.group[cells] == group).any())


def test_the_last_group_stays_when_all_cells_go_and_takes_what_comes() -> None:
    keys, _ = clustered(4, 300, 1)
    index = built(keys)
    index.remove(torch.arange(300))
    assert_sound(index)
    assert len(index.groups) == 1
    index.add(torch.arange(300, 400), keys[:100])
    assert_sound(index)


@pytest.mark.parametrize("angle", [0.01, 0.2])
def test_a_direction_follows_beyond_three_hundredths_of_its_length(angle: float) -> None:
    keys, _ = clustered(0, 400, 1)
    index = built(keys.clone(), 20)
    groups, group = index.groups, largest_group(index)
    cells, before = groups.members(group)[0], groups.mean[group].clone()
    aside = torch.nn.functional.normalize(torch.randn(1, 32, generator=torch.Generator().manual_seed(1)))
    aside = aside - (aside * before).sum() * before
    unit = keys[cells] / keys[cells].norm(dim=1, keepdim=True)
    index.update(cells, unit + angle * aside)
    assert bool((groups.group[cells] == group).all())
    assert_sound(index)
    distance = float((groups.mean[group] - before).norm())
    assert (distance > DRIFT) == (angle > 0.1) and (distance == 0) == (angle < 0.1)


def test_a_mean_is_noticed_after_many_single_changes() -> None:
    keys, _ = clustered(0, 1_000, 1)
    index = built(keys.clone(), 10)
    groups, group = index.groups, largest_group(index)
    cells, before = groups.members(group)[0], groups.mean[group].clone()
    other = groups.unit[group] + 0.05 * torch.randn(1, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(groups.nearest(other), group)
    for cell in cells[: len(cells) // 2]:
        index.update(cell.view(1), other)
    assert_sound(index)
    assert float((groups.mean[group] - before).norm()) > DRIFT


def test_large_groups_are_split_and_the_new_ones_are_found() -> None:
    keys, _ = clustered(8, 1_000, 1)
    index = built(keys[:900].clone(), 10)
    groups = index.groups
    groups.bound = 60
    index.update(torch.arange(890), keys[:890].clone() * 1.5)
    assert_sound(index)
    assert len(groups) > 15
    nearest = cosines(keys, groups.direction[groups.live()]).argmax(dim=1)
    assert float((groups.live()[nearest[:900]] == groups.group[:900]).double().mean()) > 0.8


def test_groups_grow_with_the_number_of_cells_unless_their_number_is_given() -> None:
    keys, _ = clustered(2, 3_000, 1)
    free, given = built(keys[:100].clone()), built(keys[:100].clone(), 10)
    for index in (free, given):
        before = index.groups.bound
        for part in torch.split(torch.arange(100, 3_000), 500):
            index.add(part, keys[part])
        assert_sound(index)
        assert (index.groups.bound > before) == (index is free)
    assert len(free.groups) < 3_000 / 16 < len(given.groups)


def alike(name: str, cells: int) -> Tensor:
    """Keys that direction cannot part, or hardly."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(1, 8, generator=generator)
    if name == "last bit":
        return one * (1 + 2.0**-23 * torch.randint(2, (cells, 8), generator=generator))
    if name == "one direction":
        return one * torch.rand(cells, 1, generator=generator)
    if name == "opposite":
        return one * (1 - 2 * (torch.arange(cells) % 2)).unsqueeze(1)
    return one.expand(cells, 8) * {"equal": 1.0, "zero": 0.0, "longest": 1e18, "shortest": 1e-42}[name]


@pytest.mark.parametrize(
    "name", ["equal", "zero", "last bit", "one direction", "opposite", "longest", "shortest"]
)
@pytest.mark.parametrize("step", [1, 1_100])
def test_cells_that_direction_cannot_part_are_dealt_out(name: str, step: int) -> None:
    keys = alike(name, 200 if step == 1 else 1_200)
    index = HierarchicalIndex(10)
    index.build(keys[:100].clone())
    for cells in torch.split(torch.arange(100, len(keys)), step):
        index.add(cells, keys[cells])
    level = index.groups.cells.level
    for bounds in (level.bound, index.groups.front, index.groups.direction):
        assert bounds is not None and bool(bounds.isfinite().all())
    index.update(torch.arange(100), keys[-100:])
    index.remove(torch.arange(50))
    assert len(index.groups) >= len(index) / index.groups.bound
    if name in {"equal", "last bit", "one direction", "opposite"}:
        assert_sound(index)


def test_a_group_of_many_equal_cells_is_divided_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "COSINES", 1 << 12)
    largest = []

    def divide_at_once(points: Tensor, part: Tensor, pieces: Tensor, **settings: object) -> Tensor:
        largest.append(int((torch.bincount(part) * pieces).max()))
        return divide(points, part, pieces, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(upkeep, "divide", divide_at_once)
    index = HierarchicalIndex(2)
    index.build(torch.zeros(10, 4))
    index.add(torch.arange(10, 2_000), torch.zeros(1_990, 4))
    assert_sound(index)
    assert len(largest) > 3 and max(largest) <= 1 << 12


@pytest.mark.parametrize("bound", [2, 3, 4, 5])
def test_groups_of_any_size_are_split_down_to_the_smallest_bounds(bound: int) -> None:
    keys, _ = clustered(9, 90, 1)
    index = built(keys[:60].clone(), 4)
    index.groups.bound = bound  # as a state may say
    index.add(torch.arange(60, 90), keys[60:])
    index.update(torch.arange(0, 90), keys.roll(1, 0))
    assert_sound(index)


def test_what_searches_read_is_looked_up_again_after_every_change() -> None:
    keys, _ = clustered(9, 400, 1)
    index = built(keys.clone(), 10)
    groups = index.groups
    known = groups.searcher()
    assert groups.searcher() is known
    index.update(torch.tensor([3]), 9 * keys[3:4])
    assert groups.searcher() is not known
    assert int(index.search(keys[3:4], 1).cell) == 3
    index.add(torch.arange(400, 1_400), 99 * keys[:100].repeat(10, 1))  # all tensors grow
    view = groups.searcher().view
    assert view.front is groups.front and view.cells is groups.cells.level
    best = int((keys[:100] @ keys[7]).argmax())
    assert int(index.search(keys[7:8], 1).cell) in range(400 + best, 1_400, 100)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_random_sequence_of_changes_leaves_sound_groups(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(backend, "compiled", None)
    keys, _ = clustered(11, 4_000, 1, features=20)
    index = built(keys[:500].clone(), 12)
    generator = torch.Generator().manual_seed(0)
    held, fresh = set(range(500)), itertools.count(500)
    for _ in range(40):
        kind, count = torch.randint(3, (2,), generator=generator).tolist()
        count = (1, 5, 60)[count]
        some = torch.tensor(sorted(held))[torch.randperm(len(held), generator=generator)[:count]]
        given = keys[torch.randint(4_000, (count,), generator=generator)]
        if kind == 0:
            cells = torch.tensor([next(fresh) for _ in range(count)])
            index.add(cells, given)
            held.update(cells.tolist())
        elif kind == 1:
            index.remove(some)
            held.difference_update(some.tolist())
        else:
            index.update(some, given[: len(some)])
        assert_sound(index)
    copied = copy.deepcopy(index)
    assert_sound(copied)
    assert torch.equal(copied.groups.place, index.groups.place[: index.groups.rows.used])
