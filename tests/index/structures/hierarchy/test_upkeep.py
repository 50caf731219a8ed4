"""Groups follow their members: small ones go, large ones are split, means move."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.index.reference import clustered
from tests.index.structures.hierarchy.sound import assert_means_are_near, assert_sound
from torch import Tensor

from hmn.index.clustering.split_kmeans import divide
from hmn.index.structures.hierarchy import upkeep
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.structures.hierarchy.members import Filing
from hmn.index.structures.hierarchy.routing import nearest
from hmn.index.structures.hierarchy.upkeep import DRIFT, bounds_for, follow


def built(keys: Tensor, groups: str = "10x100") -> HierarchicalIndex:
    index = HierarchicalIndex(groups, codes="int8")
    index.build(keys)
    return index


def cosines(vectors: Tensor, means: Tensor) -> Tensor:
    """Cosine ``(n, G)`` of each vector with each mean."""
    vectors, means = vectors.double(), means.double()
    return (vectors / vectors.norm(dim=1, keepdim=True)) @ (means / means.norm(dim=1, keepdim=True)).T


@pytest.mark.parametrize(
    ("cells", "counts", "bounds"),
    [
        (1_000, (100,), (30,)),
        (1_001, (10, 100), (30, 33)),
        (1_000, (10, 30, 100), (9, 12, 30)),
        (0, (1,), (6,)),
        (5, (5, 5), (6, 6)),
    ],
)
def test_a_group_may_have_three_times_the_members_intended_and_at_least_six(
    cells: int, counts: tuple[int, ...], bounds: tuple[int, ...]
) -> None:
    assert bounds_for(cells, counts) == bounds


def test_means_follow_what_is_added_and_removed() -> None:
    keys, _ = clustered(0, 2_000, 1)
    index = built(keys)
    generator = torch.Generator().manual_seed(0)
    for number in range(6):
        fresh = keys[:200] + (0.2 + number) * torch.randn(200, 32, generator=generator)
        index.add(torch.arange(200) + 2_000 + 200 * number, fresh)
        index.remove(torch.arange(100) + 100 * number)
        assert_sound(index)
        assert_means_are_near(index, DRIFT)


def test_writing_all_cells_of_a_leaf_one_by_one_moves_its_mean() -> None:
    keys, _ = clustered(0, 1_000, 1)
    index = built(keys)
    leaf = index.tree.cells.filing.parent.mode().values
    cells = index.tree.cells.filing.in_groups(leaf.view(1))[0]
    before = index.tree.tiers[-1].mean[leaf].clone()
    for _ in range(3):  # in the same direction, so that all cells stay in their leaf
        for cell in cells:
            index.update(cell.view(1), 1.2 * index.tree.cells.rows.keys[cell].view(1, -1))
    assert bool((index.tree.cells.filing.parent[cells] == leaf).all())
    assert_sound(index)
    assert float(index.tree.tiers[-1].mean[leaf].norm()) > 1.4 * float(before.norm())


def test_members_of_a_group_that_shrinks_go_to_the_nearest_others() -> None:
    keys, _ = clustered(0, 1_000, 1)
    index = built(keys, "60")
    leaves, filing = index.tree.tiers[0], index.tree.cells.filing
    live = leaves.live()
    leaf = live[filing.size(live).argmax()].view(1)
    cells = filing.in_groups(leaf)[0]
    cosine = cosines(keys[cells[:3]], leaves.mean[live]).masked_fill(live == leaf, -1.0)
    index.remove(cells[3:])
    assert_sound(index)
    assert int(leaf) in leaves.free
    assert torch.equal(filing.parent[cells[:3]], live[cosine.argmax(dim=1)])


def test_a_group_whose_mean_moves_is_filed_in_another_group_and_what_was_taught_is_forgotten() -> None:
    keys, _ = clustered(2, 1_000, 1)
    index = built(keys, "10x60")
    first, last = index.tree.tiers
    first.taught[first.live()] = 0.01
    index.tree.write_codes()
    group = first.live()[:1]
    leaves = last.filing.in_groups(group)[0]
    cells = index.tree.cells.filing.in_groups(leaves)[0]
    before = first.mean.clone()
    index.update(cells, -3 * index.tree.cells.rows.keys[cells])
    assert_sound(index)
    leaf = index.tree.cells.filing.parent[cells].unique()
    live = first.live()
    cosine = cosines(last.mean[leaf], first.mean[live])
    chosen = cosine[live == last.filing.parent[leaf].unsqueeze(1)]
    assert float((cosine.amax(dim=1) - chosen).mean()) < 0.05
    moved = (first.mean[live] != before[live]).any(dim=1)
    assert bool(moved.any()) and not bool(moved.all())
    assert torch.equal(moved, (first.taught[live] == 0).all(dim=1))


def test_a_leaf_whose_mean_turns_is_filed_in_another_group_which_knows_its_cells() -> None:
    keys, _ = clustered(5, 1_000, 1)
    index = built(keys, "5x60")
    first, last = index.tree.tiers
    leaf = last.filing.in_groups(first.live()[:1])[0][:1]
    other = last.filing.in_groups(first.live()[1:2])[0][:1]
    cells = index.tree.cells.filing.in_groups(leaf)[0]
    index.tree.cells.rows.keys[cells] = last.mean[other]
    follow(index.tree, leaf)
    assert_sound(index)
    torch.testing.assert_close(last.mean[leaf], last.mean[other])
    assert torch.equal(last.filing.parent[leaf], nearest([first], last.mean[leaf]))
    assert torch.equal(last.filing.parent[leaf], last.filing.parent[other])


def assert_codes_are_fresh(filing: Filing, vectors: Tensor, anchor: Tensor) -> None:
    """Writing the codes of all members again would change nothing."""
    live = filing.live()
    again = copy.deepcopy(filing)
    again.encode(live, vectors, live, anchor)
    place = filing.place[live]
    for name in ("along", "step"):
        assert torch.equal(getattr(again.lists.level, name)[place], getattr(filing.lists.level, name)[place])
    assert torch.equal(again.lists.level.codes, filing.lists.level.codes)


@pytest.mark.parametrize("codes", ["int1", "int8"])
def test_codes_of_a_group_and_of_its_members_are_written_again_where_its_mean_moves(codes: str) -> None:
    keys, _ = clustered(6, 1_000, 1)
    index = HierarchicalIndex("80", codes=codes)
    index.build(keys)
    generator = torch.Generator().manual_seed(0)
    for number in range(4):
        index.add(
            torch.arange(100) + 1_000 + 100 * number, keys[:100] + torch.randn(100, 32, generator=generator)
        )
        index.remove(torch.arange(100) + 100 * number)
        cells = torch.arange(500, 600)
        index.update(cells, index.tree.cells.rows.keys[cells] + torch.randn(100, 32, generator=generator))
        (tier,) = index.tree.tiers
        assert_codes_are_fresh(tier.filing, tier.mean, index.tree.anchor(0))
        assert_codes_are_fresh(index.tree.cells.filing, index.tree.cells.rows.keys, tier.coded)


def test_cells_below_groups_that_go_elsewhere_get_codes_that_begin_at_the_groups_own() -> None:
    keys, _ = clustered(7, 1_000, 1)
    index = built(keys, "6x60")
    first, last = index.tree.tiers
    group = first.live()[:1]
    leaves = last.filing.in_groups(group)[0]
    index.tree.bounds = (1_000, index.tree.bounds[1])  # so that the group is a small one
    kept, emptied = upkeep._drop_small(index.tree, 0, group)
    assert torch.equal(kept, last.filing.parent[leaves].unique())
    assert emptied.tolist() == [0]
    assert_codes_are_fresh(index.tree.cells.filing, keys, last.coded)


def test_new_groups_take_over_what_was_taught_to_the_group_that_is_split() -> None:
    keys, _ = clustered(8, 1_000, 1)
    index = built(keys, "20")
    (tier,) = index.tree.tiers
    tier.taught[tier.live()] = 1.0 + torch.arange(len(tier)).float().unsqueeze(1)
    index.tree.write_codes()
    index.tree.bounds = (20,)
    large = tier.live()[index.tree.cells.filing.size(tier.live()) > 20][:1]
    parts = upkeep._split(index.tree, 0, large)
    assert len(parts) > 1
    assert bool((tier.taught[parts] == tier.taught[large]).all())
    assert_codes_are_fresh(tier.filing, tier.mean + tier.taught, index.tree.anchor(0))


def alike(name: str, cells: int) -> Tensor:
    """Keys that direction cannot part, or hardly."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(1, 8, generator=generator)
    if name == "last bit":
        return one * (1 + 2.0**-23 * torch.randint(2, (cells, 8), generator=generator))
    if name == "one direction":
        return one * torch.rand(cells, 1, generator=generator)
    if name == "long common part":
        keys = 1e6 * one.expand(cells, 8).clone()
        keys[:, 0] += torch.arange(cells) % 3
        return keys
    return one.expand(cells, 8) * {"equal": 1.0, "zero": 0.0, "longest": 1e18, "shortest": 1e-42}[name]


