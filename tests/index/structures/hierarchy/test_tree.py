"""Tiers as data: room for groups, and states that do not fit."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.index.reference import clustered
from tests.index.structures.hierarchy.sound import assert_sound

from hmn.errors import ShapeError
from hmn.index.structures.hierarchy.index import HierarchicalIndex


def built() -> HierarchicalIndex:
    index = HierarchicalIndex("4x12x50")
    index.build(clustered(0, 600, 1, features=8)[0])
    return index


def test_the_lowest_free_numbers_are_taken_and_room_grows_by_a_quarter() -> None:
    tier = built().tree.tiers[1]
    room = len(tier.mean)
    mean = tier.mean.clone()
    tier.drop(torch.tensor([5, 2, 7]))
    assert tier.take(2).tolist() == [2, 5]
    assert tier.take(3).tolist() == [7, room, room + 1]
    grown = room + max(2, room // 4)
    assert tier.free == list(range(room + 2, grown))
    for tensor in (tier.mean, tier.weight, tier.coded, tier.inverse, tier.length, tier.filing.place):
        assert len(tensor) == grown
    assert torch.equal(tier.mean[:room], mean)
    assert tier.filing.parent[room:].tolist() == [-1] * (grown - room)
    assert len(tier.below.filing.lists.level.length) == grown


def test_a_copy_is_whole() -> None:
    index = built()
    other = copy.deepcopy(index)
    assert other.tree.tiers[0] is not index.tree.tiers[0]
    index.remove(torch.arange(500))
    assert_sound(index)
    assert_sound(other)
    assert len(other.tree.cells.rows) == 600


def names() -> list[str]:
    return [name for name in built().state_dict() if not name.startswith("rows.") and name != "measured"]


@pytest.mark.parametrize("name", names())
def test_a_state_with_a_part_missing_or_cut_is_refused(name: str) -> None:
    state = built().state_dict()
    index = HierarchicalIndex("4x12x50")
    with pytest.raises(ShapeError):
        index.load_state_dict({key: tensor for key, tensor in state.items() if key != name})
    if state[name].dim():
        with pytest.raises(ShapeError):
            index.load_state_dict({**state, name: state[name][:-1]})
    index.load_state_dict(state)
    assert_sound(index)


@pytest.mark.parametrize("name", ["place", "tier0.place", "tier1.place", "tier2.place"])
def test_places_that_lead_elsewhere_are_refused(name: str) -> None:
    state = {key: tensor.clone() for key, tensor in built().state_dict().items()}
    state[name][[0, 1]] = state[name][[1, 0]]
    with pytest.raises(ShapeError, match=f"{name} is not the places of the entries"):
        HierarchicalIndex("4x12x50").load_state_dict(state)
