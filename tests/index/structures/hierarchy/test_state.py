"""Groups as tensors: what is saved comes back, and states that do not fit are refused."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.index.reference import clustered
from tests.index.structures.hierarchy.sound import assert_sound
from tests.index.structures.hierarchy.test_build import blocks
from torch import Tensor

from hmn.errors import ShapeError
from hmn.index.structures.hierarchy.groups import Groups, Promise
from hmn.index.structures.hierarchy.index import HierarchicalIndex


def built(kind: str = "all") -> HierarchicalIndex:
    """An index after some changes, whose directions live on all features, some of them, or components."""
    keys = clustered(0, 600, 1, features=8)[0] if kind == "all" else blocks()[:600]
    if kind == "components":
        keys = keys @ torch.linalg.qr(torch.randn(100, 100, generator=torch.Generator().manual_seed(1))).Q
    index = HierarchicalIndex(40)
    index.build(keys)
    index.remove(torch.arange(0, 100, 3))
    index.update(torch.arange(200, 300), keys[:100])
    index.add(torch.arange(600, 620), keys[:20])
    index.groups.measured.promise = Promise(0.7, 3.0)
    return index


def saved(kind: str = "all") -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in built(kind).state_dict().items()}


def assert_same(one: Groups, other: Groups) -> None:
    for name in ("slot", "mean", "changed", "barred", "front", "bound", "measured"):
        got, wanted = getattr(one, name), getattr(other, name)
        assert torch.equal(got, wanted) if isinstance(got, Tensor) else got == wanted
    for name in ("direction", "unit"):
        assert torch.equal(getattr(one, name)[one.live()], getattr(other, name)[one.live()])
    assert sorted(one.free) == sorted(other.free)
    used = one.rows.used
    for name in ("group", "place", "inverse"):
        live = one.rows.live()
        assert torch.equal(getattr(one, name)[:used][live], getattr(other, name)[:used][live])


@pytest.mark.parametrize("kind", ["all", "features", "components"])
def test_a_state_brings_back_the_same_groups(kind: str) -> None:
    index, other = built(kind), HierarchicalIndex(40)
    other.load_state_dict(index.state_dict())
    basis = index.groups.basis
    assert (basis is None) == (kind == "all")
    assert basis is None or basis.dim() == (1 if kind == "features" else 2)
    assert_sound(other)
    assert_same(index.groups, other.groups)
    for each in (index, other):
        each.update(torch.arange(300, 350), each.groups.rows.keys[:50])
    assert_sound(other)
    assert_same(index.groups, other.groups)


def test_a_state_shares_nothing_with_what_is_made_of_it() -> None:
    index, other = built(), HierarchicalIndex(40)
    state = saved()
    before = {name: tensor.clone() for name, tensor in state.items()}
    other.load_state_dict(state)
    other.remove(torch.arange(300, 500))
    other.update(torch.arange(101, 102), torch.ones(1, 8))
    assert all(torch.equal(before[name], tensor) for name, tensor in state.items())
    copied = copy.deepcopy(index)
    index.remove(torch.arange(300, 500))
    assert_sound(copied)
    assert_sound(index)


def names() -> list[str]:
    return [name for name in saved() if not name.startswith("rows.")]


@pytest.mark.parametrize("name", names())
def test_a_state_with_a_part_missing_or_cut_is_refused(name: str) -> None:
    state, index = saved(), HierarchicalIndex(40)
    with pytest.raises(ShapeError):
        index.load_state_dict({key: tensor for key, tensor in state.items() if key != name})
    if state[name].dim():
        cut = state[name][:3] if name == "measured" else state[name][:-1]
        with pytest.raises(ShapeError):
            index.load_state_dict({**state, name: cut})
    index.load_state_dict(state)
    assert_sound(index)


def test_states_from_before_written_cells_were_counted_or_promises_measured_load() -> None:
    state, index = saved(), HierarchicalIndex(40)
    state["measured"][9] = 3
    index.load_state_dict(state)
    assert (index.groups.measured.written, index.groups.measured.turns) == (120, 3)
    assert index.groups.measured.promise == (0.7, 3.0)
    index.load_state_dict({**state, "measured": state["measured"][:10]})
    assert (index.groups.measured.written, index.groups.measured.turns) == (120, 3)
    assert index.groups.measured.promise == (1.0, 0.0)
    index.load_state_dict({**state, "measured": state["measured"][:8]})
    assert (index.groups.measured.written, index.groups.measured.turns) == (0, 0)
    assert index.groups.measured.promise == (1.0, 0.0)
    assert_sound(index)


def swapped(tensor: Tensor) -> Tensor:
    """The tensor with its first two different numbers swapped."""
    other = int((tensor != tensor[0]).nonzero()[0])
    tensor[[0, other]] = tensor[[other, 0]]
    return tensor


@pytest.mark.parametrize(
    ("name", "change", "error"),
    [
        ("place", swapped, "place is not the places of the entries"),
        ("group", swapped, "group is not what the .* entries of cells.child are"),
        ("slot", swapped, "slot is not the places of the entries"),
        ("slot", lambda slot: slot.fill_(-1), "slot is not what"),
        ("bound", lambda bound: bound.fill_(1), "bound is from 1 to 1"),
        ("changed", lambda changed: changed.sub_(10**6), "changed is from"),
        ("mean", lambda mean: mean.mul_(torch.inf), "mean is not of vectors"),
        ("measured", lambda measured: measured.neg_(), "measured is"),
        ("measured", lambda measured: measured.mul_(torch.nan), "measured is"),
        ("measured", lambda measured: measured[[0, 1, 2, 3, 4, 6, 5]], "measured is"),
        ("measured", lambda measured: measured[:5], "measured is"),
        ("measured", lambda measured: torch.cat([measured[:8], measured[8:] - 10**6]), "measured is"),
        ("measured", lambda measured: torch.cat([measured[:10], measured[10:] + 1]), "measured is"),
        ("measured", lambda measured: torch.cat([measured[:11], -measured[11:]]), "measured is"),
        ("routing.length", lambda length: length.zero_(), "routing.length is of 0 groups"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(name: str, change: object, error: str) -> None:
    state = saved()
    state[name] = change(state[name])  # type: ignore[operator]
    with pytest.raises(ShapeError, match=error):
        HierarchicalIndex(40).load_state_dict(state)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("features", lambda basis: basis.flip(0)),
        ("features", lambda basis: basis.add(100)),
        ("features", lambda basis: basis[:0]),
        ("features", lambda basis: basis[:-1]),
        ("basis", lambda basis: basis.mul(1.1)),
        ("basis", lambda basis: basis[:1].expand_as(basis).clone()),
        ("basis", lambda basis: basis[:-1]),
        ("basis", lambda basis: basis.mul(torch.nan)),
    ],
)
def test_a_basis_that_does_not_fit_is_refused(name: str, change: object) -> None:
    state = saved("features" if name == "features" else "components")
    state[name] = change(state[name])  # type: ignore[operator]
    with pytest.raises(ShapeError):
        HierarchicalIndex(40).load_state_dict(state)


def test_groups_without_a_direction_cannot_hold_cells() -> None:
    index = built()
    groups, state = index.groups, saved()
    group = groups.live()[:1]
    slot = groups.slot.clone()
    groups.routing.remove(torch.zeros_like(group), group, slot)
    state |= {name: tensor.clone() for name, tensor in groups.routing.state_dict("routing.").items()}
    with pytest.raises(ShapeError, match="group is of groups without a direction"):
        HierarchicalIndex(40).load_state_dict({**state, "slot": slot})


def test_rows_without_a_cell_cannot_be_filed() -> None:
    state = saved()
    cell, free = state["rows.cell"], state["rows.free"]
    freed, live = int(free[0]), int((cell >= 0).nonzero()[0])
    cell[[freed, live]] = cell[[live, freed]]
    free[0] = live
    del state["rows.checksum"]
    with pytest.raises(ShapeError, match="group is of 586 cells"):
        HierarchicalIndex(40).load_state_dict(state)


def test_of_a_state_of_tiers_rows_are_read_also_those_without_a_cell() -> None:
    state = {name: tensor for name, tensor in saved().items() if name.startswith("rows.")}
    cells = state["rows.cell"]
    assert bool((cells[:300] < 0).any())  # in the middle
    index = HierarchicalIndex(40)
    with pytest.warns(UserWarning, match="state is of a hierarchy of several tiers"):
        index.load_state_dict({**state, "tier0.mean": torch.zeros(4, 8)})
    assert_sound(index)
    again = HierarchicalIndex(40)
    again.build(state["rows.keys"][cells >= 0], cells[cells >= 0])
    for row, cell in enumerate(cells.tolist()):
        assert (cell < 0) == (int(index.groups.group[row]) < 0)
    query = state["rows.keys"][:50]
    assert torch.equal(index.search(query, 5).cell, again.search(query, 5).cell)


def test_other_keys_are_refused() -> None:
    state = saved()
    keys = state.pop("rows.keys")
    with pytest.raises(ShapeError):
        HierarchicalIndex(40).load_state_dict(state, keys[:-1])
    with pytest.raises(ShapeError):
        HierarchicalIndex(40).load_state_dict(state, torch.cat([keys, keys], dim=1))
    HierarchicalIndex(40).load_state_dict(state, keys)
