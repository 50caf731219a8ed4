"""Compiled kernels change lists as PyTorch does, and compute the means that float64 gives."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hmn._native as native
from hmn._native.fallback import lists as pytorch
from hmn._native.level import LANES, Level
from hmn.index.storage.coded_lists import Lists

pytestmark = pytest.mark.skipif(native.kernels() == "twin", reason="the kernels were not built")
quick = settings(max_examples=60, deadline=None)
CHILDREN, LISTS, D = 90, 6, 5


def some_lists(seed: int) -> tuple[Lists, Tensor, Tensor, torch.Generator]:
    """Lists of some children; the list of each child and its slot, -1 for none."""
    generator = torch.Generator().manual_seed(seed)
    lists = Lists(D, 4, torch.device("cpu"))
    child = torch.randperm(CHILDREN, generator=generator)[: 40 + seed % 30]
    of = torch.randint(LISTS - 1, (len(child),), generator=generator)
    slot_of, list_of = torch.full((CHILDREN,), -1), torch.full((CHILDREN,), -1)
    vector, direction = torch.randn(CHILDREN, D, generator=generator), torch.zeros(LISTS, 1)
    slot_of[child], list_of[child] = lists.build(of, child, vector, direction), of
    return lists, list_of, slot_of, generator


def assert_same(a: Level, b: Level) -> None:
    for name in ("codes", "along", "step", "child", "first_panel", "length"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


@quick
@given(seed=st.integers(0, 999), count=st.integers(1, 40))
def test_taking_out_leaves_the_same_lists(seed: int, count: int) -> None:
    lists, list_of, slot_of, generator = some_lists(seed)
    there = (slot_of >= 0).nonzero().squeeze(1)
    gone = there[torch.randperm(len(there), generator=generator)[:count]]
    levels, slots = [lists.level, copy.deepcopy(lists.level)], [slot_of.clone(), slot_of.clone()]
    native.take_out(levels[0], list_of[gone], slot_of[gone], slots[0])
    pytorch.take_out(levels[1], list_of[gone], slot_of[gone], slots[1])
    assert_same(*levels)
    assert torch.equal(*slots)
    assert (slots[0][gone] == -1).all()


@quick
@given(seed=st.integers(0, 999), count=st.integers(1, 60))
def test_entering_makes_the_same_lists(seed: int, count: int) -> None:
    lists, _, slot_of, generator = some_lists(seed)
    child = (slot_of < 0).nonzero().squeeze(1)[:count]
    into = torch.randint(LISTS, (len(child),), generator=generator) // 2  # some grow beyond their room
    lists._grow(lists._used + count % 3)
    levels, slots = [lists.level, copy.deepcopy(lists.level)], [slot_of.clone(), slot_of.clone()]
    rooms = [lists._room.clone(), lists._room.clone()]
    used = native.enter(levels[0], rooms[0], lists._used, into, child, slots[0])
    assert used == pytorch.enter(levels[1], rooms[1], lists._used, into, child, slots[1])
    assert_same(*levels)
    assert torch.equal(*slots) and torch.equal(*rooms)
    if used > len(lists.level.codes):
        assert torch.equal(slots[0], slot_of), "changed without room"
    else:
        assert torch.equal(levels[0].child[slots[0][child]].long(), child)
        assert int(rooms[0].sum()) <= used and bool((levels[0].length <= rooms[0] * LANES).all())


@pytest.mark.parametrize("storage", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weighed", [False, True])
def test_means_count_longer_vectors_more(storage: torch.dtype, weighed: bool) -> None:
    lists, list_of, _, generator = some_lists(7)
    vector = torch.randn(CHILDREN, D, generator=generator).to(storage)
    vector[list_of == 2] = 0
    weight = torch.rand(CHILDREN, generator=generator) + 0.5 if weighed else None
    asked = torch.tensor([4, 0, 2, 5])
    mean, total = native.means(lists.level, asked, vector, weight)
    by = torch.ones(CHILDREN, dtype=torch.float64) if weight is None else weight.double()
    for row, number in enumerate(asked.tolist()):
        held = list_of == number
        points, share = vector[held].double(), by[held]
        length = points.norm(dim=1)
        expected = (points * share.unsqueeze(1)).sum(dim=0)
        first, second = (share * length).sum(), (share * length**2).sum()
        expected = expected * second / (first**2 if first > 0 else 1.0)
        torch.testing.assert_close(mean[row].double(), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(total[row].double(), share.sum(), rtol=1e-5, atol=1e-6)
    wanted = pytorch.means(lists.level, asked, vector, weight)
    torch.testing.assert_close((mean, total), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("enter", [native.enter, pytorch.enter])
def test_a_full_list_gets_twice_its_room(enter: Callable[..., int]) -> None:
    """Or as much as it needs, if that is more; so that a list that grows is seldom moved."""
    for more, wanted in ((17, 8), (100, 11)):
        lists = Lists(D, 4, torch.device("cpu"))
        lists.build(torch.zeros(64).long(), torch.arange(64), torch.randn(64, D), torch.zeros(1, 1))
        lists._grow(40)
        room, slot_of = torch.tensor([4]), torch.full((200,), -1)
        used = enter(lists.level, room, 10, torch.zeros(more).long(), 64 + torch.arange(more), slot_of)
        assert room.tolist() == [wanted]
        assert used == 10 + wanted and lists.level.first_panel.tolist() == [10]
