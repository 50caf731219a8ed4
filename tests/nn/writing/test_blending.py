"""Cells that occur several times."""

from __future__ import annotations

import torch

from hmn.nn.writing.blending import merged, rounds


def test_rounds_keep_the_order() -> None:
    assert rounds([4, 2, 4, 4, 1, 2]) == [[0, 1, 4], [2, 5], [3]]
    assert rounds([4, 2, 1]) == [[0, 1, 2]]


def test_merged_cells_have_the_weights_of_all_their_places() -> None:
    cell = torch.tensor([[[3, 1, 3, -1, 1, -1]]])
    weight = torch.tensor([[[0.1, 0.2, 0.4, 0.0, 0.3, 0.0]]])
    cell, weight = merged(cell, weight)
    assert cell.tolist() == [[[3, 1, -1, -1, -1, -1]]]
    torch.testing.assert_close(weight, torch.tensor([[[0.5, 0.5, 0.0, 0.0, 0.0, 0.0]]]))
