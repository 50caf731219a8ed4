"""Screened exact search finds what scoring every key finds, whatever the keys are and become."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import hmn._native as native
from hmn._native import backend, screens
from hmn._native.codes import codes_of as decoded_of
from hmn.errors import NonFiniteError
from hmn.index.storage.key_rows import KeyRows
from hmn.index.structures import screening as screen
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.screening import Codes

pytestmark = pytest.mark.skipif(not screens(), reason="no kernels here that would screen")
N, D = 1200, 24


def normal(seed: int, rows: int, features: int) -> Tensor:
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(seed))


def outliers(seed: int, rows: int, features: int) -> Tensor:
    """A feature or two a hundred times as large as the rest, of which 8 bits leave little."""
    return normal(seed, rows, features) * normal(seed + 1, rows, features).abs() ** 4 * 10


def lengths(seed: int, rows: int, features: int) -> Tensor:
    return normal(seed, rows, features) * 10 ** normal(seed + 1, rows, 1)


def repeated(seed: int, rows: int, features: int) -> Tensor:
    few = normal(seed, max(1, rows // 50), features)
    return few[torch.randint(len(few), (rows,), generator=torch.Generator().manual_seed(seed))]


def clustered(seed: int, rows: int, features: int) -> Tensor:
    return repeated(seed, rows, features) + 1e-3 * normal(seed + 2, rows, features)


KINDS = [normal, outliers, lengths, repeated, clustered]


@pytest.fixture(autouse=True, params=[8, 16])
def bits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Codes of this width are made at the first search, even for few rows, and rule most of them out."""
    monkeypatch.setattr(screen, "screening_bits", lambda: request.param)
    monkeypatch.setattr(screen, "FINE_ROOM", 10)
    monkeypatch.setattr(screen, "LEAST_ROWS", 1)
    monkeypatch.setattr(screen, "AFTER", 0)
    monkeypatch.setattr(screen, "LIST", 64)
    monkeypatch.setattr(screen, "ROOM", 20)
    return int(request.param)


def assert_found(index: ExactIndex, keys: Tensor, query: Tensor, k: int, cells: Tensor | None = None) -> None:
    """Scores are the best inner products in float64, and those of the cells that are given with them."""
    result = index.search(query, k)
    every = query.double() @ keys.double().T
    # float32's rounding grows with the lengths that are multiplied; the last is that of its least numbers
    slack = 1e-5 * query.double().norm(dim=1, keepdim=True) * keys.double().norm(dim=1).max() + 1e-42
    assert ((result.score - every.topk(k).values).abs() <= slack).all()
    at = result.cell if cells is None else torch.searchsorted(cells, result.cell)
    assert cells is None or torch.equal(cells[at], result.cell)
    assert ((every.gather(1, at) - result.score).abs() <= slack).all()
    for row in result.cell.tolist():
        assert len(set(row)) == k
    assert result.cells_scored.tolist() == [len(keys)] * len(query)