@pytest.mark.parametrize(
    "name", ["equal", "zero", "last bit", "one direction", "long common part", "longest", "shortest"]
)
@pytest.mark.parametrize("step", [1, 1_100])
def test_members_that_direction_cannot_part_are_dealt_out(name: str, step: int) -> None:
    keys = alike(name, 200 if step == 1 else 1_200)
    index = HierarchicalIndex("2x6")
    index.build(keys[:100].clone())
    for cells in torch.split(torch.arange(100, len(keys)), step):
        index.add(cells, keys[cells])
    assert_sound(index)
    assert len(index.tree.tiers[-1]) > len(keys) / index.tree.bounds[-1]
    index.update(torch.arange(100), keys[-100:])
    index.remove(torch.arange(50))
    assert_sound(index)
    result = index.search(keys[:3], 10)
    assert bool((result.cell >= 50).all()) and bool(result.score.isfinite().all())


def test_cells_go_to_the_leaf_that_their_new_keys_are_nearest_to() -> None:
    keys, _ = clustered(9, 1_000, 1)
    index = built(keys.clone(), "60")
    filing, (leaves,) = index.tree.cells.filing, index.tree.tiers
    cells = torch.arange(0, 1_000, 50)
    wanted = nearest(index.tree.tiers, -keys[cells])
    assert bool((wanted != filing.parent[cells]).all())
    index.update(cells, -keys[cells])
    assert_sound(index)
    live = leaves.live()
    cosine = cosines(-keys[cells], leaves.mean[live])
    best = live[cosine.argmax(dim=1)]
    assert float((filing.parent[cells] == best).double().mean()) > 0.9


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_means_follow_by_their_own_measure_however_long_keys_are(size: float) -> None:
    keys, _ = clustered(0, 1_000, 1)
    index = built(size * keys)
    generator = torch.Generator().manual_seed(0)
    fresh = size * (keys[:300] + 0.3 * torch.randn(300, 32, generator=generator))
    before = index.tree.tiers[-1].mean.clone()
    index.add(torch.arange(1_000, 1_300), fresh)
    assert_sound(index)
    for tier in index.tree.tiers:
        live = tier.live()
        distance = (tier.mean[live] - tier.below.means(live)[0]).norm(dim=1)
        assert bool((distance <= 1.001 * DRIFT * tier.length[live]).all())
    live = index.tree.tiers[-1].live()
    live = live[live < len(before)]
    assert bool((index.tree.tiers[-1].mean[live] == before[live]).all(dim=1).any())  # not all of them


