"""Entries go into and out of lists as the twins of the kernels have it, and means are those of float64."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hmn._native as native
from hmn._native.fallback import lists as filing
from hmn._native.level import LANES, Level
from hmn.index.storage.coded_lists import Lists

pytestmark = pytest.mark.skipif(native.kernels() == "twin", reason="the kernels were not built")
quick = settings(max_examples=60, deadline=None)
CHILDREN, LISTS, D = 90, 6, 5


def filed(seed: int) -> tuple[Lists, Tensor, Tensor, torch.Generator]:
    """Lists of some children, the list of each (-1 for none) and its place."""
    generator = torch.Generator().manual_seed(seed)
    lists = Lists(D, 4, torch.device("cpu"))
    child = torch.randperm(CHILDREN, generator=generator)[: 40 + seed % 30]
    of = torch.randint(LISTS - 1, (len(child),), generator=generator)
    where, list_of = torch.full((CHILDREN,), -1), torch.full((CHILDREN,), -1)
    vector, direction = torch.randn(CHILDREN, D, generator=generator), torch.zeros(LISTS, 1)
    where[child], list_of[child] = lists.build(of, child, vector, direction), of
    return lists, list_of, where, generator


def same(one: Level, other: Level) -> None:
    for name in ("codes", "along", "step", "child", "first_panel", "length"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@quick
@given(seed=st.integers(0, 999), count=st.integers(1, 40))
def test_what_is_taken_out_leaves_the_same_lists(seed: int, count: int) -> None:
    lists, list_of, where, generator = filed(seed)
    there = (where >= 0).nonzero().squeeze(1)
    gone = there[torch.randperm(len(there), generator=generator)[:count]]
    levels, places = [lists.level, copy.deepcopy(lists.level)], [where.clone(), where.clone()]
    native.take_out(levels[0], list_of[gone], where[gone], places[0])
    filing.take_out(levels[1], list_of[gone], where[gone], places[1])
    same(*levels)
    assert torch.equal(*places)
    assert (places[0][gone] == -1).all()


@quick
@given(seed=st.integers(0, 999), count=st.integers(1, 60))
def test_what_is_entered_makes_the_same_lists(seed: int, count: int) -> None:
    lists, _, where, generator = filed(seed)
    child = (where < 0).nonzero().squeeze(1)[:count]
    into = torch.randint(LISTS, (len(child),), generator=generator) // 2  # some grow beyond their room
    lists._grow(lists._used + count % 3)
    levels, places = [lists.level, copy.deepcopy(lists.level)], [where.clone(), where.clone()]
    rooms = [lists._room.clone(), lists._room.clone()]
    used = native.enter(levels[0], rooms[0], lists._used, into, child, places[0])
    assert used == filing.enter(levels[1], rooms[1], lists._used, into, child, places[1])
    same(*levels)
    assert torch.equal(*places) and torch.equal(*rooms)
    if used > len(lists.level.codes):
        assert torch.equal(places[0], where), "nothing is changed where there is no room"
    else:
        assert torch.equal(levels[0].child[places[0][child]].long(), child)
        assert int(rooms[0].sum()) <= used and bool((levels[0].length <= rooms[0] * LANES).all())


@pytest.mark.parametrize("storage", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weighed", [False, True])
def test_means_count_longer_vectors_more(storage: torch.dtype, weighed: bool) -> None:
    lists, list_of, _, generator = filed(7)
    vector = torch.randn(CHILDREN, D, generator=generator).to(storage)
    vector[list_of == 2] = 0
    weight = torch.rand(CHILDREN, generator=generator) + 0.5 if weighed else None
    asked = torch.tensor([4, 0, 2, 5])
    mean, total = native.means(lists.level, asked, vector, weight)
    by = torch.ones(CHILDREN, dtype=torch.float64) if weight is None else weight.double()
    for row, one in enumerate(asked.tolist()):
        held = list_of == one
        points, share = vector[held].double(), by[held]
        length = points.norm(dim=1)
        expected = (points * share.unsqueeze(1)).sum(dim=0)
        first, second = (share * length).sum(), (share * length**2).sum()
        expected = expected * second / (first**2 if first > 0 else 1.0)
        torch.testing.assert_close(mean[row].double(), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(total[row].double(), share.sum(), rtol=1e-5, atol=1e-6)
    twin = filing.means(lists.level, asked, vector, weight)
    torch.testing.assert_close((mean, total), twin, rtol=1e-4, atol=1e-5)
