"""How far a search looks is measured so that most of the best cells are found, whatever the keys are."""

from __future__ import annotations

import pytest
import torch
from tests.index.reference import clustered, recall
from tests.index.structures.hierarchy.sound import assert_sound
from torch import Tensor
from torch.nn import functional as F

from hmn.index.structures.hierarchy import calibration
from hmn.index.structures.hierarchy.calibration import FEW_CELLS
from hmn.index.structures.hierarchy.groups import SCORE_ALONE, Promise
from hmn.index.structures.hierarchy.index import HierarchicalIndex


@pytest.mark.parametrize("cells", [FEW_CELLS - 14, FEW_CELLS])
def test_all_of_few_cells_are_scored_also_for_one_result(cells: int) -> None:
    generator = torch.Generator().manual_seed(cells)
    keys, query = torch.randn(2, cells, 50, generator=generator)
    index = HierarchicalIndex()
    index.build(keys)
    assert recall(index.search(query, 1), query, keys, 1) == 1.0


def test_a_few_cells_more_are_found_before_limits_are_measured() -> None:
    generator = torch.Generator().manual_seed(0)
    keys, query = torch.randn(2, 2 * FEW_CELLS - 4, 50, generator=generator)
    index = HierarchicalIndex()
    index.build(keys[:FEW_CELLS])
    index.add(torch.arange(FEW_CELLS, len(keys)), keys[FEW_CELLS:])
    assert index.groups.measured.added == len(keys) - FEW_CELLS
    assert recall(index.search(query, 1), query, keys, 1) == 1.0


@pytest.mark.parametrize("length", [1e-30, 1e-8, 1e8])
def test_the_length_of_keys_does_not_matter(length: float) -> None:
    generator = torch.Generator().manual_seed(0)
    keys, query = torch.randn(1_000, 20, generator=generator), torch.randn(50, 20, generator=generator)
    index = HierarchicalIndex()
    index.build(length * keys)
    assert recall(index.search(query, 10), query, keys, 10) > 0.95


@pytest.mark.parametrize("features", [1, 3, 30])
def test_keys_of_zeros_among_others_cost_neither_recall_nor_reads(features: int) -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(4_000, features, generator=generator)
    keys[torch.rand(4_000, generator=generator) < 0.5] = 0.0
    query = torch.randn(50, features, generator=generator)
    index = HierarchicalIndex()
    index.build(keys)
    assert index.groups.measured.most.reach < 5.0
    assert recall(index.search(query, 10), query, keys, 10) > 0.95


def test_queries_of_zeros_read_no_more_than_others() -> None:
    generator = torch.Generator().manual_seed(0)
    keys, query = torch.randn(4_000, 64, generator=generator), torch.randn(50, 64, generator=generator)
    index = HierarchicalIndex()
    index.build(keys)
    result = index.search(torch.zeros(50, 64), 10)
    assert bool((result.cell >= 0).all())
    assert float(result.reads.mean()) < float(index.search(query, 10).reads.mean())


def reads_at(share: float, index: HierarchicalIndex, query: Tensor, keys: Tensor) -> float:
    """Reads per query where this share of the ten best cells is found, between two values of reach."""
    before = 0.0, 0.0
    for reach in range(20, 200, 5):
        index.reach = reach
        result = index.search(query, 10)
        found, reads = recall(result, query, keys, 10), float(result.reads.mean())
        if found >= share:
            part = (share - before[0]) / (found - before[0])
            return before[1] + part * (reads - before[1])
        before = found, reads
    raise AssertionError(f"{share} of the best cells are never found")


def test_what_panels_must_promise_is_chosen_so_that_few_are_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(1_000, 64, generator=generator)
    keys = centre[torch.randint(1_000, (20_000,), generator=generator)]
    keys = F.normalize(keys + torch.randn(20_000, 64, generator=generator), dim=1)
    near, noise = keys[:300], F.normalize(torch.randn(300, 64, generator=generator), dim=1)
    query = torch.lerp(noise, near, torch.rand(300, 1, generator=generator))
    far, reads = Promise(0.0, 50.0), []
    for promises in ((far, *calibration.PROMISES), (SCORE_ALONE,)):
        monkeypatch.setattr(calibration, "PROMISES", promises)
        index = HierarchicalIndex(200)
        index.build(keys)
        assert index.groups.measured.promise != far
        assert (index.groups.measured.promise == SCORE_ALONE) == (len(promises) == 1)
        reads.append(reads_at(0.9, index, query, keys))
    assert reads[0] < 0.97 * reads[1]


