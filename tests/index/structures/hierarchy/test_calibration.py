"""Data of uneven lengths is found by default, and the greatest effort is exact search."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from tests.index.reference import clustered, recall
from torch import Tensor

from hmn.errors import ShapeError
from hmn.index.storage.key_rows import KeyRows
from hmn.index.structures.exact import ExactIndex, search_all
from hmn.index.structures.hierarchy import calibration
from hmn.index.structures.hierarchy.calibration import Sample, calibrate, find_spare, set_widths
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.tuning import recall_at_k, tune
from hmn.results import SearchResult


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uneven(name: str) -> Tensor:
    """2,000 keys of 24 features."""
    keys, factor = drawn(2_000, 24), torch.ones(2_000, 1)
    if name == "one long":
        factor[17] = 100
    elif name == "ten long":
        factor[::200] = 1000
    elif name.startswith("log-normal"):
        factor = (float(name[-1]) * drawn(2_000, 1, seed=1)).exp()
    elif name == "half tiny":
        factor[::2] = 1e-3
    elif name == "heavy-tailed":
        factor = torch.rand(2_000, 1, generator=torch.Generator().manual_seed(1)) ** -0.5
        keys[:, 3] += 2
    elif name == "positive":
        keys = keys.abs()
    elif name == "offset":
        keys = keys * 0.1 + 10
    elif name == "low rank":
        keys = drawn(2_000, 3) @ drawn(3, 24, seed=1)
    elif name == "few distinct":
        keys = keys[torch.arange(2_000) % 20]
    elif name == "mostly zero":
        factor = (drawn(2_000, 1, seed=1) > 1.3).float()
    elif name == "one feature":
        keys = keys[:, :1]
    elif name == "two features":
        keys = keys[:, :2]
    return keys * factor


NAMES = [
    "one long",
    "ten long",
    "log-normal 1",
    "log-normal 2",
    "half tiny",
    "heavy-tailed",
    "positive",
    "offset",
]
NAMES += ["low rank", "few distinct", "mostly zero", "one feature", "two features", "plain"]


def asked(keys: Tensor) -> list[Tensor]:
    """Queries: near keys, of any direction, keys themselves, and opposite to keys."""
    near = keys[::20] * (1 + 0.3 * drawn(100, keys.shape[1], seed=5))
    return [near, drawn(100, keys.shape[1], seed=6), keys[::20], -near]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_nine_of_ten_best_cells_are_found_by_default(name: str) -> None:
    keys = uneven(name)
    index, exact = HierarchicalIndex(), ExactIndex(keys)
    index.build(keys)
    for query in asked(keys):
        for k in (1, 10, 50):
            assert recall_at_k(index.search(query, k), exact.search(query, k)) >= 0.9


@pytest.mark.parametrize("name", ["one long", "log-normal 2", "offset"])
def test_every_recall_is_reached_by_tuning_and_the_greatest_effort_is_exact_search(name: str) -> None:
    keys = uneven(name)
    index = HierarchicalIndex("20x170")
    index.build(keys)
    index.learn(keys[::10], torch.arange(0, 2_000, 10))
    query = asked(keys)[1]
    reads = []
    for target in (0.95, 0.99, 1.0):
        tuned = tune(index, query, 10, target_recall=target)
        assert tuned.reached
        reads.append(tuned.reads)
    assert reads == sorted(reads) and reads[0] < 1_200
    for effort in (index.max_effort, 2 * index.max_effort):
        index.effort = effort
        assert index.reach is None and index.effort == index.max_effort
        result, wanted = index.search(query, 10), ExactIndex(keys).search(query, 10)
        assert torch.equal(result.cell, wanted.cell)
        assert torch.equal(result.score, wanted.score)
        assert torch.equal(result.reads, wanted.reads)


@pytest.mark.parametrize("start", [0, 10, 2_000])
def test_keys_that_are_far_longer_may_be_added(start: int) -> None:
    keys = torch.cat([drawn(2_000, 24), drawn(10, 24, seed=1) * 1000])
    index = HierarchicalIndex()
    index.build(keys[:start].clone())
    for cells in torch.split(torch.arange(start, 2_000), 700):
        index.add(cells, keys[cells])
    index.add(torch.arange(2_000, 2_010), keys[2_000:])
    for query in (drawn(100, 24, seed=2), keys[:100]):
        assert recall(index.search(query, 10), query, keys, 10) >= 0.9


def test_a_few_cells_that_grow_step_by_step_are_all_scored() -> None:
    keys = drawn(60, 8)
    index = HierarchicalIndex()
    index.build(keys[:2])
    for have, more in pairwise((2, 7, 11, 20, 33, 50, 60)):
        index.add(torch.arange(have, more), keys[have:more])
        result = index.search(keys[:5], 4)
        assert result.cells_scored.tolist() == [more] * 5
        torch.testing.assert_close(result.score, (keys[:5] @ keys[:more].T).topk(4).values)


def test_keys_that_all_get_another_length_are_found() -> None:
    keys = drawn(2_000, 24)
    index = HierarchicalIndex()
    index.build(keys.clone())
    uneven = keys * (2 * drawn(2_000, 1, seed=1)).exp()
    index.update(torch.arange(2_000), uneven)
    query = drawn(100, 24, seed=2)
    assert recall(index.search(query, 10), query, uneven, 10) >= 0.9


def test_what_was_measured_is_saved_and_not_measured_again() -> None:
    keys = uneven("log-normal 1")
    index, other = HierarchicalIndex(), HierarchicalIndex()
    index.build(keys)
    index.add(torch.arange(2_000, 2_200), keys[:200])
    state = index.state_dict()
    other.load_state_dict(state)
    for name in ("spare", "added", "longest"):
        assert getattr(other.tree, name) == getattr(index.tree, name)
    assert [(tier.rank, tier.width) for tier in other.tree.tiers] == [
        (tier.rank, tier.width) for tier in index.tree.tiers
    ]
    assert other.tree.added == 200
    for measured in (torch.zeros(2), -torch.ones(4), torch.full((4,), math.nan)):
        with pytest.raises(ShapeError, match="measured"):
            other.load_state_dict({**state, "measured": measured})


def test_widths_let_in_the_groups_of_the_best_cells_whatever_the_length_of_queries() -> None:
    keys, query = clustered(0, 4_000, 400)
    query = query + drawn(400, 32)
    cell = (query.double() @ keys.double().T).argmax(dim=1)
    widths = []
    for factor in (1.0, 20.0):
        index = HierarchicalIndex("40x400")
        index.build(keys)
        index.learn(query * factor, cell, vectors=False)
        widths.append([tier.width for tier in index.tree.tiers])
        leaf, inside = index.tree.cells.filing.parent[cell], torch.ones(400, dtype=torch.bool)
        for tier, group in zip(
            index.tree.tiers, (index.tree.tiers[1].filing.parent[leaf], leaf), strict=True
        ):
            score = (query @ tier.coded[tier.live()].T) / query.norm(dim=1, keepdim=True)
            own = (query * tier.coded[group]).sum(dim=1) / query.norm(dim=1)
            inside &= score.topk(math.ceil(tier.rank)).values[:, -1] - own <= tier.width + 1e-5
        assert 0.98 <= float(inside.float().mean()) < 1
    torch.testing.assert_close(torch.tensor(widths[0]), torch.tensor(widths[1]), rtol=1e-3, atol=1e-6)


def test_tiers_together_let_in_enough_and_no_tier_could_be_narrower() -> None:
    keys, _ = clustered(1, 4_000, 1)
    index = HierarchicalIndex("40x400")
    index.build(keys)
    query = torch.nn.functional.normalize(clustered(1, 4_000, 200)[1] + 2 * drawn(200, 32), dim=1)
    cell = (query @ keys.T).topk(10, dim=1).indices
    sample = Sample(query, cell, (1, 10), 1)
    set_widths(index.tree, sample, 0.9)
    first, last = index.tree.tiers
    leaf = index.tree.cells.filing.parent[cell]
    inside = torch.ones(200, 10, dtype=torch.bool)
    for tier, group in ((first, last.filing.parent[leaf]), (last, leaf)):
        score = query @ tier.coded[tier.live()].T
        anchor = score.topk(math.ceil(tier.rank * math.sqrt(10)), dim=1).values[:, -1:]
        own = (query.unsqueeze(1) * tier.coded[group]).sum(dim=2)
        inside &= anchor - own <= tier.width + 1e-6
    assert 0.9 <= float(inside.float().mean()) < 1


@pytest.mark.parametrize(
    ("cells", "most", "shares", "tried", "chosen"),
    [
        (1_000, 2_048, (0.5, 0.7, 0.9), (0, 24, 72), 72),
        (1_000, 2_048, (0.9,), (0,), 0),
        (1_000, 2_048, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), (0, 24, 72, 168, 360, 744), 744),
        (1_000, 2_048, (0.5, 0.6, 0.604, 0.603, 0.602, 0.601), (0, 24, 72, 168, 360, 744), 24),
        (1_000, 2_048, (0.5, 0.6, 0.606, 0.6, 0.6, 0.6), (0, 24, 72, 168, 360, 744), 72),
        (1_000, 100, (0.1, 0.2, 0.3, 0.4), (0, 24, 72, 168), 168),
        (144, 2_048, (0.1, 0.2, 0.3), (0, 24, 72), 72),
    ],
)
def test_as_many_more_cells_are_scored_in_full_as_is_worth_while(
    monkeypatch: pytest.MonkeyPatch,
    cells: int,
    most: int,
    shares: tuple[float, ...],
    tried: tuple[int, ...],
    chosen: int,
) -> None:
    monkeypatch.setattr(calibration, "MOST_SPARE", most)
    index = HierarchicalIndex("8")
    index.build(drawn(cells, 8))
    spares: list[int] = []

    def found() -> float:
        spares.append(index.tree.spare)
        return shares[len(spares) - 1]

    share = find_spare(index.tree, 0.9, found)
    assert tuple(spares) == tried
    assert (index.tree.spare, share) == (chosen, shares[tried.index(chosen)])


@pytest.mark.parametrize(
    ("shares", "times"),
    [
        ((0.95,), 0),
        ((0.5, 0.95), 1),
        ((0.5, 0.6, 0.7, 0.702), 2),
        ((0.5, 0.4), 0),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.94), 8),
    ],
)
@pytest.mark.parametrize("dearer", [0, 1])
def test_a_search_is_made_a_quarter_wider_as_long_as_it_finds_more(
    shares: tuple[float, ...], times: int, dearer: int
) -> None:
    index = HierarchicalIndex("8")
    index.build(drawn(100, 8))
    rows, tree = index.tree.cells.rows, index.tree
    (tier,) = tree.tiers
    seen: list[tuple[float, float]] = []

    def search(query: Tensor, k: int) -> SearchResult:
        """Answer a share of the queries of the third kind and all others, at the price of all cells."""
        seen.append((tier.rank, tier.width))
        wider = round(math.log(tier.width / seen[0][1]) / math.log(1.25))
        assert tier.rank == pytest.approx(seen[0][0] * 1.25**wider)
        result = search_all(rows, query, k)
        kind = len(query) // 5
        place = torch.arange(len(query)) - 2 * kind
        lost = (place >= math.ceil(shares[wider] * kind)) & (place < kind)
        score = result.score.masked_fill(lost.unsqueeze(1), -math.inf)
        return result._replace(score=score, reads=result.reads + dearer)

    calibrate(tree, rows, search)
    rank, width = seen[0]
    assert (tier.rank, tier.width) == pytest.approx((rank * 1.25**times, width * 1.25**times))
    assert tree.spare == (2 * 100 if dearer else 0)


def test_the_worst_kind_of_queries_counts() -> None:
    sample = Sample(torch.zeros(4, 3), torch.zeros(4, 2, dtype=torch.int64), (1, 2), 2)
    found = torch.tensor([[1, 0], [1, 1], [1, 1], [0, 0]]).bool()
    assert [sample.lowest(found, number) for number in (0, 1)] == [0.5, 0.5]
    gap = torch.tensor([[0.0, 4.0], [1.0, 5.0], [3.0, 0.0], [2.0, 0.0]])
    assert [sample.quantile(gap, 0, share) for share in (0.5, 1.0)] == [2.5, 3.0]
    assert [sample.quantile(gap, 1, share) for share in (0.5, 1.0)] == [2.5, 5.0]


def test_scores_that_differ_by_rounding_alone_count_as_equal() -> None:
    for exact in (torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[-1.0, -2.0, -3.0]])):
        best = SearchResult(exact.expand(3, 3), torch.zeros(3, 3), torch.zeros(3), torch.zeros(3))
        mine = exact[:, :2] - torch.tensor([[0.0], [5e-6], [1e-3]])
        found = calibration._found(best, best._replace(score=mine))
        assert found.tolist() == [[True, True], [True, True], [True, False]]


def test_the_tier_where_it_saves_most_is_made_narrower(monkeypatch: pytest.MonkeyPatch) -> None:
    index = HierarchicalIndex("4x20")
    index.build(drawn(200, 8))
    ranks, steps = len(calibration.RANKS), len(calibration.SHARES)
    width = [[1.0 - step / 100 for step in range(steps)]] * ranks
    for dear in (0, 1):
        gaps = []
        for number in (0, 1):  # either tier, if made narrower, keeps out another one of 20 cells
            gap = torch.zeros(ranks, 1, 20, 1)
            gap[:, :, number] = 1.0
            saved = 10.0 if number == dear else 1.0
            cost = [[100.0 + (rank != 1) - saved * step for step in range(steps)] for rank in range(ranks)]
            gaps.append(calibration._Gaps(gap, width, cost))
        monkeypatch.setattr(calibration, "_gaps", lambda *_, gaps=gaps: gaps.pop())  # from the last tier on
        sample = Sample(drawn(20, 8), torch.zeros(20, 1, dtype=torch.int64), (1,), 1)
        set_widths(index.tree, sample, 0.95)
        tiers = index.tree.tiers
        assert [tier.rank for tier in tiers] == [2.0, 2.0]
        assert [tiers[dear].width, tiers[1 - dear].width] == [width[0][-1], 1.0]


def test_the_number_of_results_for_which_least_is_let_in_counts() -> None:
    sample = Sample(torch.zeros(4, 3), torch.zeros(4, 2, dtype=torch.int64), (1, 2), 1)
    ranks = len(calibration.RANKS)
    gap = torch.tensor([0.0, 2.0]).expand(ranks, 2, 4, 2)  # the second best cell of every query is far below
    gaps = calibration._Gaps(gap, [[1.0]] * ranks, [[1.0] * len(calibration.SHARES)] * ranks)
    assert calibration._let_in(sample, [gaps], [0]) == 0.5


@pytest.mark.parametrize("at_a_time", [1 << 24, 1])
def test_scores_and_costs_of_groups_agree_with_float64(
    monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(calibration, "SCORES_AT_A_TIME", at_a_time)
    index = HierarchicalIndex("4x20")
    index.build(drawn(200, 8))
    tier = index.tree.tiers[-1]
    live, group = tier.live(), tier.live()[torch.arange(100).view(50, 2) % len(tier)]
    sample = Sample(drawn(50, 8), group, (1, 4), 1)
    score = sample.query.double() @ tier.coded[live].double().T
    ranks = [min(len(live), math.ceil(rank * root)) for rank in (1, 2, 4, 8, 16) for root in (1, 2)]
    expected = score.sort(dim=1, descending=True).values[:, [rank - 1 for rank in ranks]].T.view(5, 2, 50)
    anchor, own, near = calibration._scores(tier, sample, group)
    torch.testing.assert_close(anchor.double(), expected, rtol=1e-5, atol=1e-5)
    wanted = (sample.query.unsqueeze(1).double() * tier.coded[group].double()).sum(dim=2)
    torch.testing.assert_close(own.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(near.double(), score[:32], rtol=1e-5, atol=1e-5)
    gaps = calibration._gaps(tier, sample, group)
    entered = score[:32] >= expected[2, 1, :32].unsqueeze(1) - gaps.width[2][0]
    cells = 200 / len(live)  # per leaf
    bytes_read = (
        cells * index.tree.cells.filing.lists.level.entry_bytes * float(entered.sum(dim=1).double().mean())
    )
    assert gaps.cost[2][0] == pytest.approx(bytes_read, rel=1e-2)


@pytest.mark.parametrize(("cells", "count"), [(200, 128), (200_000, 64), (1_000_000, 48)])
def test_queries_of_five_kinds_are_drawn_and_fewer_of_many_cells(cells: int, count: int) -> None:
    rows = KeyRows(drawn(cells, 2 if cells > 200 else 8), None, None)
    query = calibration._queries(rows, 0)
    near, key, opposite, other, anywhere = query.view(5, count, rows.features)
    torch.testing.assert_close(query.norm(dim=1), torch.ones(5 * count))
    assert torch.equal(opposite, -near) and torch.equal(other, -key)
    if cells == 200:
        unit = torch.nn.functional.normalize(rows.keys[:cells], dim=1)
        best = [(kind @ unit.T).amax(dim=1) for kind in (near, key, anywhere)]
        assert float(best[1].min()) > 1 - 1e-5 > float(best[0].min()) > 0.8  # noise is shorter than keys
        assert float(best[2].mean()) < float(best[0].mean())


def test_few_of_the_queries_say_how_many_cells_to_score_in_full() -> None:
    index = HierarchicalIndex("8")
    index.build(drawn(100, 8))
    rows, tree = index.tree.cells.rows, index.tree
    asked: list[Tensor] = []

    def search(query: Tensor, k: int) -> SearchResult:
        asked.append(query)
        return search_all(rows, query, k)

    query = drawn(600, 8, seed=1)
    unit = query / query.norm(dim=1, keepdim=True)
    calibration.learn_widths(tree, query, search_all(rows, query, 1).cell.squeeze(1), search)
    assert len(asked) == 1 and tree.spare == 0  # all of them were found at once
    torch.testing.assert_close(asked[0], unit[:512])


def test_widths_let_in_more_of_the_best_cells_than_must_be_found() -> None:
    index = HierarchicalIndex("40")
    index.build(drawn(400, 8))
    rows, (tier,) = index.tree.cells.rows, index.tree.tiers
    calibrate(index.tree, rows, partial(search_all, rows))  # finds all, so that nothing is made wider
    query = calibration._queries(rows, index.tree.seed)
    score = query @ tier.coded[tier.live()].T
    for k in (1, 10, 50):
        leaf = index.tree.cells.filing.parent[search_all(rows, query, k).cell]
        own = (query.unsqueeze(1) * tier.coded[leaf]).sum(dim=2)
        rank = min(len(tier), math.ceil(tier.rank * math.sqrt(k)))
        inside = score.topk(rank).values[:, -1:] - own <= tier.width + 1e-6
        assert float(inside.double().view(5, -1).mean(dim=1).min()) >= 0.975