@pytest.mark.parametrize(("factor", "follows"), [(1.01, False), (1.05, True), (0.99, False), (0.95, True)])
def test_a_mean_follows_beyond_three_hundredths_of_its_length(factor: float, follows: bool) -> None:
    keys, _ = clustered(0, 400, 1)
    index = built(keys.clone(), "20")
    (leaves,), filing = index.tree.tiers, index.tree.cells.filing
    leaf = filing.parent.mode().values.view(1)
    cells, before = filing.in_groups(leaf)[0], leaves.mean[leaf].clone()
    index.update(cells, factor * keys[cells])
    assert bool((filing.parent[cells] == leaf).all())
    torch.testing.assert_close(leaves.mean[leaf], factor * before if follows else before)


@pytest.mark.parametrize(("intended", "fewest"), [(2, 1), (4, 1), (6, 4), (20, 11)])
def test_groups_are_dropped_at_half_the_intended_members_or_when_empty(intended: int, fewest: int) -> None:
    keys, _ = clustered(3, 600, 1)
    index = built(keys, "30")
    (leaves,), filing = index.tree.tiers, index.tree.cells.filing
    leaf = leaves.live()[filing.size(leaves.live()).argmax()].view(1)
    cells = filing.in_groups(leaf)[0]
    index.tree.bounds = (upkeep.GROWN * intended,)
    for left, dropped in ((fewest, []), (fewest - 1, [0])):
        index.tree.cells.leave(cells[left:])
        assert upkeep._drop_small(index.tree, 0, leaf)[1].tolist() == dropped
        cells = cells[:left]
    assert int(leaf) in leaves.free
    assert not bool((filing.parent[cells] == leaf).any())


def test_a_group_of_many_equal_cells_is_divided_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "COSINES", 1 << 12)
    largest = []

    def divide_at_once(points: Tensor, part: Tensor, pieces: Tensor, **settings: object) -> Tensor:
        largest.append(int((torch.bincount(part) * pieces).max()))
        return divide(points, part, pieces, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(upkeep, "divide", divide_at_once)
    index = HierarchicalIndex("2")
    index.build(torch.zeros(10, 4))
    index.add(torch.arange(10, 2_000), torch.zeros(1_990, 4))
    assert_sound(index)
    assert len(largest) > 3 and max(largest) <= 1 << 12


@pytest.mark.parametrize("bound", [2, 3, 4, 5])
def test_groups_of_any_size_are_split_down_to_the_smallest_bounds(bound: int) -> None:
    keys, _ = clustered(9, 90, 1)
    index = built(keys[:60], "4")
    index.tree.bounds = (bound,)  # as a state may say
    index.add(torch.arange(60, 90), keys[60:])
    index.update(torch.arange(0, 90, 2), keys[1::2])
    assert_sound(index)
