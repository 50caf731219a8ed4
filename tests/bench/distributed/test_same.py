"""What counts as the same: cells, numbers and gradients of two runs."""

from __future__ import annotations

import pytest
import torch
from bench.distributed.same import compared, relative
from torch import Tensor


def test_differences_are_by_rows_and_short_rows_count_as_the_mean() -> None:
    one = torch.tensor([[3.0, 4.0], [0.0, 0.1], [0.0, 0.0]])
    assert relative(one, one) == 0
    assert relative(one, one + torch.tensor([[0.0, 0.5], [0, 0], [0, 0]])) == pytest.approx(0.1)
    assert relative(one, one + torch.tensor([[0, 0], [0.0, 0.5], [0, 0]])) == pytest.approx(0.5 / 2.55)
    assert relative(torch.zeros(2, 2), torch.full((2, 2), 1.0)) > 1


def _step() -> dict[str, Tensor]:
    rows = torch.tensor([4, 1])
    return {
        "cell": torch.tensor([[4, 1]]),
        "score": torch.tensor([[2.0, 1.0]]),
        "loss": torch.tensor(5.0),
        "keys": torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        "values": torch.tensor([[2.0, 0.0], [0.0, 2.0]]),
        "keys rows": rows,
        "values rows": rows,
    }


def test_gradients_are_compared_cell_by_cell_whatever_the_order_of_the_ranks() -> None:
    other = _step()
    other |= {name: other[name].flip(0) for name in ("keys", "values", "keys rows", "values rows")}
    assert compared([_step()], [other], 5) == {
        "cells_equal": True,
        **dict.fromkeys(("score", "loss", "keys", "values"), 0.0),
    }
    assert compared([_step()], [_step() | {"keys rows": torch.tensor([1, 4])}], 5)["keys"] > 1


@pytest.mark.parametrize("name", ["score", "loss", "keys", "values"])
def test_each_kind_of_number_is_compared(name: str) -> None:
    got = compared([_step()], [_step() | {name: _step()[name] * 1.01}], 5)
    assert got.pop(name) == pytest.approx(0.01, rel=1e-4)
    assert got == {"cells_equal": True} | {kind: 0.0 for kind in got if kind != "cells_equal"}
    assert not compared([_step()], [_step() | {"cell": torch.tensor([[1, 4]])}], 5)["cells_equal"]
