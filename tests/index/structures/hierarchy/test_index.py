"""The index as users see it: settings, what it finds, and when it measures again."""

from __future__ import annotations

import pytest
import torch
from tests.index.reference import assert_best, clustered, recall
from tests.index.structures.hierarchy.sound import assert_sound

from hmn._native import backend, kernels
from hmn.errors import CellError, ConfigError, NotFittedError, ShapeError
from hmn.index.structures.hierarchy import calibration
from hmn.index.structures.hierarchy import index as grouped
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.structures.hierarchy.upkeep import GROWN


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"num_groups": 0}, "num_groups is 0"),
        ({"num_groups": "3x"}, "num_groups is '3x'"),
        ({"reach": 0}, "reach is 0"),
        ({"rescore": 0}, "rescore is 0"),
        ({"wanted": 0}, "wanted is 0"),
        ({"codes": "int2"}, "codes is 'int2', expected one of int1, int4, int8"),
        ({"parts": 12}, "parts is 12, expected one of 8, 16, 24, 32, or None"),
        ({"seed": -1}, "seed is -1"),
        ({"on_progress": 3}, "on_progress is 3"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        HierarchicalIndex(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("groups", [7, "7", [7], (7, 90), "7x90"])
@pytest.mark.parametrize("codes", ["int1", "int4", "int8"])
def test_settings_of_tiers_are_read_as_those_of_one_tier(groups: object, codes: str) -> None:
    keys, _ = clustered(0, 300, 1)
    index, plain = HierarchicalIndex(groups, codes=codes), HierarchicalIndex(7)  # type: ignore[arg-type]
    index.build(keys)
    plain.build(keys)
    state = index.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in plain.state_dict().items())


@pytest.mark.skipif(kernels() == "twin", reason="PyTorch has no short codes")
def test_with_codes_of_4_bits_many_queries_skip_the_short_codes() -> None:
    keys, query = clustered(0, 5_000, 40)
    short, tiled = HierarchicalIndex(reach=200), HierarchicalIndex(reach=200, codes="int4")
    for index in (short, tiled):
        index.build(keys)
    few, many = tiled.search(query[:7], 10), tiled.search(query, 10)
    assert torch.equal(few.reads, short.search(query, 10).reads[:7])
    more = many.reads[:7] - few.reads
    assert bool((more >= 0).all()) and int((more > 0).sum()) >= 4
    found = recall(many, query, keys, 10)
    assert found >= recall(short.search(query, 10), query, keys, 10) > 0.9


def test_what_needs_cells_is_refused_before_a_build() -> None:
    index = HierarchicalIndex()
    for ask in (lambda: index.groups, lambda: index.max_effort, index.forget):
        with pytest.raises(NotFittedError):
            ask()


@pytest.mark.parametrize("reach", [None, 1000, 5000])
def test_at_the_greatest_reach_the_search_is_exact(reach: int | None) -> None:
    keys, query = clustered(0, 3_000, 40)
    index = HierarchicalIndex(reach=reach)
    index.build(keys.clone())
    index.remove(torch.arange(500))
    held = {cell: keys[cell] for cell in range(500, 3_000)}
    assert_best(index.search(query, 10), query, held, 10)


def test_most_of_the_best_cells_are_found_at_a_fraction_of_the_cost_also_after_changes() -> None:
    keys, query = clustered(0, 10_000, 100)
    index = HierarchicalIndex()
    index.build(keys[:6_000].clone())
    index.add(torch.arange(6_000, 10_000), keys[6_000:])
    index.update(torch.arange(2_000), keys[:2_000] * 1.5)
    keys[:2_000] *= 1.5
    result = index.search(query, 10)
    assert recall(result, query, keys, 10) > 0.93
    assert float(result.reads.mean()) < 0.3 * 10_000


def test_effort_is_the_reach_and_a_wider_one_reads_more() -> None:
    keys, query = clustered(0, 6_000, 40)
    index = HierarchicalIndex()
    index.build(keys)
    reads = []
    for effort in (30, 100, 300):
        index.effort = effort
        assert index.effort == index.reach == effort
        reads.append(float(index.search(query, 10).reads.mean()))
    assert reads[0] < reads[1] < reads[2]
    index.effort = index.max_effort
    assert index.reach is None and index.effort == 1000


def test_rescore_says_how_many_cells_are_scored_in_full() -> None:
    keys, query = clustered(0, 4_000, 5)
    index = HierarchicalIndex(rescore=37)
    index.build(keys)
    index.reach = 999
    assert int(index.search(query, 3).cells_scored.max()) == 37
    index.rescore = 2
    assert index.search(query, 3).cells_scored.tolist() == [3] * 5


@pytest.mark.parametrize("codes", ["int1", "int4"])
def test_a_search_for_the_best_cell_reads_less_and_still_fills_its_results(codes: str) -> None:
    keys, query = clustered(0, 20_000, 100)
    index = HierarchicalIndex(codes=codes)
    index.build(keys)
    every, measured = index.search(query, 10), index.groups.measured
    index.wanted = 1
    found = index.search(query, 10)
    assert float(found.reads.mean()) < 0.95 * float(every.reads.mean())
    assert bool((found.cell >= 0).all()) and recall(found, query, keys, 1) >= 0.9
    assert recall(every, query, keys, 10) > recall(found, query, keys, 10) > 0.3
    ready = HierarchicalIndex(codes=codes, wanted=1)
    ready.build(keys)
    assert ready.groups.measured == measured  # for all results, whatever is wanted
    assert torch.equal(ready.search(query, 10).cell, found.cell)
    index.wanted = 10
    assert torch.equal(index.search(query, 10).reads, every.reads)


def test_stats_say_how_many_groups_there_are_and_what_they_hold() -> None:
    keys, _ = clustered(0, 1_000, 1)
    index = HierarchicalIndex(20, parts=8)
    index.build(keys)
    stats = index.stats()
    assert stats["structure"] == "hierarchy" and stats["parts"] == 8 and stats["reach"] == 100
    assert stats["num_groups"] == len(index.groups)
    assert stats["largest_group"] == int(torch.bincount(index.groups.group).max())
    level = index.groups.cells.level
    assert level.screen is not None and level.fine is not None
    held = level.codes.nbytes + level.screen.nbytes + level.fine.nbytes
    assert held < float(stats["codes_mib"]) * 2**20 < 2 * held


def test_limits_are_learned_from_queries_for_cells_that_exist() -> None:
    keys, query = clustered(0, 3_000, 400)
    index = HierarchicalIndex()
    index.build(keys)
    best = (query @ keys.T).argmax(dim=1)
    index.learn(query, best)
    assert float((index.search(query, 1).cell[:, 0] == best).double().mean()) > 0.9
    index.forget()
    with pytest.raises(ShapeError, match="there are 400 queries for 399 cells"):
        index.learn(query, best[1:])
    with pytest.raises(CellError):
        index.learn(query, best + 3_000)
    for cells in (torch.zeros(400, 0, dtype=torch.int64), torch.arange(3_001).repeat(400, 1)):
        with pytest.raises(ShapeError, match="expected at least 1 and at most the 3000 that the index has"):
            index.learn(query, cells)


def test_limits_are_learned_for_as_many_results_as_cells_are_given_in_any_order() -> None:
    generator = torch.Generator().manual_seed(0)
    keys, given, other = (torch.randn(count, 32, generator=generator) for count in (8_000, 512, 512))
    best = (given @ keys.T).topk(20, dim=1).indices
    index, measured = HierarchicalIndex(), []
    index.build(keys)
    for cells in (best, best.flip(1), best[:, :1]):
        index.learn(given, cells)
        measured.append((index.groups.measured.usual, index.groups.measured.promise))
        found = recall(index.search(other, cells.shape[1]), other, keys, cells.shape[1])
        assert abs(found - calibration.LEARNED) < 0.02
    assert measured[0] == measured[1] != measured[2]


def test_it_measures_again_when_half_of_the_cells_are_new_or_one_is_far_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[int] = []
    calibrate = grouped.calibrate

    def counted(groups: grouped.Groups, *others: object) -> None:
        measured.append(len(groups.rows))
        calibrate(groups, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(grouped, "calibrate", counted)
    keys, _ = clustered(0, 1_000, 1)
    index = HierarchicalIndex(storage=torch.float32)
    index.build(keys[:400].clone())
    codes = index.groups.short
    for part in torch.split(torch.arange(400, 1_000), 50):
        index.add(part, keys[part])
        assert (index.groups.short is codes) == (len(measured) == 1)
    assert measured == [400, 800]
    index.update(torch.tensor([5]), 1.5 * keys[5:6])
    assert len(measured) == 2
    index.update(torch.tensor([5]), 100 * keys[5:6])
    assert measured == [400, 800, 1_000]
    assert_sound(index)


def test_groups_become_larger_while_cells_are_added_one_by_one() -> None:
    keys, _ = clustered(0, 700, 1)
    index = HierarchicalIndex()
    index.build(keys[:0].clone())
    for cell in range(700):
        index.add(torch.tensor([cell]), keys[cell : cell + 1])
    assert_sound(index)
    assert 700 / 48 <= len(index.groups) <= 700 / 8
    assert index.groups.bound == 16 * GROWN


@pytest.mark.parametrize("compiled", [True, False])
def test_an_index_may_be_built_without_cells_and_lose_all(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(backend, "compiled", None)
    index, query = HierarchicalIndex(), torch.ones(2, 3)
    index.build(torch.zeros(0, 3))
    for _ in range(2):
        assert index.search(query, 2).cell.tolist() == [[-1, -1]] * 2
        index.add(torch.arange(2), torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
        assert index.search(query, 2).cell.tolist() == [[1, 0]] * 2
        index.remove(torch.arange(2))


@pytest.mark.parametrize("features", [1, 2, 3, 4, 8, 12, 20])
@pytest.mark.parametrize("k", [1, 10, 50])
def test_no_search_of_few_features_reads_more_than_all_keys(features: int, k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for cells in (70, 100, 300, 1_000, 4_000):
        keys, query = (torch.randn(rows, features, generator=generator) for rows in (cells, 40))
        index = HierarchicalIndex(storage=torch.float32)
        index.build(keys)
        assert float(index.search(query, k).reads.max()) <= cells