@pytest.mark.parametrize(("cells", "alone"), [(4_095, True), (4_096, False)])
def test_nothing_is_chosen_for_few_cells(cells: int, alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    monkeypatch.setattr(calibration, "PROMISES", (Promise(0.5, 2.0),))
    index = HierarchicalIndex()
    index.build(torch.randn(cells, 20, generator=generator))
    assert (index.groups.measured.promise == SCORE_ALONE) == alone


@pytest.mark.parametrize("zeros", [False, True])
def test_few_queries_and_queries_of_zeros_teach_nothing(zeros: bool) -> None:
    keys, query = clustered(0, 3_000, 120)
    index = HierarchicalIndex()
    index.build(keys)
    measured = index.groups.measured
    before = measured.usual, measured.most, measured.added
    query = torch.cat([query[:49], torch.zeros(71, query.shape[1])]) if zeros else query[:49]
    best = (query @ keys.T).argmax(dim=1)
    index.learn(query, best)
    assert (measured.usual, measured.most, measured.added) == before
    _, more = clustered(0, 3_000, 120)
    index.learn(more[:50], (more[:50] @ keys.T).argmax(dim=1))
    assert index.groups.measured.added == -1


@pytest.mark.parametrize("loaded", [False, True])
def test_cells_that_all_get_other_keys_bit_by_bit_are_found(loaded: bool) -> None:
    old, _ = clustered(1, 3_000, 1)
    generator = torch.Generator().manual_seed(0)
    keys, query = (torch.randn(rows, 32, generator=generator) for rows in (3_000, 100))
    index, fresh = HierarchicalIndex(), HierarchicalIndex()
    index.build(old)
    fresh.build(keys)
    before = index.groups.measured
    parts = torch.randperm(3_000, generator=generator).split(150)
    for number, part in enumerate(parts):
        assert index.groups.measured is before or loaded
        assert index.groups.measured.written == 150 * number
        index.update(part, keys[part])
        if loaded and number == 9:
            state = index.state_dict()
            index = HierarchicalIndex()
            index.load_state_dict(state)
    assert index.groups.measured.written == 0
    found, wanted = (recall(each.search(query, 10), query, keys, 10) for each in (index, fresh))
    assert found > wanted - 0.03


def test_what_was_learned_stays_whatever_is_written() -> None:
    keys, query = clustered(0, 1_000, 120)
    index = HierarchicalIndex()
    index.build(keys)
    index.learn(query, (query @ keys.T).argmax(dim=1))
    measured = index.groups.measured
    learned = measured.usual, measured.most
    for number, part in enumerate(torch.arange(1_000).split(100) * 2):
        index.update(part, keys[part] * 1.1)
        assert index.groups.measured.written == 100 * ((number + 1) % 10)
    assert (index.groups.measured.usual, index.groups.measured.most) == learned
    assert index.groups.measured.added == -1 and index.groups.measured.turns == 2


@pytest.mark.parametrize("learned", [False, True])
def test_groups_are_made_again_after_as_many_writes_as_cells_then_twice_and_four_times(learned: bool) -> None:
    keys, query = clustered(0, 1_000, 120)
    index = HierarchicalIndex()
    index.build(keys)
    if learned:
        index.learn(query, (query @ keys.T).argmax(dim=1))
    again = []
    for turn in range(1, 10):
        before = index.groups
        for part in torch.arange(1_000).split(250):
            index.update(part, keys[part])
        again += [turn] if index.groups is not before else []
        assert_sound(index)
    assert again == [1, 2, 4, 8]
    assert recall(index.search(query, 10), query, keys, 10) > 0.9
