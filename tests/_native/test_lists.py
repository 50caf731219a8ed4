"""Compiled kernels change lists as PyTorch does, and compute the means that float64 gives."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import hmn._native as native
from hmn._native.codes import codes_of
from hmn._native.fallback import lists as pytorch
from hmn._native.fallback import ordered
from hmn._native.level import LANES, Level
from hmn.errors import ShapeError
from hmn.index.storage import short_codes
from hmn.index.storage.coded_lists import Lists
from hmn.index.storage.short_codes import ShortCodes

pytestmark = pytest.mark.skipif(native.kernels() == "twin", reason="the kernels were not built")
quick = settings(max_examples=60, deadline=None)
CHILDREN, LISTS, D = 90, 6, 5


def some_lists(
    seed: int, short: bool = False, times: int = 1
) -> tuple[Lists, Tensor, Tensor, torch.Generator]:
    """Lists of some children; the list of each child and its slot, -1 for none."""
    generator = torch.Generator().manual_seed(seed)
    codes = ShortCodes.fit(torch.randn(99, D, generator=generator), 8, generator) if short else None
    lists = Lists(D, 4, torch.device("cpu"), codes)
    children = times * CHILDREN
    child = torch.randperm(children, generator=generator)[: times * (40 + seed % 30)]
    of = torch.randint(LISTS - 1, (len(child),), generator=generator)
    slot_of, list_of = torch.full((children,), -1), torch.full((children,), -1)
    vector, direction = torch.randn(children, D, generator=generator), torch.zeros(LISTS, 1)
    if short:
        direction = torch.randn(LISTS, D, generator=generator)
    slot_of[child], list_of[child] = lists.build(of, child, vector, direction), of
    return lists, list_of, slot_of, generator


def assert_same(a: Level, b: Level) -> None:
    for name in ("codes", "along", "step", "child", "first_panel", "length"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    if a.screen is not None:
        slot, _ = a.entries_of(torch.arange(LISTS))
        for of_a, of_b in zip(shown(a, slot), shown(b, slot), strict=True):
            assert torch.equal(of_a, of_b)


def shown(level: Level, slot: Tensor) -> list[Tensor]:
    """All that stands at slots of a level with short codes."""
    assert level.size is not None
    return [*level.screen_at(slot), *level.fine_at(slot, D), level.size[slot]]


@pytest.mark.parametrize("short", [False, True])
@quick
@given(seed=st.integers(0, 999), count=st.integers(1, 40))
def test_taking_out_leaves_the_same_lists(short: bool, seed: int, count: int) -> None:
    lists, list_of, slot_of, generator = some_lists(seed, short)
    there = (slot_of >= 0).nonzero().squeeze(1)
    gone = there[torch.randperm(len(there), generator=generator)[:count]]
    levels, slots = [lists.level, copy.deepcopy(lists.level)], [slot_of.clone(), slot_of.clone()]
    native.take_out(levels[0], list_of[gone], slot_of[gone], slots[0])
    pytorch.take_out(levels[1], list_of[gone], slot_of[gone], slots[1])
    assert_same(*levels)
    assert torch.equal(*slots)
    assert (slots[0][gone] == -1).all()


@pytest.mark.parametrize("short", [False, True])
@quick
@given(seed=st.integers(0, 999), count=st.integers(1, 60))
def test_entering_makes_the_same_lists(short: bool, seed: int, count: int) -> None:
    lists, _, slot_of, generator = some_lists(seed, short)
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


def shuffled(seed: int) -> tuple[Lists, Tensor, torch.Generator]:
    """Lists with short codes whose entries lie in no order, and the slot of each child."""
    lists, list_of, slot_of, generator = some_lists(seed, short=True, times=5)
    assert lists.level.size is not None
    for number in range(LISTS - 1):
        child = (list_of == number).nonzero().squeeze(1)
        order = child[torch.randperm(len(child), generator=generator)]
        pytorch.copy_entries(lists.level, slot_of[child], slot_of[order])
        slot_of[child] = slot_of[order]
    return lists, slot_of, generator


@quick
@given(seed=st.integers(0, 999))
@pytest.mark.parametrize("module", [native, ordered])
def test_bounds_are_those_of_float64(module: Any, seed: int) -> None:
    lists, _, generator = shuffled(seed)
    level = lists.level
    assert level.size is not None and level.bound is not None
    level.bound.fill_(torch.nan)
    asked = torch.randperm(LISTS, generator=generator)[:4]
    module.write_bounds(level, asked, D)
    written = torch.zeros(len(level.bound), dtype=torch.bool)
    for number in asked.tolist():
        slots = level.entries_of(torch.tensor([number]))[0]
        after = [-math.inf, 0.0]
        for panel in reversed(torch.split(slots, LANES) if len(slots) else ()):
            size, along = level.size[panel].double(), level.along[panel].double()
            longest = float(size[:, 0].max())
            after[0] = max(after[0], longest * float(along.sum() / size[:, 0].sum()))
            rest = size[:, 1].square().sum() / size[:, 0].square().sum() / D
            after[1] = max(after[1], longest * math.sqrt(float(rest)))
            got = level.bound[panel[0] // LANES].double()
            torch.testing.assert_close(got, torch.tensor(after, dtype=torch.float64), rtol=1e-5, atol=1e-6)
            written[panel[0] // LANES] = True
    assert bool(level.bound[~written].isnan().all()), "wrote bounds of other lists"


@quick
@given(seed=st.integers(0, 999))
@pytest.mark.parametrize("module", [native, ordered])
def test_disorder_compares_with_the_sorted_list(module: Any, seed: int) -> None:
    lists, _, generator = shuffled(seed)
    assert lists.level.size is not None
    asked = torch.randperm(LISTS, generator=generator)[:4]
    got = module.disorder(lists.level, asked).tolist()
    for number, of_list in zip(asked.tolist(), got, strict=True):
        length = lists.level.size[lists.level.entries_of(torch.tensor([number]))[0], 0].tolist()
        ideal = sorted(length, reverse=True)
        worst = [max(length[at:]) / ideal[at] for at in range(0, len(length), LANES)]
        assert of_list == pytest.approx(max(worst, default=1.0), rel=1e-5)


@quick
@given(seed=st.integers(0, 999))
@pytest.mark.parametrize("module", [native, ordered])
@pytest.mark.parametrize("loose", [1.0, 1.1, 1.5])
def test_settling_moves_entries_with_all_that_is_theirs(module: Any, loose: float, seed: int) -> None:
    lists, slot_of, generator = shuffled(seed)
    level, before = lists.level, slot_of.clone()
    asked = torch.randperm(LISTS, generator=generator)[:4]
    others = torch.tensor([number for number in range(LISTS) if number not in asked])
    child, still = level.children_of(asked)[0], level.children_of(others)[0]
    had = [*shown(level, before[child]), codes_of(level, before[child], D), level.along[before[child]]]
    module.settle(level, asked, slot_of, loose)
    has = [*shown(level, slot_of[child]), codes_of(level, slot_of[child], D), level.along[slot_of[child]]]
    assert all(torch.equal(a, b) for a, b in zip(had, has, strict=True))
    assert torch.equal(level.child[slot_of[child]].long(), child)
    assert torch.equal(slot_of[still], before[still])
    for number in asked.tolist():
        slot = level.entries_of(torch.tensor([number]))[0]
        assert sorted(level.child[slot].tolist()) == sorted(child[torch.isin(before[child], slot)].tolist())
    assert bool((module.disorder(level, asked) <= loose).all())


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("features", "parts"), [(2, 8), (5, 8), (50, 16), (70, 24), (130, 32)])
def test_short_codes_are_written_as_pytorch_writes_them(
    storage: torch.dtype, directed: bool, turned: bool, features: int, parts: int
) -> None:
    generator = torch.Generator().manual_seed(features)
    points = F.normalize(torch.randn(500, features, generator=generator), dim=1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(short_codes, "CLEARLY", 1e9 if turned else 0.0)
        codes = ShortCodes.fit(points, parts, generator)
    assert (codes.rotation is not None) == turned
    lists = Lists(features, 4, torch.device("cpu"), codes)
    vectors = torch.randn(600, features, generator=generator) * torch.rand(600, 1, generator=generator)
    vectors[7] = 0
    vectors, direction = vectors.to(storage), torch.zeros(3, 1)
    if directed:
        direction = torch.randn(3, features, generator=generator)
    of, row = torch.arange(600) % 3, torch.randperm(600, generator=generator)
    slot = lists.build(of, row, vectors, direction)
    twin = copy.deepcopy(lists.level)
    assert twin.screen is not None and twin.fine is not None and twin.size is not None
    for part in (twin.screen, twin.fine, twin.size):
        part.fill_(77)
    towards = direction[of] if directed else torch.zeros(1, 1)
    ordered.write_screen(twin, slot, vectors[row].float(), towards, codes)
    assert lists.level.size is not None
    torch.testing.assert_close(lists.level.size[slot], twin.size[slot], rtol=1e-5, atol=1e-6)
    for got, wanted in zip(lists.level.fine_at(slot, features), twin.fine_at(slot, features), strict=True):
        assert torch.equal(got, wanted)
    (along, step, code), (same, near, wanted) = lists.level.screen_at(slot), twin.screen_at(slot)
    assert torch.equal(along, same)
    differs = (code != wanted).any(dim=1)  # where two centroids are equally near, but for rounding
    assert float(differs.float().mean()) < 0.01
    torch.testing.assert_close(step[~differs], near[~differs], rtol=0.008, atol=1e-6)  # bfloat16


def test_lists_without_short_codes_have_no_order() -> None:
    lists, _, slot_of, _ = some_lists(3)
    for call in (
        lambda: native.write_bounds(lists.level, torch.tensor([0]), D),
        lambda: native.disorder(lists.level, torch.tensor([0])),
        lambda: native.settle(lists.level, torch.tensor([0]), slot_of, 1.0),
    ):
        with pytest.raises(ShapeError, match="no short codes"):
            call()


@pytest.mark.parametrize("number", [-1, LISTS])
def test_lists_that_do_not_exist_are_refused(number: int) -> None:
    lists, _, slot_of, _ = some_lists(3, short=True)
    asked = torch.tensor([0, number])
    for call in (
        lambda: native.write_bounds(lists.level, asked, D),
        lambda: native.disorder(lists.level, asked),
        lambda: native.settle(lists.level, asked, slot_of, 1.0),
    ):
        with pytest.raises(ShapeError, match="a list is"):
            call()
