"""Groups: every set of instructions finds and reads what plain Python does, and PyTorch finds it too."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from tests._native.plain_groups import Made, Search, made, queries
from torch import Tensor

import hmn._native as native
from hmn._native.allowed.filter import Filter
from hmn._native.fallback import groups as pytorch
from hmn._native.groups import Limits
from hmn._native.level import LANES, LINE
from hmn._native.watch import LEVELS
from hmn.errors import NonFiniteError, ShapeError
from hmn.results import SearchResult

pytestmark = pytest.mark.skipif(native.kernels() == "twin", reason="the kernels were not built")
FORMS: list[dict[str, Any]] = [
    {"d": 1, "parts": 8, "basis": "all", "turned": False},
    {"d": 7, "parts": 8, "basis": "projected", "turned": True},
    {"d": 50, "parts": 16, "basis": "all", "turned": False, "storage": torch.float16},
    {"d": 64, "parts": 16, "basis": "chosen", "turned": True, "storage": torch.bfloat16},
    {"d": 100, "parts": 24, "basis": "projected", "turned": False},
    {"d": 130, "parts": 24, "basis": "chosen", "turned": False, "storage": torch.float16},
    {"d": 256, "parts": 32, "basis": "all", "turned": True},
]
forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form['d']}-{form['basis']}")
spreads = pytest.mark.parametrize("spread", [0.0, 1.0])
tiled = pytest.mark.parametrize("tiles", [False, True])
USUAL = Limits((0.8, 1.5, 2.5), 0.1, 64, 24)
ALL = Limits((1e6,), 1e6, 1, 10_000)
SURE = Limits((4.0, 12.0), 1.0, 64, 60)
"""Bounds and slack so wide that nothing is lost."""


def assert_best(found: SearchResult, of: Made, query: Tensor, k: int) -> None:
    """Each query got the best cells, by float64, once each, and empty places where there are no more."""
    score, _ = of.best(query, k)
    have = score.shape[1]
    torch.testing.assert_close(found.score[:, :have].double(), score, rtol=1e-5, atol=1e-5)
    own = (of.keys.double()[found.cell[:, :have]] @ query.double().unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(found.score[:, :have].double(), own, rtol=1e-5, atol=1e-5)
    assert bool((found.cell[:, have:] == -1).all() and (found.score[:, have:] == -math.inf).all())
    rows = set(of.rows.tolist())
    assert all(len(set(row)) == have and set(row) <= rows for row in found.cell[:, :have].tolist())


def same(one: SearchResult, other: SearchResult) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.usefixtures("instructions")
@tiled
@spreads
@forms
def test_a_search_in_plain_python_finds_and_reads_the_same(
    form: dict[str, Any], spread: float, tiles: bool
) -> None:
    groups, query = made(spread=spread, **form), queries(7, form["d"])
    found = groups.searcher().search(query, USUAL, 10, tiles=tiles)
    for row in range(len(query)):
        cells, reads, scored = Search(groups.view, groups.keys, query[row], USUAL, 10, tiles).run()
        assert found.cell[row].tolist() == cells
        assert float(found.reads[row]) == pytest.approx(reads)
        assert found.cells_scored[row] == scored == USUAL.kept


@pytest.mark.usefixtures("instructions")
@tiled
@spreads
@pytest.mark.parametrize(("own", "deviations"), [(0.7, 3.0), (0.5, 0.0), (0.0, 2.0), (0.0, 50.0)])
def test_what_groups_usually_promise_counts_as_in_plain_python(
    own: float, deviations: float, spread: float, tiles: bool
) -> None:
    groups, query = made(2000, d=20, groups=40, spread=spread), queries(7, 20, 12)
    limits = USUAL._replace(first=16, own=own, spread=deviations)
    found = groups.searcher().search(query, limits, 10, tiles=tiles)
    for row in range(len(query)):
        cells, reads, _ = Search(groups.view, groups.keys, query[row], limits, 10, tiles).run()
        assert found.cell[row].tolist() == cells
        assert float(found.reads[row]) == pytest.approx(reads)
    alone = groups.searcher().search(query, limits._replace(own=1.0), 10, tiles=tiles)
    assert not torch.equal(found.reads, alone.reads)


@pytest.mark.usefixtures("instructions")
@tiled
def test_panels_that_promise_enough_by_their_direction_are_entered_whatever_groups_usually_promise(
    tiles: bool,
) -> None:
    groups, query = made(2000, d=20, groups=40, spread=1.0), queries(7, 20, 12)
    far = Limits((0.0,), 1.0, 16, 2000, own=0.0, spread=1e6)
    found = groups.searcher().search(query, far, 10, tiles=tiles)
    none = groups.searcher().search(query, far._replace(own=1.0), 10, tiles=tiles)
    assert same(found, none)


@pytest.mark.usefixtures("instructions")
@tiled
@spreads
@pytest.mark.parametrize(("wanted", "k"), [(1, 10), (3, 10), (9, 10), (1, 24), (40, 10)])
def test_results_beyond_the_wanted_ones_are_those_met_on_the_way(
    wanted: int, k: int, spread: float, tiles: bool
) -> None:
    groups, query = made(2000, d=20, groups=40, spread=spread), queries(7, 20, 11)
    limits = USUAL._replace(first=16, wanted=wanted)
    found = groups.searcher().search(query, limits, k, tiles=tiles)
    for row in range(len(query)):
        cells, reads, _ = Search(groups.view, groups.keys, query[row], limits, k, tiles).run()
        assert found.cell[row].tolist() == cells and min(cells) >= 0
        assert float(found.reads[row]) == pytest.approx(reads)
    every = groups.searcher().search(query, limits._replace(wanted=k), k, tiles=tiles)
    fewer = float(found.reads.mean()) < float(every.reads.mean())
    assert fewer == (wanted < k)


@tiled
def test_what_is_wanted_is_found_where_nothing_can_be_lost(tiles: bool) -> None:
    groups, query = made(3000, 30, groups=60, spread=1.0), queries(40, 30, 5)
    few, last = SURE._replace(wanted=2), groups.best(query, 2)[0][:, 1].float() - 1e-4
    twin = pytorch.search_groups(query, groups.view, groups.keys, few, 10)
    for found in (groups.searcher().search(query, few, 10, tiles=tiles), twin):
        assert bool((found.score[:, 1] >= last).all()) and bool((found.cell >= 0).all())
    every = pytorch.search_groups(query, groups.view, groups.keys, SURE, 10)
    assert float(twin.reads.mean()) < float(every.reads.mean())


@pytest.mark.usefixtures("instructions")
@tiled
@pytest.mark.parametrize("groups", [1, 3])
def test_long_lists_are_searched_as_in_plain_python(groups: int, tiles: bool) -> None:
    of, query = made(4000, 8, 8, groups=groups, spread=0.3, seed=3), queries(5, 8, 3)
    assert int(of.view.cells.length.max()) > 64 * LANES  # so that thresholds rise within a list
    found = of.searcher().search(query, USUAL, 10, tiles=tiles)
    for row in range(len(query)):
        cells, reads, _ = Search(of.view, of.keys, query[row], USUAL, 10, tiles).run()
        assert found.cell[row].tolist() == cells
        assert float(found.reads[row]) == pytest.approx(reads)


@pytest.mark.usefixtures("instructions")
@tiled
@pytest.mark.parametrize("batch", [1, 2, 9, 300])
@spreads
def test_the_best_cells_are_found_where_everything_is_entered(spread: float, batch: int, tiles: bool) -> None:
    groups = made(d=33, spread=spread)
    query = torch.randn(batch, 33, generator=torch.Generator().manual_seed(2))
    for k in (1, 30, 1000):
        assert_best(groups.searcher().search(query, ALL, k, tiles=tiles), groups, query, k)


@pytest.mark.usefixtures("instructions")
@tiled
@forms
def test_the_best_cells_are_found_with_every_kind_of_codes(form: dict[str, Any], tiles: bool) -> None:
    groups, query = made(spread=0.5, **form), queries(9, form["d"], 4)
    assert_best(groups.searcher().search(query, ALL, 20, tiles=tiles), groups, query, 20)
    assert_best(pytorch.search_groups(query, groups.view, groups.keys, ALL, 20), groups, query, 20)


@pytest.mark.usefixtures("instructions")
@tiled
@pytest.mark.parametrize("batch", [1, 2, 9, 300])
def test_only_allowed_cells_are_found(batch: int, tiles: bool) -> None:
    groups = made(d=33, spread=0.5)
    query, rows = torch.randn(batch, 33, generator=torch.Generator().manual_seed(2)), len(groups.keys)
    number = torch.arange(rows) % 5
    own = torch.arange(batch) % 6
    one = torch.zeros(1, dtype=torch.int64)
    for allowed in (Filter(number == 2, one, one), Filter(number, one, one + 1), Filter(number, own, own)):
        allows = allowed.allows(groups.rows).expand(batch, -1)
        scores = (query.double() @ groups.keys[groups.rows].double().T).masked_fill(~allows, -math.inf)
        best = scores.topk(30, dim=1)
        for found in (
            groups.searcher().search(query, ALL, 30, tiles=tiles, allowed=allowed),
            pytorch.search_groups(query, groups.view, groups.keys, ALL, 30, allowed),
        ):
            torch.testing.assert_close(found.score.double(), best.values, rtol=1e-5, atol=1e-5)
            cells = groups.rows[best.indices].masked_fill(best.values == -math.inf, -1)
            assert torch.equal(found.cell, cells)


@pytest.mark.usefixtures("instructions")
@tiled
def test_groups_that_cannot_reach_are_passed_over_and_nothing_is_lost(tiles: bool) -> None:
    groups, query = made(3000, 30, groups=60, spread=1.0), queries(40, 30, 5)
    found = groups.searcher().search(query, SURE, 10, tiles=tiles)
    assert_best(found, groups, query, 10)
    assert_best(pytorch.search_groups(query, groups.view, groups.keys, SURE, 10), groups, query, 10)
    most = groups.searcher().search(query, ALL._replace(kept=SURE.kept), 10, tiles=tiles)
    assert float(found.reads.mean()) < 0.8 * float(most.reads.mean())


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("form", [FORMS[2], FORMS[4]], ids=["50", "100"])
@pytest.mark.parametrize("own", [1.0, 0.5])
@spreads
def test_at_usual_limits_pytorch_finds_hardly_more(spread: float, own: float, form: dict[str, Any]) -> None:
    # its k-th best estimate is that of the round before, which is lower, so that it enters a little more
    groups = made(4000, spread=spread, groups=70, **{**form, "storage": torch.float32})
    query = torch.randn(300, form["d"], generator=torch.Generator().manual_seed(8))
    last, limits = groups.best(query, 10)[0][:, -1:].float(), USUAL._replace(own=own, spread=3.0)
    twin = pytorch.search_groups(query, groups.view, groups.keys, limits, 10)
    found = groups.searcher().search(query, limits, 10, tiles=True)
    share, more = (float((each.score >= last - 1e-4).float().mean()) for each in (found, twin))
    assert share > 0.6
    assert -0.005 < more - share < 0.04
    assert float((found.cell == twin.cell).float().mean()) > 0.7
    assert float((found.score[:, -1] > twin.score[:, -1] + 1e-4).float().mean()) < 0.15


@pytest.mark.usefixtures("instructions")
@tiled
def test_where_the_last_score_is_negative_all_panels_are_entered(tiles: bool) -> None:
    groups, query = made(d=20, spread=1.0), queries(9, 20, 6)
    limits = Limits((0.0,), 1.0, 16, 900)
    k = len(groups.rows) * 3 // 4
    assert bool((groups.best(query, k)[0][:, -1] < 0).all())
    assert_best(groups.searcher().search(query, limits, k, tiles=tiles), groups, query, k)
    assert_best(pytorch.search_groups(query, groups.view, groups.keys, limits, k), groups, query, k)


@pytest.mark.usefixtures("instructions")
@tiled
@pytest.mark.parametrize("batch", [3, 257])
def test_a_query_finds_the_same_alone_and_in_any_number_of_threads(batch: int, tiles: bool) -> None:
    searcher = made(d=50, spread=0.5).searcher()
    query = torch.randn(batch, 50, generator=torch.Generator().manual_seed(7))
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(searcher.search(query, USUAL, 10, tiles=tiles))
    assert same(found[0], found[1]) and same(found[0], found[2])
    for row in (0, 1, batch - 1):
        alone = searcher.search(query[row : row + 1], USUAL, 10, tiles=tiles)
        assert same(alone, SearchResult(*(part[row : row + 1] for part in found[0])))


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16])
def test_reads_are_the_bytes_that_are_touched(storage: torch.dtype) -> None:
    groups, query = made(d=50, storage=storage), queries(4, 50)
    routing, cells, held = groups.view.routing, groups.view.cells, len(groups.rows)
    assert cells.screen is not None and cells.fine is not None
    panels = int(((cells.length + LANES - 1) // LANES).sum())
    begin = 20 * (52 + 8 + 8)  # codes of 13 groups of four features, along and step, and a bound
    in_full = held * (50 * keys_bytes(storage) + 4)
    short = cells.screen.shape[1] * LINE + 8  # a panel and its bound
    row, tile = cells.fine.shape[1], 16 * (7 * 4 + 8) + 8
    assert (routing.entry_bytes, row, cells.screen.shape[1]) == (60, 32, 3)
    alone = begin + panels * short + held * row + in_full
    together = begin + short + 16 * row + (panels - 1) * tile + in_full  # the first panel by short codes
    for tiles, wanted in ((False, alone), (True, together)):
        found = groups.searcher().search(query, ALL, 1, tiles=tiles)
        assert found.reads.tolist() == pytest.approx([wanted / 200] * 4)
        assert found.cells_scored.tolist() == [held] * 4


def keys_bytes(storage: torch.dtype) -> int:
    return torch.empty(0, dtype=storage).element_size()


@pytest.mark.usefixtures("instructions")
@tiled
def test_wider_is_asked_where_places_are_left(tiles: bool) -> None:
    groups, query = made(90, d=9, parts=8, groups=5), queries(3, 9)
    held, asked = len(groups.rows), []

    def wider(part: Tensor) -> SearchResult:
        asked.append(part)
        score = torch.full((len(part), held + 5), 7.0)
        return SearchResult(score, score.long(), score[:, 0], score[:, 0].long())

    searcher = groups.searcher()
    found = searcher.search(query, ALL, held + 5, tiles=tiles, places=held, wider=wider)
    assert not asked
    assert_best(found, groups, query, held + 5)
    found = searcher.search(query, ALL, held + 5, tiles=tiles, places=held + 1, wider=wider)
    assert len(asked) == 1 and torch.equal(asked[0], query)
    assert bool((found.cell == 7).all())


@tiled
@pytest.mark.parametrize("n", [0, 1, 40])
def test_few_cells_or_none(n: int, tiles: bool) -> None:
    groups, query = made(n, d=6, parts=8), queries(5, 6)
    assert_best(groups.searcher().search(query, ALL, 10, tiles=tiles), groups, query, 10)
    assert_best(pytorch.search_groups(query, groups.view, groups.keys, ALL, 10), groups, query, 10)


@tiled
def test_no_queries(tiles: bool) -> None:
    groups = made(d=6, parts=8)
    for found in (
        groups.searcher().search(torch.zeros(0, 6), USUAL, 10, tiles=tiles),
        pytorch.search_groups(torch.zeros(0, 6), groups.view, groups.keys, USUAL, 10),
    ):
        assert [tuple(part.shape) for part in found] == [(0, 10), (0, 10), (0,), (0,)]


@pytest.mark.usefixtures("instructions")
@tiled
def test_a_query_of_zeros_finds_k_cells(tiles: bool) -> None:
    groups = made(d=6, parts=8)
    found = groups.searcher().search(torch.zeros(3, 6), USUAL, 10, tiles=tiles)
    assert found.score.tolist() == [[0.0] * 10] * 3
    assert all(len(set(row)) == 10 and set(row) <= set(groups.rows.tolist()) for row in found.cell.tolist())


@tiled
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2e19])
def test_a_query_with_nan_or_infinity_is_refused(bad: float, watched: bool, tiles: bool) -> None:
    searcher, query = made(d=6, parts=8).searcher(), torch.ones(5, 6)
    query[3, 2] = bad
    with (
        LEVELS.watching() if watched else nullcontext(),
        pytest.raises(NonFiniteError, match="row 3"),
    ):
        searcher.search(query, USUAL, 10, tiles=tiles)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize(
    "query", [torch.ones(3, 5), torch.ones(3, 7), torch.ones(6), torch.tensor(1.0), torch.ones(3, 6).double()]
)
def test_a_query_of_another_shape_or_type_is_refused(query: Tensor, watched: bool) -> None:
    searcher = made(d=6, parts=8).searcher()
    with (
        LEVELS.watching() if watched else nullcontext(),
        pytest.raises(ShapeError, match="queries are"),
    ):
        searcher.search(query, USUAL, 10)


@pytest.mark.parametrize(
    "limits",
    [
        USUAL._replace(reach=()),
        USUAL._replace(first=0),
        USUAL._replace(kept=9),
        USUAL._replace(wanted=0),
        USUAL._replace(own=-0.1),
        USUAL._replace(own=1.1),
        USUAL._replace(own=math.nan),
        USUAL._replace(spread=-1.0),
        USUAL._replace(spread=math.nan),
    ],
)
def test_limits_out_of_range_are_refused(limits: Limits) -> None:
    with pytest.raises(ShapeError, match="limits of a search are out of range"):
        made(d=6, parts=8).searcher().search(queries(2, 6), limits, 10)


DAMAGES = [
    ("cells", "first_panel", "the first panel of a list is"),
    ("cells", "length", "the length of a list is"),
    ("cells", "child", "what an entry stands for is"),
    ("routing", "first_panel", "the first panel of a list is"),
    ("routing", "length", "the length of a list is"),
    ("routing", "child", "what an entry stands for is"),
]


@pytest.mark.usefixtures("instructions")
@tiled
@pytest.mark.parametrize(("level", "part", "message"), DAMAGES)
def test_numbers_that_lead_outside_are_refused(level: str, part: str, message: str, tiles: bool) -> None:
    groups, query = made(d=6, parts=8), queries(5, 6)
    damaged = getattr(getattr(groups.view, level), part)
    limits, before = torch.iinfo(damaged.dtype), damaged.clone()
    for number in (-1, 1 << 30, limits.max, limits.min):
        damaged.fill_(number)
        for count in (1, 5):
            with pytest.raises(ShapeError, match=message):
                groups.searcher().search(query[:count], ALL, 10, tiles=tiles)
    damaged.copy_(before)
    assert_best(groups.searcher().search(query, ALL, 10, tiles=tiles), groups, query, 10)


@pytest.mark.parametrize("number", [6, 1 << 30])
@pytest.mark.parametrize("part", ["basis", "order"])
def test_features_that_do_not_exist_are_refused(part: str, number: int) -> None:
    groups = made(d=6, parts=8, basis="chosen")
    getattr(groups.view, part)[0] = number
    with pytest.raises(ShapeError, match=f"a feature is {number}"):
        groups.searcher().search(queries(2, 6), USUAL, 10)


@pytest.mark.parametrize("part", ["front", "centroid", "order", "basis"])
def test_parts_that_do_not_fit_are_refused(part: str) -> None:
    groups = made(d=6, parts=8, basis="chosen")
    view = copy.copy(groups.view)
    own = getattr(view, part)
    setattr(view, part, own[:, :-1].contiguous() if own.dim() > 1 else own[:-1].repeat(4))
    with pytest.raises(ShapeError, match=r"do not fit|does not fit"):
        Made(view, groups.keys, groups.rows).searcher()


def test_a_watched_search_takes_down_what_it_looks_at() -> None:
    groups, query = made(d=20), queries(4, 20)
    with LEVELS.watching() as notes:
        found = groups.searcher().search(query, ALL, 5)
    assert_best(found, groups, query, 5)
    (steps,) = notes
    held = (groups.view.cells.length > 0).nonzero().squeeze(1)
    assert list(steps.levels) == [groups.view.routing, groups.view.cells]
    assert steps.scored == [4 * 20, 4 * len(groups.rows)]
    assert len(steps.entered) == 1 and torch.equal(steps.entered[0], held)
    with LEVELS.watching() as notes:
        few = groups.searcher().search(query[:1], Limits((0.1,), 0.0, 1, 5), 5)
    entered = notes[0].entered[0]
    assert 0 < len(entered) < len(held) and notes[0].scored[1] < len(groups.rows)
    children, _ = groups.view.cells.children_of(entered)
    assert set(few.cell[0].tolist()) <= set(children.tolist())
