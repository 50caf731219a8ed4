from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from hmn._native import backend
from hmn._native.codes import codes_of
from hmn._native.level import LANES
from hmn.errors import ShapeError
from hmn.index.storage import short_codes
from hmn.index.storage.coded_lists import Lists
from hmn.index.storage.saved import Saved
from hmn.index.storage.short_codes import ShortCodes

CPU = torch.device("cpu")
LISTS = 5


def filled(
    entries: int = 300, features: int = 11, parts: int = 8, seed: int = 0, turned: bool = False
) -> tuple[Lists, Tensor, Tensor, Tensor, Tensor]:
    """Lists with short codes; the list, the place and the vector of each entry; the lists' directions."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(entries, features, generator=generator)
    vectors *= torch.rand(entries, 1, generator=generator) * 3
    direction = torch.randn(LISTS, features, generator=generator)
    of = torch.randint(LISTS - 1, (entries,), generator=generator)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(short_codes, "CLEARLY", 1e9 if turned else 0.0)
        short = ShortCodes.fit(F.normalize(vectors, dim=1), parts, generator)
    lists = Lists(features, 4, CPU, short)
    where = torch.full((entries + 200,), -1)
    where[:entries] = lists.build(of, torch.arange(entries), vectors, direction)
    return lists, of, where, vectors, direction


def assert_right(lists: Lists, of: Tensor, where: Tensor, vectors: Tensor, direction: Tensor) -> None:
    """All that is written of entries, whose lists are ``of`` (-1: none), is what their vectors say."""
    child = (of >= 0).nonzero().squeeze(1)
    place, level, short = where[child], lists.level, lists.short
    assert level.size is not None and short is not None
    x, towards = vectors[child], direction[of[child]]
    along, step, code = level.fine_at(place, lists.features)
    assert torch.equal(code.float(), codes_of(level, place, lists.features))
    assert torch.equal(along, level.along[place].bfloat16().float())
    assert torch.equal(step, level.step[place].bfloat16().float())
    also, factor, code = level.screen_at(place)
    assert torch.equal(also, along)
    rest = x.double() - level.along[place].double().unsqueeze(1) * towards.double()
    torch.testing.assert_close(level.size[place, 0].double(), x.double().norm(dim=1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(level.size[place, 1].double(), rest.norm(dim=1), rtol=1e-4, atol=1e-5)
    decoded = factor.double().unsqueeze(1) * short.decode(code).double()
    wanted = rest.square().sum(dim=1)
    explained = (decoded * rest).sum(dim=1)
    assert bool((explained - wanted).abs().le(0.01 * wanted + 1e-9).all())


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize(
    ("features", "parts"), [(1, 8), (7, 8), (11, 16), (50, 16), (57, 8), (64, 24), (120, 32)]
)
def test_rows_and_short_codes_stand_for_the_vectors(twin: bool, features: int, parts: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        if twin:
            patched.setattr(backend, "compiled", None)
        lists, of, where, vectors, direction = filled(300, features, parts)
        assert_right(lists, of, where, vectors, direction)
    assert lists.level.screen is not None and lists.level.fine is not None
    assert lists.level.screen.shape[1:] == (1 + parts // 8, 64)
    width = lists.level.fine.shape[1]
    assert width % 32 == 0 and 4 + features / 2 <= width < 36 + (features + 1) / 2


def test_lists_are_built_by_falling_length() -> None:
    lists, _, _, vectors, _ = filled()
    for number in range(LISTS):
        child, _ = lists.level.children_of(torch.tensor([number]))
        assert bool((vectors[child].norm(dim=1).diff() <= 1e-6).all())
    assert lists.disorder(torch.arange(LISTS)).tolist() == [1.0] * LISTS
    assert lists.level.bound is not None
    slot, _ = lists.level.entries_of(torch.arange(LISTS))
    assert bool((lists.level.bound[slot // LANES, 1] > 0).all())


@pytest.mark.parametrize("twin", [False, True])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), changes=st.lists(st.integers(0, 2), max_size=6))
def test_entries_that_come_and_go_take_all_of_theirs_along(twin: bool, seed: int, changes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        if twin:
            patched.setattr(backend, "compiled", None)
        lists, of, where, vectors, direction = filled(100, 6, 8, seed)
        generator = torch.Generator().manual_seed(seed)
        vectors = torch.cat([vectors, torch.randn(200, 6, generator=generator)])
        of = torch.cat([of, torch.full((200,), -1)])
        for change in changes:
            chosen = torch.rand(300, generator=generator) < 0.1 + 0.1 * change
            if change == 0:
                child = (chosen & (of < 0)).nonzero().squeeze(1)
                into = torch.randint(LISTS, child.shape, generator=generator)
                lists.add(into, child, vectors[child], direction, where)
                of[child] = into
            else:
                child = (chosen & (of >= 0)).nonzero().squeeze(1)
                if change == 1:
                    lists.remove(of[child], child, where)
                    of[child] = -1
                else:  # other vectors, in the same lists
                    vectors[child] = torch.randn(len(child), 6, generator=generator)
                    lists.encode(where[child], vectors, child, of[child], direction)
            assert_right(lists, of, where, vectors, direction)
        asked = torch.tensor([3, 0, 4])
        lists.settle(asked, where, 1.0)
        assert_right(lists, of, where, vectors, direction)
        assert lists.disorder(asked).tolist() == [1.0] * 3


def test_bounds_are_written_for_the_lists_that_are_named() -> None:
    lists, of, _, vectors, direction = filled()
    level = lists.level
    assert level.bound is not None and level.size is not None
    before = level.bound.clone()
    last = torch.stack([level.entries_of(torch.tensor([number]))[0][-1] for number in (0, 1)])
    child = level.child[last].long()  # the shortest of their lists become the longest
    assert child.numel() == 2 and of[child].tolist() == [0, 1]
    lists.encode(last, 9999 * vectors, child, of[child], direction)
    assert torch.equal(level.bound, before)
    lists.write_bounds(torch.tensor([0]))
    slot, length = level.entries_of(torch.tensor([0, 1]))
    panel, other = slot[: int(length[0])] // LANES, slot[int(length[0]) :] // LANES
    assert torch.equal(level.bound[other], before[other])
    assert bool((level.bound[panel, 1] > before[panel, 1]).all())
    own = level.size[slot[: int(length[0])][panel == panel[-1]]].double()
    share = own[:, 1].square().sum() / own[:, 0].square().sum() / 11  # longer vectors count more
    expected = float(own[:, 0].max()) * float(share.sqrt())
    assert float(level.bound[panel[-1], 1]) == pytest.approx(expected, rel=1e-5)
    assert float(lists.disorder(torch.tensor([0]))) > 5


def loaded(state: dict[str, Tensor]) -> Lists:
    lists = Lists.from_state(Saved(state, CPU, "a test"), "x.", 11, 4, short=True)
    lists.check_children("x.", 300)
    return lists


@pytest.mark.parametrize("turned", [False, True])
def test_lists_survive_their_state(turned: bool) -> None:
    lists, of, where, vectors, direction = filled(turned=turned)
    again = loaded(lists.state_dict("x."))
    assert_right(again, of, where[:300], vectors, direction)
    slot, _ = lists.level.entries_of(torch.arange(LISTS))
    assert again.level.bound is not None and lists.level.bound is not None
    assert torch.equal(again.level.bound[slot // LANES], lists.level.bound[slot // LANES])
    assert torch.equal(again.disorder(torch.arange(LISTS)), lists.disorder(torch.arange(LISTS)))


def test_a_state_without_short_codes_is_as_it_was() -> None:
    lists = Lists(4, 4, CPU)
    lists.build(torch.zeros(9).long(), torch.arange(9), torch.randn(9, 4), torch.zeros(1, 1))
    names = {"codes", "along", "step", "child", "first_panel", "length", "room"}
    assert set(lists.state_dict("x.")) == {f"x.{name}" for name in names}


@pytest.mark.parametrize("name", ["screen", "size", "centroid", "order", "rotation"])
def test_a_damaged_state_is_refused(name: str) -> None:
    state = filled(turned=name == "rotation")[0].state_dict("x.")
    assert loaded(state)
    with pytest.raises(ShapeError, match="order" if name == "rotation" else name):
        loaded({k: v for k, v in state.items() if k != f"x.{name}"})
    with pytest.raises(ShapeError):
        loaded({**state, f"x.{name}": state[f"x.{name}"][:-1]})
    with pytest.raises(ShapeError, match="expected"):
        loaded({**state, f"x.{name}": state[f"x.{name}"].double()})


def test_numbers_that_are_none_are_refused() -> None:
    state = filled()[0].state_dict("x.")
    for value in (torch.nan, torch.inf, -1.0, 2.0**101):
        size = state["x.size"].clone()
        size[3, 1] = value
        with pytest.raises(ShapeError, match="size"):
            loaded({**state, "x.size": size})
    for byte in (127, 255):  # an exponent of ones: infinity, or no number
        screen = state["x.screen"].clone()
        screen[0, 0, 2:4] = byte
        with pytest.raises(ShapeError, match="screen"):
            loaded({**state, "x.screen": screen})
    along = state["x.along"].clone()
    along[:LANES] = 2.0**100  # lengths of 0 in a whole panel make its share infinite in float32
    size = state["x.size"].clone()
    size[:LANES] = 0.0
    with pytest.MonkeyPatch.context() as patched, pytest.raises(ShapeError, match="size"):
        patched.setattr(backend, "compiled", None)
        loaded({**state, "x.along": along, "x.size": size})
    if backend.compiled is not None:  # the kernels average in double, so that nothing becomes infinite
        bound = loaded({**state, "x.along": along, "x.size": size}).level.bound
        assert bound is not None and bool(bound.isfinite().all())
