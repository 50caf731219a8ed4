"""When the index measures again how far to look."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hmn.index.storage.key_rows import KeyRows
from hmn.index.structures.hierarchy import calibration
from hmn.index.structures.hierarchy import index as entry
from hmn.index.structures.hierarchy.calibration import calibrate
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.structures.hierarchy.tree import Tree


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of cells at each measurement."""
    numbers: list[int] = []

    def noted(tree: Tree, rows: KeyRows, search: calibration.Search) -> None:
        numbers.append(len(rows))
        calibrate(tree, rows, search)

    monkeypatch.setattr(entry, "calibrate", noted)
    return numbers


def drawn(count: int) -> Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(0))


def of_length_one(count: int) -> Tensor:
    """Keys whose lengths are exactly 1."""
    return torch.eye(8)[torch.arange(count) % 8]


def test_widths_are_measured_again_once_half_of_the_cells_were_added(measured: list[int]) -> None:
    index, held = HierarchicalIndex("8"), 100
    index.build(of_length_one(held))
    for count in (60, 39, 1, 100, 99, 1):
        index.add(torch.arange(held, held + count), of_length_one(count))
        held += count
    assert measured == [100, 200, 400]


def test_widths_are_measured_again_where_half_of_the_cells_are_written_at_once(measured: list[int]) -> None:
    index = HierarchicalIndex("8")
    index.build(of_length_one(100))
    for count in (49, 49, 49, 50):  # cells that are written again and again are no new ones
        index.update(torch.arange(count), of_length_one(count))
        assert measured == ([100] if count < 50 else [100, 100])


@pytest.mark.parametrize("at_a_time", [1 << 16, 1])
def test_widths_are_measured_again_where_a_key_is_more_than_twice_as_long(
    measured: list[int], monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(calibration, "KEYS_AT_A_TIME", at_a_time)
    index = HierarchicalIndex("8")
    index.build(of_length_one(100))
    index.update(torch.tensor([3]), 2.0 * of_length_one(1))
    index.add(torch.tensor([100]), 2.0 * of_length_one(1))
    assert measured == [100]
    index.add(torch.tensor([101, 102]), torch.tensor([[1.0], [2.1]]) * of_length_one(2))
    assert measured == [100, 103]
    index.update(torch.tensor([3, 4]), torch.tensor([[4.1], [1.0]]) * of_length_one(2))
    assert measured == [100, 103]
    index.update(torch.tensor([5]), 4.3 * of_length_one(1))
    assert measured == [100, 103, 103]


def test_a_change_of_no_cells_measures_nothing(measured: list[int]) -> None:
    index = HierarchicalIndex("8")
    index.build(of_length_one(100))
    index.add(torch.arange(100, 140), of_length_one(40))
    index.remove(torch.arange(80))  # two thirds of the others are new
    none = torch.arange(0)
    index.add(none, torch.zeros(0, 8))
    index.update(none, torch.zeros(0, 8))
    assert measured == [100]


def test_what_was_learned_is_not_measured_again(measured: list[int]) -> None:
    keys = drawn(200)
    index = HierarchicalIndex("8")
    index.build(keys[:100])
    index.learn(keys[:50], torch.arange(50))
    learned = [(tier.rank, tier.width, index.tree.spare) for tier in index.tree.tiers]
    index.add(torch.arange(100, 200), keys[100:])
    index.update(torch.arange(200), 10 * keys)
    assert measured == [100]
    assert [(tier.rank, tier.width, index.tree.spare) for tier in index.tree.tiers] == learned


@pytest.mark.parametrize("vectors", [True, False])
def test_no_queries_teach_nothing(vectors: bool) -> None:
    index = HierarchicalIndex("8")
    index.build(drawn(100))
    before = {name: tensor.clone() for name, tensor in index.state_dict().items()}
    index.learn(torch.zeros(0, 8), torch.arange(0), vectors=vectors)
    after = index.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize(("cells", "few"), [(64, True), (65, False)])
def test_widths_are_measured_from_65_cells_on(cells: int, few: bool) -> None:
    index = HierarchicalIndex("8")
    index.build(drawn(cells))
    assert (index.tree.tiers[0].width == 0) == few
    if few:
        assert index.tree.spare == 2 * cells  # all are scored until their number has doubled
