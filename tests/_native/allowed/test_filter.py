"""Filters, as PyTorch reads them."""

from __future__ import annotations

import torch

from hmn._native.allowed.filter import Filter


def test_rows_are_allowed_by_the_number_of_their_cells() -> None:
    low, high = torch.tensor([0, 2]), torch.tensor([1, 2])
    allowed = Filter(torch.tensor([0, 1, 2]), low, high, torch.tensor([2, -1, 0, 7]))
    row = torch.tensor([0, 1, 2, 3, -1])
    assert allowed.allows(row).tolist() == [[False, False, True, False, False], [True, *[False] * 4]]
    assert allowed.allows(torch.tensor([[2, 0], [2, 0]])).tolist() == [[True, False], [False, True]]
    assert not allowed.is_shared
    assert allowed.of(torch.tensor([1])).allows(row).tolist() == [[True, *[False] * 4]]


def test_distinct_sets_have_a_filter_each() -> None:
    number = torch.tensor([0, 1, 2])
    sets, which = Filter(number, torch.tensor([1, 0, 1]), torch.tensor([1, 2, 1])).sets(3)
    assert [(int(one.low), int(one.high)) for one in sets] == [(0, 2), (1, 1)]
    assert which.tolist() == [1, 0, 1]
    one = Filter(number, torch.tensor([1]), torch.tensor([1]))
    assert one.sets(2)[1].tolist() == [0, 0]
