from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hmn._native import backend
from hmn._native.codes import codes_of, encode
from hmn._native.level import LANES
from hmn.errors import ShapeError
from hmn.index.storage.coded_lists import Lists
from hmn.index.storage.saved import Saved

quick = settings(max_examples=60, deadline=None)


def decoded(lists: Lists, place: Tensor, direction: Tensor) -> Tensor:
    level = lists.level
    code = codes_of(level, place, lists.features) - level.zero
    return level.along[place].unsqueeze(1) * direction + level.step[place].unsqueeze(1) * code


@pytest.mark.parametrize("bits", [4, 8])
@quick
@given(n=st.integers(1, 20), d=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_code_is_within_half_a_step_of_each_coordinate_or_better_in_all(
    bits: int, n: int, d: int, seed: int
) -> None:
    vector = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()
    codes, step = encode(vector, bits)
    error = (vector - step.unsqueeze(1) * (codes.float() - (2**bits - 1) / 2)).double().square().sum(dim=1)
    widest = 2 * vector.abs().amax(dim=1).double() / (2**bits - 1)
    assert bool((error <= d * (widest / 2) ** 2 * 1.001).all())


def test_zero_and_equal_vectors_are_kept_exactly() -> None:
    vector = torch.tensor([[0.0, 0.0], [3.0, 3.0], [-2.0, 2.0]])
    for bits in (1, 4, 8):
        codes, step = encode(vector, bits)
        torch.testing.assert_close(step.unsqueeze(1) * (codes.float() - (2**bits - 1) / 2), vector)


@quick
@given(n=st.integers(1, 20), d=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_code_of_one_bit_keeps_signs_and_the_vectors_own_product(n: int, d: int, seed: int) -> None:
    vector = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    codes, step = encode(vector, 1)
    assert torch.equal(codes, (vector > 0).to(torch.uint8))
    coded = step.unsqueeze(1) * (codes.float() - 0.5)
    torch.testing.assert_close((coded * vector).sum(1), vector.square().sum(1))


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8])
@quick
@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 4), max_size=40)), max_size=8),
    st.integers(0, 60),
)
def test_any_sequence_of_changes_leaves_what_a_dictionary_would_hold(
    twin: bool, bits: int, changes: list[tuple[bool, list[int]]], first: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        if twin:
            patched.setattr(backend, "compiled", None)
        changed_as_a_dictionary_is(bits, changes, first)


def changed_as_a_dictionary_is(bits: int, changes: list[tuple[bool, list[int]]], first: int) -> None:
    generator = torch.Generator().manual_seed(first)
    direction = torch.randn(5, 6, generator=generator)
    lists = Lists(6, bits, direction.device)
    of = torch.randint(5, (first,), generator=generator)
    vectors = {child: torch.randn(6, generator=generator) for child in range(first)}
    stacked = torch.stack([*vectors.values()]) if vectors else torch.zeros(0, 6)
    place = torch.full((400,), -1)
    place[:first] = lists.build(of, torch.arange(first), stacked, direction)
    held_in = dict(enumerate(of.tolist()))
    next_child = first
    for adds, chosen in changes:
        if adds:
            children = list(range(next_child, next_child + len(chosen)))
            next_child += len(chosen)
            fresh = torch.randn(len(chosen), 6, generator=generator)
            into = torch.tensor(chosen, dtype=torch.int64)
            lists.add(into, torch.tensor(children, dtype=torch.int64), fresh, direction, place)
            held_in |= dict(zip(children, chosen, strict=True))
            vectors |= dict(zip(children, fresh, strict=True))
        else:
            gone = sorted(held_in)[:: 1 + len(chosen) % 3]
            out_of = torch.tensor([held_in[child] for child in gone], dtype=torch.int64)
            lists.remove(out_of, torch.tensor(gone, dtype=torch.int64), place)
            for child in gone:
                del held_in[child], vectors[child]
        assert len(lists) == len(held_in)
        assert (place >= 0).nonzero().squeeze(1).tolist() == sorted(held_in)
        for owner in range(5):
            entries, length = lists.level.entries_of(torch.tensor([owner]))
            held = lists.level.child[entries].tolist()
            assert sorted(held) == sorted(child for child in held_in if held_in[child] == owner)
            assert place[held].tolist() == entries.tolist()
            assert length.tolist() == [len(held)]
    for child, owner in held_in.items():
        vector = decoded(lists, place[child].view(1), direction[owner].unsqueeze(0))[0]
        assert float((vector - vectors[child]).norm()) < {1: 2.0, 4: 0.2, 8: 0.02}[bits] * 6


def test_a_list_without_entries_and_one_of_a_whole_panel() -> None:
    lists = Lists(4, 8, torch.device("cpu"))
    lists.build(
        torch.ones(LANES, dtype=torch.int64), torch.arange(LANES), torch.randn(LANES, 4), torch.zeros(2, 1)
    )
    assert lists.level.length.tolist() == [0, LANES]
    assert lists.level.entries_of(torch.tensor([0, 1]))[1].tolist() == [0, LANES]


def loaded(state: dict[str, Tensor], children: int = 40) -> Lists:
    lists = Lists.from_state(Saved(state, torch.device("cpu"), "a test"), "x.", 4, 4)
    lists.check_children("x.", children)
    return lists


@pytest.mark.parametrize("name", ["codes", "child", "length", "room", "first_panel"])
def test_a_damaged_state_is_refused(name: str) -> None:
    lists = Lists(4, 4, torch.device("cpu"))
    lists.build(torch.zeros(40, dtype=torch.int64), torch.arange(40), torch.randn(40, 4), torch.zeros(2, 1))
    state = lists.state_dict("x.")
    again = loaded(state)
    assert torch.equal(again.level.child, lists.level.child)
    with pytest.raises(ShapeError, match=name):
        loaded({k: v for k, v in state.items() if k != f"x.{name}"})
    with pytest.raises(ShapeError):
        loaded({**state, f"x.{name}": state[f"x.{name}"][:1]})
    with pytest.raises(ShapeError, match="expected"):
        loaded({**state, f"x.{name}": state[f"x.{name}"].double()})


@pytest.mark.parametrize("value", [-1, 1000, 2**31 - 1])
@pytest.mark.parametrize("name", ["first_panel", "length", "child"])
def test_a_state_that_points_outside_is_refused(name: str, value: int) -> None:
    lists = Lists(4, 4, torch.device("cpu"))
    lists.build(torch.zeros(40, dtype=torch.int64), torch.arange(40), torch.randn(40, 4), torch.zeros(2, 1))
    state = {key: tensor.clone() for key, tensor in lists.state_dict("x.").items()}
    state[f"x.{name}"][0] = value
    with pytest.raises(ShapeError, match="damaged"):
        loaded(state)


def test_the_limits_of_a_state_are_exact() -> None:
    lists = Lists(4, 4, torch.device("cpu"))
    lists.build(torch.zeros(40, dtype=torch.int64), torch.arange(40), torch.randn(40, 4), torch.zeros(1, 1))
    state = {key: tensor.clone() for key, tensor in lists.state_dict("x.").items()}
    for children in (39, 41):  # a search would return child 39 of 0 to 38
        with pytest.raises(ShapeError, match="damaged"):
            loaded(state, children)
    panels = len(state["x.codes"])
    state["x.room"][:] = 3  # of 4 panels: 48 entries
    for length in (40, 48):
        state["x.length"][:] = length
        state["x.child"][:] = -1
        for first in (0, panels - 3):
            state["x.first_panel"][:] = first
            state["x.child"][first * LANES : first * LANES + length] = torch.arange(length, dtype=torch.int32)
            assert len(loaded(state, length)) == length
        state["x.first_panel"][:] = panels - 2
        with pytest.raises(ShapeError, match="damaged"):
            loaded(state, length)
    state["x.first_panel"][:], state["x.length"][:] = 0, 49
    with pytest.raises(ShapeError, match="no more entries than in"):
        loaded(state, 49)
