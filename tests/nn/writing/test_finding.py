"""Which cells are found, and what it costs."""

from __future__ import annotations

import pytest
import torch

from hmn.nn.writing import finding
from hmn.nn.writing.finding import Finder


@pytest.mark.parametrize("given", [False, True])
def test_a_product_over_all_cells_finds_what_an_index_finds(
    given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 20, 6, generator=generator)
    query = torch.randn(3, 5, 4, generator=generator)
    written = torch.tensor([2, 7, 20, 33, 59])
    plain = Finder(rows, 4, "exact", given=given)
    assert plain._indexes is None
    monkeypatch.setattr(finding, "MOST_NUMBERS", 2 * 60)  # a part of the heads at a time, and an index
    other = Finder(rows, 4, "exact", given=given)
    assert other._indexes is not None
    for finder in (plain, other):
        finder.follow(written)
    for k in (1, 3, 25):
        cell, reads = plain.search(query, k)
        other_cell, other_reads = other.search(query, k)
        assert torch.equal(cell, other_cell) and torch.equal(reads, other_reads)
        assert cell.shape == (3, 5, k)
    assert reads[:, 0].tolist() == ([20.0] * 3 if given else [2.0, 2.0, 1.0])
    rows.zero_()
    for finder in (plain, other):
        finder.reset(written)
        assert bool((finder.search(query, 1)[0] >= 0).all()) == given


def test_an_index_that_began_empty_is_built_again_as_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "LEAST_REBUILT", 50)
    rows = torch.randn(1, 400, 8, generator=torch.Generator().manual_seed(0))
    finder = Finder(rows, 8, "cluster", given=False)
    assert finder._indexes is not None
    sizes = []
    for start in range(0, 400, 20):
        finder.follow(torch.arange(start, start + 20))
        cell, _ = finder.search(rows[:, : start + 20], 1)
        assert torch.equal(cell[0, :, 0], (rows[0, : start + 20] @ rows[0, : start + 20].T).argmax(dim=1))
        sizes.append(finder._next_build[0])
    assert sorted(set(sizes)) == [50, 120, 240, 480]
