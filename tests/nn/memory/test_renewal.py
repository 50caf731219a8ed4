"""Which cells are encoded again: all in turn, and of those just read the most stale."""

from __future__ import annotations

import pytest
import torch

from hmn.errors import ShapeError
from hmn.nn.memory.renewal import RollingRenewal

NONE = torch.zeros(0, dtype=torch.int64)


def test_every_cell_has_its_turn() -> None:
    renewal = RollingRenewal(103, 10)
    seen: list[int] = []
    while set(seen) != set(range(103)):
        cells = renewal.due(NONE).tolist()
        assert 0 < len(cells) <= 11
        seen += cells
    assert len(seen) < 103 + 11, "none has a second turn before all have had theirs"


@pytest.mark.parametrize(("cells", "turns"), [(103, 10), (1000, 7), (7, 3), (12, 12), (999, 100)])
def test_the_turns_renew_as_many_cells_as_there_are(cells: int, turns: int) -> None:
    renewal = RollingRenewal(cells, turns)
    renewed = 0
    for turn in range(turns):
        read = torch.randperm(cells, generator=torch.Generator().manual_seed(turn))
        renewed += len(renewal.due(read))
    assert cells <= renewed < cells + 2 * turns
    assert len(RollingRenewal(450, 20).due(NONE)) == 23 - 5, "a quarter is left for those just read"


def test_of_the_cells_just_read_the_most_stale_are_renewed_with_them() -> None:
    renewal = RollingRenewal(400, 20)  # 15 in turn and 5 of those read
    assert renewal.due(NONE).tolist() == list(range(15))
    read = torch.tensor([3, 390, 200, 395, 100, 300, 350, 7])
    found = renewal.due(read)
    assert found[:15].tolist() == list(range(15, 30))
    assert found[15:].tolist() == [390, 200, 395, 100, 300], "those of the first step are fresher"
    found = renewal.due(read)
    assert found[15:].tolist() == [350, 3, 7, 390, 200]
    assert len(found.unique()) == len(found)


def test_a_cell_whose_turn_it_is_is_not_renewed_twice() -> None:
    renewal = RollingRenewal(400, 20)
    assert renewal.due(torch.arange(15)).tolist() == list(range(15))


@pytest.mark.parametrize("cells", [0, 1, 3])
def test_a_few_cells_are_renewed_too(cells: int) -> None:
    renewal = RollingRenewal(cells, 100)
    found = [renewal.due(torch.arange(cells)).tolist() for _ in range(4)]
    assert set().union(*map(set, found)) == set(range(cells))


def test_it_goes_on_from_its_state() -> None:
    one, other = RollingRenewal(50, 7), RollingRenewal(50, 7)
    read = torch.tensor([40, 2, 30])
    for _ in range(3):
        one.due(read)
    other.load({name: value.clone() for name, value in one.state().items()})
    for _ in range(9):
        assert torch.equal(one.due(read), other.due(read))
    one.all_renewed()
    other.load(one.state())
    assert torch.equal(one.due(read), other.due(read))
    with pytest.raises(ShapeError, match=r"has 50 cells, expected 51: load the one .* with this memory"):
        RollingRenewal(51, 7).load(one.state())


@pytest.mark.parametrize("place", [[50, 3], [-1, 3], [3], [[3, 3]], [3.0, 3.0]])
def test_a_place_that_is_none_is_refused(place: list[object]) -> None:
    renewal = RollingRenewal(50, 7)
    state = renewal.state() | {"next": torch.tensor(place)}
    with pytest.raises(
        ShapeError, match=r"goes on at \[.*\], expected a cell below 50 and a turn: load the one"
    ):
        renewal.load(state)
    for good in ([0, 3], [49, 70]):
        renewal.load(renewal.state() | {"next": torch.tensor(good)})
        assert int(renewal.due(torch.tensor([7]))[0]) == good[0]


def test_it_counts_on_the_cpu_whatever_the_default_device() -> None:
    one, other = RollingRenewal(50, 7), RollingRenewal(50, 7)
    read = torch.tensor([40, 2, 30])
    with torch.device("meta"):
        other = RollingRenewal(50, 7)
        due = other.due(read)
    assert torch.equal(one.due(read), due)