def codes_of(index: ExactIndex) -> Codes:
    made = index._parts._codes
    assert made is not None
    return made


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 1500),
    d=st.integers(1, 70),
    k=st.integers(1, 30),
    b=st.integers(0, 70),
    seed=st.integers(0, 99),
)
def test_agrees_with_float64(
    kind: Callable[[int, int, int], Tensor], n: int, d: int, k: int, b: int, seed: int
) -> None:
    keys, query = kind(seed, n, d), kind(seed + 1000, b, d)
    index = ExactIndex(keys)
    assert_found(index, keys, query, min(k, n))
    made = codes_of(index)._level
    assert made.codes.shape[1] == -(-d * made.bits // 32)


@pytest.mark.parametrize("instructions", backend.compiled.available() if screens() else [])
@pytest.mark.parametrize("kind", KINDS)
def test_certain_results_are_right(
    kind: Callable[[int, int, int], Tensor], instructions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rows that are kept and scored, without any second look."""
    before = native.kernels()
    monkeypatch.setattr(screen, "MORE", 1)
    backend.compiled.use(instructions)
    try:
        certain_results_are_right(kind)
    finally:
        backend.compiled.use(before)


def certain_results_are_right(kind: Callable[[int, int, int], Tensor]) -> None:
    keys, query = kind(0, 6000, D), kind(1, 300, D)
    score, _, certain = Codes(KeyRows(keys)).search(query, 10)
    best = (query.double() @ keys.double().T).topk(10).values
    off = (score - best).abs().amax(dim=1)
    slack = 1e-5 * query.norm(dim=1) * keys.norm(dim=1).max()
    assert (off <= slack)[certain].all()
    if kind not in {repeated, clustered}:  # where a best key's likes fill all room
        assert int(certain.sum()) > 200


def test_too_little_room_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for the ten best by their bounds alone, some of the ten best are missed, and this is said."""
    monkeypatch.setattr(screen, "LEAST_SHARE", 600)
    keys, query = normal(0, 6000, D), normal(1, 300, D)
    codes = Codes(KeyRows(keys))
    _, row, certain = codes.search(query, 10)
    best = (query.double() @ keys.double().T).topk(10).indices
    right = (row.sort(dim=1).values == best.sort(dim=1).values).all(dim=1)
    assert int((~right).sum()) > 0 and not (certain & ~right).any()
    assert_found(ExactIndex(keys), keys, query, 10)


def test_bounds_hold_where_errors_of_codes_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for two rows, and two look better by their codes than the best row does."""
    monkeypatch.setattr(screen, "LEAST_SHARE", 8)
    monkeypatch.setattr(screen, "ROOM", 2)
    monkeypatch.setattr(screen, "FINE_ROOM", 1)
    rest = torch.ones(63)
    # the zeros of the best key are coded as half a step each, which this query adds up
    query = torch.cat([torch.zeros(1), -rest])
    best, second = torch.cat([torch.ones(1), 0 * rest]), torch.full((64,), 0.1 / 64)
    # the small features of this query are coded as none
    small = torch.cat([torch.tensor([127.0]), 0.49 * rest])
    turned = torch.cat([-torch.ones(1), rest])
    other = 0.8 * torch.cat([-torch.ones(1), rest * (-1.0) ** torch.arange(63)])
    for x, one, two, worse in ((query, best, second, 1.4), (small, turned, other, 1.1)):
        keys = torch.cat([(-10 * x).expand(13, -1), torch.stack([worse * two, two, one])])
        assert float(x @ one) > float(x @ two)
        assert ExactIndex(keys).search(x[None], 1).cell.tolist() == [[15]]


@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16])
def test_keys_of_16_bits_are_screened(storage: torch.dtype) -> None:
    keys, query = normal(0, N, D), normal(1, 40, D)
    index = ExactIndex(keys, storage=storage)
    result = index.search(query, 10)
    every = query.double() @ keys.to(storage).double().T
    np.testing.assert_allclose(result.score, every.topk(10).values, rtol=1e-5, atol=1e-4)
    assert codes_of(index).sound


def test_updated_cells_are_found_where_they_have_gone() -> None:
    keys, query = normal(0, N, D), normal(1, 40, D)
    index = ExactIndex(keys.clone())
    index.search(query, 10)
    made, moved = codes_of(index), torch.arange(0, N, 3)
    keys[moved] = 2 * normal(2, len(moved), D)
    index.update(moved, keys[moved])
    assert_found(index, keys, query, 10)
    assert codes_of(index) is made


@pytest.mark.parametrize("inference", [False, True])
def test_keys_that_change_in_place_are_seen(inference: bool) -> None:
    keys, query = normal(0, N, D), normal(1, 40, D)
    index = ExactIndex(keys)
    index.search(query, 10)
    with torch.inference_mode(inference):
        keys[::3] = 2 * normal(2, len(keys[::3]), D)
    assert_found(index, keys, query, 10)
    weight = torch.nn.Parameter(keys.clone())
    index.build(weight.detach())
    index.search(query, 10)
    weight.grad = normal(3, N, D)
    torch.optim.SGD([weight], lr=1.0).step()
    index.update(torch.arange(5), weight.detach()[:5])  # others have changed as well
    assert_found(index, weight.detach(), query, 10)


def test_added_and_removed_cells_are_followed() -> None:
    keys, query = normal(0, N, D), normal(1, 40, D)
    index = ExactIndex(keys.clone())
    index.search(query, 10)
    made, best = codes_of(index), torch.unique(index.search(query, 3).cell)
    index.remove(best)
    left = torch.tensor([cell for cell in range(N) if cell not in set(best.tolist())])
    assert_found(index, keys[left], query, 10, left)
    assert codes_of(index) is made
    index.update(left[:100], -keys[left[:100]])
    keys[left[:100]] *= -1
    assert_found(index, keys[left], query, 10, left)
    more = 3 * normal(5, 50, D)
    index.add(torch.arange(N, N + 50), more)
    assert_found(index, torch.cat([keys[left], more]), query, 10, torch.cat([left, torch.arange(N, N + 50)]))
    index.build(keys)
    index.search(query, 10)
    index.remove(torch.arange(N // 2))
    index.search(query, 10)
    index.build(keys)
    assert_found(index, keys, query, 10)
    other = ExactIndex()
    other.load_state_dict(index.state_dict())
    other.search(query, 10)
    other.load_state_dict(ExactIndex(keys).state_dict())
    assert_found(other, keys, query, 10)
    assert_found(copy.deepcopy(other), keys, query, 10)


@pytest.mark.parametrize("storage", [torch.float32, torch.float16])
def test_codes_outlast_many_changes(storage: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells come, go, come back to rows that were freed, and change, in any order."""
    monkeypatch.setattr(screen, "MOST_BEYOND", 150)
    draw = torch.Generator().manual_seed(3)
    keys = dict(enumerate(normal(0, N, D).to(storage)))
    index = ExactIndex(torch.stack([*keys.values()]), storage=storage)
    codes, following = [], N
    for step in range(60):
        query = normal(100 + step, 9, D)
        query[0] = 0  # all bounds are alike
        cells = torch.tensor(sorted(keys))
        assert_found(index, torch.stack([keys[cell] for cell in cells.tolist()]).float(), query, 10, cells)
        codes.append(codes_of(index))
        count = int(torch.randint(1, 25, (), generator=draw))
        chosen = cells[torch.randperm(len(cells), generator=draw)[:count]]
        if step % 3 == 0:  # the best are removed, not some that nobody asks for
            chosen = torch.unique(index.search(query[1:], 2).cell)
            index.remove(chosen)
            for cell in chosen.tolist():
                del keys[cell]
            continue
        if step % 3 == 1:
            chosen, following = torch.arange(following, following + 30), following + 30
        new = 1.5 * normal(200 + step, len(chosen), D).to(storage)
        (index.add if step % 3 == 1 else index.update)(chosen, new)
        keys.update(zip(chosen.tolist(), new, strict=True))
    assert 1 < len({id(one) for one in codes}) < 8  # made again only where too many had come


def test_removed_cells_stay_away_where_their_bounds_are_the_highest() -> None:
    query = normal(0, 2, D).abs()
    keys = -1e9 * (1 + normal(1, N, 1).abs()) * query[0]
    index = ExactIndex(keys)
    best = torch.unique(index.search(query, 5).cell)
    index.remove(best)
    left = torch.tensor([cell for cell in range(N) if cell not in set(best.tolist())])
    assert_found(index, keys[left], query, 10, left)


def test_keys_that_others_change_before_cells_are_added_are_seen() -> None:
    keys, query = normal(0, N, D), normal(1, 40, D)
    index = ExactIndex(keys)
    index.search(query, 10)
    keys[::3] = 2 * normal(2, len(keys[::3]), D)
    more = normal(5, 7, D)
    index.add(torch.arange(N, N + 7), more)
    assert_found(index, torch.cat([keys, more]), query, 10)


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-20, 1e17])
def test_keys_and_queries_of_any_size(size: float) -> None:
    keys, query = normal(0, N, D), normal(1, 40, D)
    assert_found(ExactIndex(keys), keys, query * size, 10)
    index = ExactIndex(keys * size)
    assert_found(index, keys * size, query, 10)
    mixed = torch.cat([keys * size, keys])
    assert_found(ExactIndex(mixed), mixed, query, 10)
    query[3] = 0
    assert_found(ExactIndex(keys), keys, query, 10)


