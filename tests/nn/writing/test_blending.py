"""Cells that occur several times."""

from __future__ import annotations

import torch

from hmn.nn.writing.blending import merged


def test_merged_cells_have_the_weights_of_all_their_places() -> None:
    cell = torch.tensor([[[3, 1, 3, -1, 1, -1]]])
    weight = torch.tensor([[[0.1, 0.2, 0.4, 0.0, 0.3, 0.0]]])
    cell, weight = merged(cell, weight)
    assert cell.tolist() == [[[3, 1, -1, -1, -1, -1]]]
    torch.testing.assert_close(weight, torch.tensor([[[0.5, 0.5, 0.0, 0.0, 0.0, 0.0]]]))
