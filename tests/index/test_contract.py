"""What every structure promises, compared with float64 brute force where it looks everywhere."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.index.reference import assert_best, listed, whole
from torch import Tensor

from hmn.errors import CellError, ConfigError, NonFiniteError, NotFittedError, ShapeError
from hmn.index.protocol import Index, Tunable
from hmn.index.registry import make_index
from hmn.index.tuning import tune

pytestmark = pytest.mark.usefixtures("every_group_entered")

EVERYWHERE = [
    "exact",
    "cluster:num_clusters=7,num_probes=7,codes=none",
    "cluster:num_clusters=3x9,num_probes=3x9,codes=int8,rescore=100000,reduction=one-column",
    "hierarchy:reach=none",
    "hierarchy:reach=999,rescore=100000",
    "hierarchy:num_groups=9,reach=999,rescore=100000,parts=8",
    "wta-hash:num_tables=2,num_permutations=2,prefix=1",
    "wta-hash:num_tables=3,num_permutations=1,prefix=2,num_probes=2",
    "pca-tree:leaf_size=4,num_leaves=100000",
    "pca-tree:leaf_size=1,num_leaves=100000,reduction=paper",
    "faiss:Flat",
    "faiss:IVF4,Flat,num_probes=4",
]
TYPES = [torch.float32, torch.float16, torch.bfloat16]
D = 4


def model_of(keys: Tensor, cells: Tensor | None = None) -> dict[int, Tensor]:
    ids = range(len(keys)) if cells is None else cells.tolist()
    return dict(zip(ids, keys, strict=True))


def scattered(count: int, seed: int = 0) -> Tensor:
    """Distinct ids in no order."""
    return torch.randperm(3 * count + 1, generator=torch.Generator().manual_seed(seed))[:count]


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return torch.device(request.param)


@pytest.fixture(scope="module", params=listed(EVERYWHERE))
def make(request: pytest.FixtureRequest) -> Callable[..., Index]:
    return lambda **more: make_index(request.param, **more)


@pytest.mark.parametrize("storage", TYPES)
@pytest.mark.parametrize("n", [0, 1, 2, 50, 300])
def test_agrees_with_brute_force(
    make: Callable[..., Index], device: torch.device, n: int, storage: torch.dtype
) -> None:
    keys, query, cells = whole(n, n, D).to(device), whole(n + 1, 6, D).to(device), scattered(n)
    query[2] = 0
    for ids in (None, cells):
        index = make(storage=storage)
        index.build(keys, ids)
        assert len(index) == n
        for k in (1, 5, n + 3):
            result = index.search(query, k)
            assert all(part.device == device or part.device.type == device.type for part in result)
            assert_best(result, query, model_of(keys, ids), k)


@pytest.mark.parametrize("storage", TYPES)
def test_agrees_on_real_numbers(
    make: Callable[..., Index], device: torch.device, storage: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(5)
    keys = torch.randn(300, 24, generator=generator).to(device, storage)
    query = torch.randn(7, 24, generator=generator).to(device)
    index = make()
    index.build(keys)
    for scale in (1.0, 1e-4, 1e4):
        assert_best(index.search(query * scale, 10), query * scale, model_of(keys), 10)
    assert_best(index.search(query.double(), 10), query, model_of(keys), 10)


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e17])
def test_tiny_and_huge_keys_are_scored_and_changed(make: Callable[..., Index], size: float) -> None:
    generator = torch.Generator().manual_seed(5)
    keys = (size * torch.randn(360, 24, generator=generator, dtype=torch.float64)).float()
    query = torch.randn(7, 24, generator=generator)
    relative = 1e-2 if size == 1e-42 else 1e-5  # such numbers have ten bits

    def assert_finds(held: Tensor, cells: Tensor, factor: float = 1.0) -> None:
        result = index.search(query * factor, 10)
        result = result._replace(score=(result.score.double() / size / factor).float())
        assert_best(result, query, model_of(held.double() / size, cells), 10, relative)

    index = make()
    index.build(keys[:320].clone())
    assert_finds(keys[:320], torch.arange(320))
    assert_finds(keys[:320], torch.arange(320), size if size > 1 else 1e3)
    index.update(torch.arange(20), keys[320:340])
    index.add(torch.arange(900, 920), keys[340:])
    cells = torch.cat([torch.arange(20), torch.arange(900, 920), torch.arange(20, 320)])
    assert_finds(keys[torch.cat([torch.arange(320, 360), torch.arange(20, 320)])], cells)


def test_numbers_too_large_for_inner_products_are_refused(make: Callable[..., Index]) -> None:
    keys, query = whole(1, 30, D), whole(2, 3, D)
    index = make()
    with pytest.raises(NonFiniteError, match=r"keys: row 2 has length 2e\+20 .*expected at most 9.22e\+18"):
        index.build(keys.index_fill(0, torch.tensor([2]), 1e20))
    index.build(keys)
    for change in (index.add, index.update):
        with pytest.raises(NonFiniteError, match=r"keys: row 1 has length 2e\+19"):
            change(
                torch.tensor([7, 5]) + 100 * (change == index.add), torch.tensor([[1.0], [1e19]]).expand(2, D)
            )
    with pytest.raises(NonFiniteError, match=r"query: row 0 has length 2e\+20"):
        index.search(torch.full((1, D), 1e20), 5)
    assert_best(index.search(query, 5), query, model_of(keys), 5)


@pytest.mark.parametrize("same", [0.0, 1.0, -2.0])
def test_equal_keys_are_all_found(make: Callable[..., Index], device: torch.device, same: float) -> None:
    keys = torch.full((40, D), same, device=device)
    index = make()
    index.build(keys)
    assert_best(index.search(torch.ones(2, D, device=device), 43), torch.ones(2, D), model_of(keys), 43)


@settings(max_examples=25, deadline=None)
@given(
    start=st.integers(0, 8),
    own_ids=st.booleans(),
    changes=st.lists(
        st.tuples(st.sampled_from("aaruus"), st.lists(st.integers(0, 30), max_size=6, unique=True)),
        max_size=25,
    ),
    seed=st.integers(0, 9),
)
def test_any_sequence_of_changes_leaves_what_a_dictionary_would_hold(
    make: Callable[..., Index],
    device: torch.device,
    start: int,
    own_ids: bool,
    changes: list[tuple[str, list[int]]],
    seed: int,
) -> None:
    cells = scattered(start, seed) if own_ids else None
    keys, query = whole(seed, start, D).to(device), whole(seed + 50, 3, D).to(device)
    index, held = make(), model_of(keys.clone(), cells)
    index.build(keys, cells)
    for number, (kind, some) in enumerate(changes):
        wanted = [cell for cell in some if (cell in held) != (kind == "a")]
        chosen = torch.tensor(wanted, dtype=torch.int64, device=device)
        new = whole(1000 + number, len(wanted), D, spread=5).to(device)
        if kind == "a":
            index.add(chosen, new)
        elif kind == "u":
            index.update(chosen, new)
        elif kind == "r":
            index.remove(chosen)
            for cell in wanted:
                del held[cell]
        else:
            assert_best(index.search(query, 4), query, held, 4)
        if kind in "au":
            held.update(model_of(new, chosen))
        assert len(index) == len(held)
    again = make()
    again.load_state_dict({name: part.clone() for name, part in index.state_dict().items()})
    for each in (index, again):
        assert len(each) == len(held)
        assert_best(each.search(query, 12), query, held, 12)


@pytest.mark.parametrize("with_keys", [True, False])
def test_searches_the_same_after_a_round_trip(
    make: Callable[..., Index], device: torch.device, with_keys: bool
) -> None:
    keys, query = whole(1, 60, D).to(device), whole(2, 5, D).to(device)
    index, again = make(), make()
    index.build(keys, scattered(60).to(device))
    index.remove(scattered(60)[10:25].to(device))
    index.add(torch.tensor([900, 901]), whole(3, 2, D))
    index.update(scattered(60)[30:40], whole(4, 10, D))
    state = index.state_dict(with_keys=with_keys)
    assert all(isinstance(part, Tensor) for part in state.values())
    assert ("rows.keys" in state) == with_keys
    storage = None if with_keys else index.state_dict()["rows.keys"].clone()
    if not with_keys:
        with pytest.raises(ShapeError, match="keys"):
            again.load_state_dict(state)
        with pytest.raises(NotFittedError):
            again.search(query, 1)
    again.load_state_dict(state, storage)
    for result, wanted in zip(again.search(query, 9), index.search(query, 9), strict=True):
        torch.testing.assert_close(result, wanted, rtol=0, atol=0, equal_nan=True)
    for each in (index, again):
        each.add(torch.tensor([902]), torch.full((1, D), 9.0))
        assert each.search(torch.ones(1, D, device=device), 1).cell.tolist() == [[902]]


def test_what_is_loaded_shares_nothing_with_the_state_but_shares_keys_that_are_given(
    make: Callable[..., Index], device: torch.device
) -> None:
    query = whole(2, 5, D).to(device)
    index, first, second, third = make(), make(), make(), make()
    index.build(whole(1, 60, D).to(device), scattered(60).to(device))
    index.remove(scattered(60)[10:25].to(device))
    state, before = index.state_dict(), index.search(query, 9)
    kept = {name: part.clone() for name, part in state.items()}
    first.load_state_dict(state)
    second.load_state_dict(state)
    first.update(scattered(60)[30:40], whole(4, 10, D, spread=9))
    first.remove(scattered(60)[40:50])
    first.add(torch.arange(900, 930), whole(3, 30, D, spread=9))
    first.search(query, 9)
    again = make()
    again.load_state_dict(state)
    assert all(torch.equal(part, kept[name]) for name, part in state.items())
    for each in (index, second, again):
        for result, wanted in zip(each.search(query, 9), before, strict=True):
            torch.testing.assert_close(result, wanted, rtol=0, atol=0, equal_nan=True)
    keys = state["rows.keys"].clone()
    third.load_state_dict(state, keys)
    keys[0] = 8.0
    scores = {round(float(8 * each.sum())) for each in query}
    found = third.search(query, 60)
    assert {round(float(x)) for x in found.score[found.cell == scattered(60)[0]]} == scores
    third.update(scattered(60)[:1], torch.full((1, D), 9.0))
    assert bool((keys[0] == 8).all())


@pytest.mark.parametrize("own_ids", [False, True])
def test_other_keys_than_those_of_the_state_are_refused(
    make: Callable[..., Index], device: torch.device, own_ids: bool
) -> None:
    keys, query = whole(1, 60, D).to(device), whole(2, 5, D).to(device)
    index, again = make(), make()
    index.build(keys, scattered(60).to(device) if own_ids else None)
    index.remove(scattered(60)[:5] if own_ids else torch.arange(5))
    state = {name: part.clone() for name, part in index.state_dict(with_keys=False).items()}
    again.load_state_dict(state, keys.clone())
    before = again.search(query, 9)
    changed, swapped = keys.clone(), keys.clone()
    changed[30, 1] += 1
    swapped[[20, 21]] = keys[[21, 20]]
    assert not torch.equal(keys, swapped)
    for other in (changed, swapped, 2 * keys):
        with pytest.raises(ShapeError, match=r"checksum of the keys is .* expected .* saved with, or build"):
            again.load_state_dict(state, other)
    for result, wanted in zip(again.search(query, 9), before, strict=True):
        torch.testing.assert_close(result, wanted, rtol=0, atol=0, equal_nan=True)
    free = keys.clone()
    free[0 if not own_ids else 3] += 7  # a row without a cell may hold anything
    again.load_state_dict(state, free)
    del state["rows.checksum"]  # as in version 0.1
    again.load_state_dict(state, keys)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    make: Callable[..., Index], device: torch.device
) -> None:
    keys, query = whole(1, 30, D).to(device), whole(2, 5, D).to(device)
    index, other = make(), make()
    index.build(keys)
    other.build(whole(3, 40, D + 1).to(device))
    before = index.search(query, 7)
    state = other.state_dict()
    for name in state:
        if name not in ("rows.cell", "rows.free", "rows.checksum", "measured"):
            with pytest.raises(ShapeError):
                index.load_state_dict({each: part for each, part in state.items() if each != name})
    for name in state:
        if not name.startswith(("rows.", "reduction.")) and state[name].dim():
            with pytest.raises(ShapeError):
                index.load_state_dict({**state, name: state[name][:-1]})
    for result, wanted in zip(index.search(query, 7), before, strict=True):
        torch.testing.assert_close(result, wanted, rtol=0, atol=0, equal_nan=True)


def test_refuses_what_does_not_fit_and_changes_nothing(
    make: Callable[..., Index], device: torch.device
) -> None:
    keys, query, one = whole(1, 30, D).to(device), whole(2, 5, D).to(device), torch.tensor([3])
    index = make()
    with pytest.raises(NotFittedError):
        index.search(query, 1)
    with pytest.raises(NotFittedError):
        index.add(one, torch.zeros(1, D))
    index.build(keys)
    nan, wide = torch.full((1, D), torch.nan), torch.zeros(1, D + 1)
    large = torch.full((1, D), 1e300, dtype=torch.float64)  # infinite as a float32
    refused: list[tuple[type[Exception], Callable[[], object]]] = [
        (NonFiniteError, lambda: index.search(nan, 1)),
        (NonFiniteError, lambda: index.search(large, 1)),
        (ShapeError, lambda: index.search(wide, 1)),
        (ShapeError, lambda: index.search(torch.zeros(D), 1)),
        (ConfigError, lambda: index.search(query, 0)),
        (NonFiniteError, lambda: index.build(nan)),
        (NonFiniteError, lambda: index.build(large)),
        (ShapeError, lambda: index.build(torch.zeros(3))),
        (ShapeError, lambda: index.build(torch.zeros(3, D), torch.arange(2))),
        (CellError, lambda: index.build(torch.zeros(2, D), torch.tensor([4, 4]))),
        (CellError, lambda: index.add(one, torch.zeros(1, D))),
        (CellError, lambda: index.add(torch.tensor([50, 50]), torch.zeros(2, D))),
        (NonFiniteError, lambda: index.add(torch.tensor([50]), nan)),
        (NonFiniteError, lambda: index.add(torch.tensor([50]), large)),
        (ShapeError, lambda: index.add(torch.tensor([50]), wide)),
        (CellError, lambda: index.remove(torch.tensor([2, 99]))),
        (CellError, lambda: index.remove(torch.tensor([2, 2]))),
        (CellError, lambda: index.update(torch.tensor([3, 99]), torch.zeros(2, D))),
        (CellError, lambda: index.update(torch.tensor([3, 3]), torch.zeros(2, D))),
        (NonFiniteError, lambda: index.update(one, nan)),
        (NonFiniteError, lambda: index.update(one, large)),
        (ShapeError, lambda: index.update(one, wide)),
    ]
    for error, call in refused:
        with pytest.raises(error):
            call()
    assert len(index) == 30
    assert_best(index.search(query, 33), query, model_of(keys), 33)


def test_keys_that_the_storage_cannot_hold_are_refused(
    make: Callable[..., Index], device: torch.device
) -> None:
    keys, query = whole(1, 30, D).to(device), whole(2, 5, D).to(device)
    large = torch.full((1, D), 1e5, device=device)
    index = make(storage=torch.float16)
    index.build(keys)
    for call in (
        lambda: index.build(large),
        lambda: index.add(torch.tensor([50]), large),
        lambda: index.update(torch.tensor([3]), large),
    ):
        with pytest.raises(NonFiniteError, match=r"row 0 holds 1e\+05, expected numbers up to 6.55e\+04"):
            call()
    assert_best(index.search(query, 33), query, model_of(keys), 33)


@pytest.mark.parametrize("size", [1e18, 1e-18])
def test_very_large_and_very_small_keys_are_found(
    make: Callable[..., Index], device: torch.device, size: float
) -> None:
    keys, query = whole(1, 200, D).to(device) * size, whole(2, 5, D).to(device)
    index = make()
    index.build(keys[:150])
    index.add(torch.arange(150, 200), keys[150:])
    result = index.search(query, 5)
    assert_best(result._replace(score=result.score / size), query, model_of(keys / size), 5)


@pytest.mark.parametrize("storage", [None, torch.float16])
def test_autocast_around_it_changes_nothing(
    make: Callable[..., Index], device: torch.device, storage: torch.dtype | None
) -> None:
    generator = torch.Generator().manual_seed(5)
    keys = torch.randn(300, 24, generator=generator).to(device)
    query = torch.randn(40, 24, generator=generator).to(device)
    states = []
    for on in (False, True):
        index = make(storage=storage)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=on):
            index.build(keys[:200])
            index.add(torch.arange(200, 300), keys[200:])
            index.update(torch.arange(50), keys[50:100])
            result = index.search(query, 7)
        held = torch.cat([keys[50:100], keys[50:]]).to(storage or keys.dtype)
        assert_best(result, query, model_of(held), 7)
        states.append(index.state_dict())
    for name, wanted in states[0].items():
        torch.testing.assert_close(states[1][name], wanted, rtol=0, atol=0)


def test_what_is_built_in_inference_mode_can_be_changed_outside(
    make: Callable[..., Index], device: torch.device
) -> None:
    query, index, other = whole(2, 5, D).to(device), make(), make()
    with torch.inference_mode():
        keys = whole(1, 30, D).to(device) * 1
        index.build(keys)
        index.search(query * 1, 3)
        other.load_state_dict(index.state_dict())
    fresh = whole(3, 30, D).to(device)
    for one in (index, other):
        one.update(torch.arange(30), fresh)
        one.search(query, 3)
        one.add(torch.arange(30, 60), keys)
        one.remove(torch.arange(10))
        held = model_of(torch.cat([fresh, keys])[10:], torch.arange(10, 60))
        assert_best(one.search(query, 55), query, held, 55)


def test_results_carry_no_gradient(make: Callable[..., Index], device: torch.device) -> None:
    keys = whole(1, 20, D).to(device).requires_grad_()
    query = whole(2, 2, D).to(device).requires_grad_()
    index = make()
    index.build(keys)
    index.update(torch.tensor([1]), torch.ones(1, D, requires_grad=True))
    result = index.search(query, 3)
    assert not result.score.requires_grad and not result.reads.requires_grad


def test_keys_changed_in_place_are_scored_as_they_are(
    make: Callable[..., Index], device: torch.device
) -> None:
    keys = whole(1, 20, D).to(device)
    index = make()
    index.build(keys)
    keys[7] = 50
    assert_best(index.search(torch.ones(1, D, device=device), 20), torch.ones(1, D), model_of(keys), 20)


def test_threads_search_while_another_changes_it(make: Callable[..., Index], device: torch.device) -> None:
    """Each result is that of one of the moments between the begin and the end of its search."""
    index: Any = make()
    keys, query, stop, errors = whole(1, 300, D), whole(2, 5, D).to(device), threading.Event(), list[Any]()
    index.build(keys.to(device))
    held = model_of(keys)
    best: list[Tensor] = []  # scores (5, 7) after each change
    done = begun = 0  # changes

    def note() -> None:
        best.append((query.cpu() @ torch.stack(list(held.values())).T).topk(7).values)

    def search() -> None:
        try:
            while not stop.is_set():
                first, result = done, index.search(query, 7)
                score = result.score.cpu()
                moments = range(first, begun + 1)
                assert any(torch.equal(score, best[moment]) for moment in moments), moments
                assert int(result.cell.min()) >= 0
        except BaseException as error:
            errors.append(error)

    def change(kind: int, turn: int) -> Callable[[], object]:
        """Change what should be held, and return the call that does the same to the index."""
        nonlocal held
        some = torch.arange(turn, 300, 3)
        new = whole(100 + 10 * turn + kind, len(some), D)
        if kind == 0:
            held |= model_of(new, some + 300)
            return lambda: index.add(some + 300, new)
        if kind == 1:
            held |= model_of(2 * new, some)
            return lambda: index.update(some, 2 * new)
        if kind == 2:
            held = {cell: key for cell, key in held.items() if cell not in (some + 300).tolist()}
            return lambda: index.remove(some + 300)
        every = whole(200 + 10 * turn + kind, 300, D)
        held = model_of(every)
        if kind == 3:
            return lambda: index.build(every.to(device))
        other = make()
        other.build(every.to(device))
        return lambda: index.load_state_dict(other.state_dict())

    note()
    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(2):
            for kind in (0, 1, 2, 3, 4):
                call = change(kind, turn)
                note()
                begun += 1
                call()
                done += 1
                index.stats()
                copy.deepcopy(index)
                if hasattr(index, "learn"):
                    index.learn(query, torch.arange(5))
    finally:
        stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not errors, errors[0]


def test_threads_search_while_another_tunes_it(make: Callable[..., Index], device: torch.device) -> None:
    index: Any = make()
    keys, query, stop, errors = whole(1, 300, D), whole(2, 5, D), threading.Event(), list[Any]()
    index.build(keys.to(device))
    try:
        tunable = isinstance(index, Tunable) and bool(index.effort_name)
    except ConfigError:
        tunable = False
    if not tunable:
        pytest.skip("has nothing to tune")

    def search() -> None:
        try:
            while not stop.is_set():
                result = index.search(query.to(device), 7)
                for row in range(5):
                    cell = result.cell[row].cpu()
                    used = cell >= 0
                    assert torch.equal(keys[cell[used]] @ query[row], result.score[row].cpu()[used])
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        for target in (0.3, 0.9, 1.0):
            tune(index, query.to(device), 7, target_recall=target)
    finally:
        stop.set()
    thread.join(30)
    assert not thread.is_alive() and not errors, errors[:1]


def test_a_copy_is_an_index_of_its_own(make: Callable[..., Index], device: torch.device) -> None:
    keys, query = whole(1, 30, D).to(device), whole(2, 5, D).to(device)
    index = make()
    index.build(keys)
    index.search(query, 3)
    copied = copy.deepcopy(index)
    index.remove(torch.arange(20))
    assert_best(copied.search(query, 33), query, model_of(keys), 33)
    assert_best(index.search(query, 12), query, model_of(keys[20:], torch.arange(20, 30)), 12)


def test_another_build_replaces_the_keys(make: Callable[..., Index], device: torch.device) -> None:
    index, keys = make(), whole(3, 9, D + 2).to(device)
    index.build(whole(1, 50, D).to(device))
    index.remove(torch.arange(40))
    index.build(keys)
    query = whole(4, 3, D + 2).to(device)
    assert_best(index.search(query, 12), query, model_of(keys), 12)


@pytest.mark.parametrize("storage", TYPES)
def test_counts_what_it_reads_for_each_query_alone(
    make: Callable[..., Index], device: torch.device, storage: torch.dtype
) -> None:
    keys, query = whole(1, 200, 16).to(device), whole(2, 9, 16).to(device)
    index = make(storage=storage)
    index.build(keys)
    result = index.search(query, 5)
    assert result.reads.dtype == torch.float32 and result.cells_scored.dtype == torch.int64
    assert result.cells_scored.tolist() == [200] * 9  # everywhere
    least = 200 * storage.itemsize / 4
    assert bool((result.reads >= least).all()) and bool((result.reads <= 3 * 200 + 100).all())
    for row in range(9):
        alone = index.search(query[row : row + 1], 5)
        assert float(alone.reads) == float(result.reads[row])
    nothing = index.search(query[:0], 5)
    assert [tuple(part.shape) for part in nothing] == [(0, 5), (0, 5), (0,), (0,)]


def test_more_unused_places_than_memory_can_hold_are_refused(make: Callable[..., Index]) -> None:
    index, query = make(), whole(2, 5, D)
    index.build(whole(1, 30, D))
    with pytest.raises(
        ConfigError, match="k is 2147483647 for 5 queries, but there are 30 cells: expected at most"
    ):
        index.search(query, 2**31 - 1)
    assert index.search(query, 1000).cell.shape == (5, 1000)