def test_bad_queries_are_refused() -> None:
    index = ExactIndex(normal(0, N, D))
    index.search(normal(1, 2, D), 1)
    with pytest.raises(NonFiniteError, match="query"):
        index.search(torch.full((1, D), torch.nan), 1)


def test_codes_that_say_little_are_given_up(bits: int) -> None:
    """All keys are within what their bits leave out of them."""
    keys = 1 + {8: 1e-4, 16: 1e-6}[bits] * normal(0, N, D)
    query = 1 + normal(1, 40, D).abs()
    index = ExactIndex(keys)
    assert_found(index, keys, query, 10)
    assert not codes_of(index).sound
    assert_found(index, keys, query, 10)


def test_codes_are_made_when_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "AFTER", 100)
    keys, query = normal(0, N, D), normal(1, 60, D)
    index, never = ExactIndex(keys), ExactIndex(keys, screened=False)
    made = []
    for _ in range(3):
        index.search(query, 10)
        never.search(query, 10)
        made.append(index._parts._codes is not None)
    assert made == [False, False, True]
    assert never._parts._codes is None
    monkeypatch.setattr(screen, "LEAST_ROWS", N + 1)
    small = ExactIndex(keys)
    for _ in range(3):
        small.search(query, 10)
    assert small._parts._codes is None


