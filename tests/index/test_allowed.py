"""Search among some cells, in every structure, compared with float64 brute force over these cells."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from tests.index.reference import assert_best, clustered, listed, recall, whole
from tests.index.test_contract import EVERYWHERE, scattered
from torch import Tensor

from hmn._native import backend
from hmn.errors import CellError, ConfigError, NonFiniteError, ShapeError
from hmn.index import Where, among, make_index
from hmn.index.allowed import Allowed
from hmn.index.protocol import Index
from hmn.index.watch import watching
from hmn.results import SearchResult

pytestmark = pytest.mark.usefixtures("every_group_entered")

D = 4
B = 6


@pytest.fixture(params=listed(EVERYWHERE))
def make(request: pytest.FixtureRequest) -> Callable[..., Index]:
    return lambda **more: make_index(request.param, **more)


@pytest.fixture(params=["some", "never"], ids=lambda when: f"{when}-listed")
def exact_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Few cells are all scored, as usual; or never, so that structures must filter."""
    if request.param == "never":
        monkeypatch.setattr(among, "listed_up_to", lambda _: 0)
    yield request.param


def drawn(seed: int, n: int, cells: Tensor) -> dict[str, tuple[Allowed, list[set[int]]]]:
    """Each form of ``allowed``, and the cells that each of B queries may find by it."""
    rng = np.random.default_rng(seed)
    ids = int(cells.max()) + 1 if n else 0
    mask = torch.from_numpy(rng.random(ids) < 0.4)
    column = torch.from_numpy(rng.integers(-3, 4, ids))
    low, high = torch.from_numpy(rng.integers(-3, 4, B)), torch.from_numpy(rng.integers(-2, 5, B))
    some = cells[torch.from_numpy(rng.random(n) < 0.3)]
    short = column[: ids // 2]

    def where(numbers: Tensor, lows: Tensor, highs: Tensor) -> list[set[int]]:
        number = dict(enumerate(numbers.tolist()))
        return [
            {cell for cell in cells.tolist() if cell in number and a <= number[cell] <= b}
            for a, b in zip(lows.tolist(), highs.tolist(), strict=True)
        ]

    every = torch.ones(B, dtype=torch.int64)
    return {
        "mask": (mask, [{cell for cell in cells.tolist() if mask[cell]}] * B),
        "long mask": (torch.cat([mask, mask]), [{cell for cell in cells.tolist() if mask[cell]}] * B),
        "list": (mask.tolist(), [{cell for cell in cells.tolist() if mask[cell]}] * B),
        "ids": (torch.cat([some, some[:3]]).int(), [set(some.tolist())] * B),
        "no ids": ([], [set()] * B),
        "one number": (Where(column, -1), where(column, -every, -every)),
        "numpy": (Where(column.numpy(), np.int64(-1), 2), where(column, -every, 2 * every)),
        "number of each": (Where(column, low), where(column, low, low)),
        "limits of each": (Where(column, low, high), where(column, low, high)),
        "upper limit of each": (Where(column, -2, high.tolist()), where(column, -2 * every, high)),
        "short column": (Where(short, low, high), where(short, low, high)),
        "all": (Where(column, -(2**63), 2**63 - 1), [set(cells.tolist())] * B),
    }


def assert_among(
    result: SearchResult, query: Tensor, held: dict[int, Tensor], sets: list[set[int]], k: int
) -> None:
    """Compare each query with brute force over the cells that it may find."""
    for line, own in enumerate(sets):
        part = SearchResult(*(column[line : line + 1] for column in result))
        assert_best(part, query[line : line + 1], {cell: held[cell] for cell in held if cell in own}, k)


@pytest.mark.parametrize("n", [0, 1, 60, 1100])
def test_each_form_agrees_with_brute_force(make: Callable[..., Index], exact_way: str, n: int) -> None:  # noqa: ARG001
    keys, query = whole(n, n, D), whole(n + 1, B, D)
    for ids in (torch.arange(n), scattered(n)):
        index = make()
        index.build(keys, ids)
        held = dict(zip(ids.tolist(), keys, strict=True))
        for name, (allowed, sets) in drawn(n, n, ids).items():
            for k in (1, 5) if n > 100 else (1, 5, n + 3):
                result = index.search(query, k, allowed)
                try:
                    assert_among(result, query, held, sets, k)
                except AssertionError as error:
                    error.add_note(f"{name}, k {k}")
                    raise


def test_all_cells_allowed_is_no_filter(make: Callable[..., Index]) -> None:
    keys, query = whole(1, 1200, D), whole(2, B, D)
    index = make()
    index.build(keys)
    index.remove(torch.arange(7))
    expected = index.search(query, 9)
    column, low = torch.zeros(1200, dtype=torch.int64), torch.zeros(B, dtype=torch.int64)
    mask = torch.ones(1200, dtype=torch.bool)
    for allowed in (mask, torch.arange(7, 1200), Where(column, 0), Where(column, low - 1, 1)):
        for one, other in zip(index.search(query, 9, allowed), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_one_cell_that_is_not_allowed_is_not_found(make: Callable[..., Index]) -> None:
    keys, query = clustered(0, 2500, 24)
    index = make()
    index.build(keys)
    best = (query.double() @ keys.double().T).topk(2, dim=1).indices
    for line in range(24):  # half of the rows are not among those by which shares are estimated
        mask = torch.arange(2500) != best[line, 0]
        one = query[line : line + 1]
        assert int(index.search(one, 1, mask).cell) == int(best[line, 1])
        two = torch.cat([one, one])
        allowed = Where(mask.long(), torch.tensor([1, 0]))  # the second query may find that cell alone
        assert index.search(two, 1, allowed).cell.flatten().tolist() == best[line].flip(0).tolist()


def test_cells_come_and_go(make: Callable[..., Index], exact_way: str) -> None:  # noqa: ARG001
    keys, query = whole(3, 1300, D), whole(4, B, D)
    index = make()
    index.build(keys[:1200])
    held = dict(enumerate(keys[:1200]))
    column = torch.arange(1300) % 5
    number = torch.arange(B) % 5
    allowed = Where(column, number)

    def check(index: Index) -> None:
        sets = [{cell for cell in held if cell % 5 == own} for own in number.tolist()]
        assert_among(index.search(query, 4, allowed), query, held, sets, 4)
        mask = column == 2
        assert_among(index.search(query, 4, mask), query, held, [{c for c in held if c % 5 == 2}] * B, 4)

    check(index)
    index.remove(torch.arange(0, 1200, 3))
    held = {cell: key for cell, key in held.items() if cell % 3}
    check(index)
    index.add(torch.arange(1200, 1290), keys[1200:1290])
    index.add(torch.tensor([3, 0]), keys[1290:1292])
    held |= dict(zip([*range(1200, 1290), 3, 0], keys[1200:1292], strict=True))
    index.update(torch.tensor([1, 1201]), keys[1292:1294])
    held |= {1: keys[1292], 1201: keys[1293]}
    check(index)
    check(copy.deepcopy(index))
    other = make()
    other.load_state_dict(index.state_dict())
    check(other)


@pytest.mark.parametrize(
    "name",
    ["cluster:num_clusters=40,num_probes=1", "cluster:num_clusters=4x40,num_probes=1x1", "hierarchy:reach=1"],
)
@pytest.mark.parametrize("kernels", ["compiled", "twin"])
def test_k_cells_are_found_as_long_as_more_are_allowed(
    name: str, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(among, "listed_up_to", lambda _: 0)
    if kernels == "twin":
        monkeypatch.setattr(backend, "compiled", None)
    keys, query = clustered(0, 1000, 40)
    index = make_index(name)
    index.build(keys)
    column, own, seven = torch.arange(1000) % 50, torch.arange(40), torch.full((40,), 7)
    near = (keys @ query.T).argmax(dim=1)  # the query that a cell is nearest to: others find it far away
    for numbers, low in ((column, own), (column, own % 3), (column, seven), (near, seven)):
        have = int((numbers == 7).sum())
        for k in (10, 17, 25):
            sets: list[Allowed] = [Where(numbers, low)]
            if bool((low == 7).all()):
                sets += [numbers == 7, Where(numbers, 7)]
            for allowed in sets:
                found = index.search(query, k, allowed).cell
                assert (found >= 0).sum(dim=1).tolist() == [min(k, have)] * 40
                assert torch.equal(numbers[found[found >= 0]], low.repeat_interleave(min(k, have)))
    index.fills = False  # type: ignore[attr-defined]
    assert bool(((index.search(query, 25, Where(column, own)).cell >= 0).sum(dim=1) <= 20).all())


@pytest.mark.parametrize("name", ["cluster:num_probes=8", "hierarchy", "exact"])
def test_the_best_allowed_cells_are_found_as_well_as_the_best_of_all(name: str) -> None:
    keys, query = clustered(1, 12_000, 64)
    index = make_index(name)
    index.build(keys)
    for _ in range(9 if name == "exact" else 1):  # until its keys are screened
        every = recall(index.search(query, 10), query, keys, 10)
    generator = torch.Generator().manual_seed(2)
    column = torch.randint(20, (12_000,), generator=generator)
    number = torch.randint(20, (64,), generator=generator)
    for low, high in ((number, number + 9), (number, number + 1), (torch.zeros_like(number), number * 0 + 9)):
        allowed = (column >= low.unsqueeze(1)) & (column <= high.unsqueeze(1))
        best = (query.double() @ keys.double().T).masked_fill(~allowed, -math.inf).topk(10, dim=1).indices
        found = index.search(query, 10, Where(column, low, high)).cell
        assert (allowed.gather(1, found.clamp(min=0)) | (found < 0)).all()
        hit = (found.unsqueeze(2) == best.unsqueeze(1)).any(dim=2).double().mean()
        assert hit >= every - 0.02, (low[0], high[0])


def test_bad_sets_are_refused(make: Callable[..., Index]) -> None:
    index, query = make(), whole(2, B, D)
    index.build(whole(1, 40, D))
    column = torch.zeros(40, dtype=torch.int64)
    with pytest.raises(CellError, match="there is no cell 40, expected"):
        index.search(query, 2, [3, 40])
    with pytest.raises(CellError, match="cell -1 is negative"):
        index.search(query, 2, torch.tensor([-1]))
    with pytest.raises(ShapeError, match=r"allowed is \(6, 40\) of torch.bool, expected a mask \(N,\)"):
        index.search(query, 2, torch.ones(B, 40, dtype=torch.bool))
    with pytest.raises(ShapeError, match=r"allowed is \(40,\) of torch.float32"):
        index.search(query, 2, torch.ones(40))
    with pytest.raises(ShapeError, match="low of allowed has 5 numbers for 6 queries, expected one number"):
        index.search(query, 2, Where(column, torch.zeros(5, dtype=torch.int64)))
    with pytest.raises(ShapeError, match=r"high of allowed .* expected one dimension of int64 ids"):
        index.search(query, 2, Where(column, 0, 1.5))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"the column of allowed are \(40, 1\)"):
        index.search(query, 2, Where(column.unsqueeze(1), 0))
    with pytest.raises(ShapeError, match="allowed is of type str"):
        index.search(query, 2, "all")  # type: ignore[arg-type]
    with pytest.raises(NonFiniteError, match="query: row 2"):
        index.search(query.index_fill(0, torch.tensor([2]), torch.nan), 2, Where(column, 0))
    with pytest.raises(ConfigError, match="k is 0"):
        index.search(query, 0, column == 0)


def test_reads_are_those_of_the_allowed_keys_where_they_are_few(make: Callable[..., Index]) -> None:
    index = make()
    index.build(whole(1, 40, D))
    result = index.search(whole(2, B, D), 3, Where(torch.arange(40) // 7, torch.arange(B)))
    assert result.cells_scored.tolist() == [7, 7, 7, 7, 7, 5]
    assert result.reads.tolist() == [7, 7, 7, 7, 7, 5]


def test_no_queries_and_watched_ones(make: Callable[..., Index]) -> None:
    index, column = make(), torch.arange(40) // 7
    index.build(whole(1, 40, D))
    assert index.search(whole(2, 0, D), 3, Where(column, [])).cell.shape == (0, 3)
    assert index.search(whole(2, 0, D), 3, column == 1).cell.shape == (0, 3)
    query, allowed = whole(2, B, D), Where(column, torch.arange(B))
    expected = index.search(query, 3, allowed)
    with watching() as searches:
        result = index.search(query, 3, allowed)
    assert torch.equal(result.score, expected.score)
    assert searches[0].scored == int(expected.cells_scored.sum())
    assert len(searches[0].places) == int((expected.cell >= 0).sum())