def test_many_features_have_codes_whose_products_fit(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    """Keys and queries that are alike have the largest sums; with more features 8 bits remain."""
    keys = torch.full((40, 3000), 7.0) + 0.01 * normal(0, 40, 3000)
    query = keys[:5] * 3
    for most in (3000, 2999):
        monkeypatch.setattr(screen, "MOST_FEATURES", most)
        index = ExactIndex(keys)
        assert_found(index, keys, query, 3)
        assert codes_of(index)._level.bits == (bits if most == 3000 else 8)


def test_codes_of_16_bits_come_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "screening_bits", lambda: 16)
    keys = outliers(0, N, 33)
    keys[7] = 0
    codes = Codes(KeyRows(keys))
    level, entry = codes._level, torch.arange(N)
    decoded = decoded_of(level, entry, 33) * level.step[entry].unsqueeze(1)
    off = (decoded - keys).norm(dim=1)
    # half a step each, of which the longest vector has 46,000
    assert (off <= 0.5 * 33**0.5 * keys.norm(dim=1) / 32_000 + 1e-12).all()
    assert (off <= level.along[entry] * codes._ratio).all()


@pytest.mark.parametrize("kind", [normal, outliers, lengths])
def test_bounds_are_no_shorter_than_the_errors_that_they_bound(
    kind: Callable[[int, int, int], Tensor],
) -> None:
    keys = kind(3, 500, 17)
    codes = Codes(KeyRows(keys))
    level, entry = codes._level, torch.arange(500)
    coded = decoded_of(level, entry, 17).sub(level.zero) * level.step[entry].unsqueeze(1)
    error = (coded - keys).double().norm(dim=1)
    least = error / codes._ratio + coded.double().norm(dim=1)
    bound = level.along[entry].double()
    assert bool((bound >= least).all())
    assert bool((bound <= 1.0001 * least + 1e-25).all())


def test_one_key_that_is_too_long_is_enough_to_give_the_codes_up() -> None:
    keys, query = normal(0, N, 9), normal(1, 5, 9)
    keys[N // 2] *= 1e13
    codes = Codes(KeyRows(keys))
    assert not codes.sound
    index = ExactIndex(keys)
    for _ in range(3):
        assert_found(index, keys, query, 7)
    codes = Codes(KeyRows(keys := normal(0, N, 9)))
    assert codes.sound
    keys[3] *= 1e13  # in place: the rows share them
    codes.write(torch.arange(10))
    assert not codes.sound
