"""How evenly a memory is used."""

from __future__ import annotations

import math

import pytest
import torch

from hmn.nn import CellUse


def test_reads_and_weights_are_counted() -> None:
    use = CellUse(4)
    use.add(torch.tensor([[0, 1], [1, -1]]), torch.tensor([[0.25, 0.75], [1.0, 0.0]]))
    assert use.reads.tolist() == [1, 2, 0, 0]
    assert use.weight.tolist() == [0.25, 1.75, 0, 0]
    assert use.share == 0.5
    one, other = 0.125, 0.875
    wanted = one * math.log(one / 0.25) + other * math.log(other / 0.25)
    assert use.divergence == pytest.approx(wanted)
    use.forget()
    assert use.share == 0 and math.isnan(use.divergence)


def test_even_use_has_no_divergence_and_a_single_cell_all() -> None:
    even, single = CellUse(8), CellUse(8)
    even.add(torch.arange(8), torch.ones(8))
    single.add(torch.zeros(5, dtype=torch.int64), torch.ones(5))
    assert even.share == 1 and even.divergence == pytest.approx(0)
    assert single.share == 1 / 8 and single.divergence == pytest.approx(math.log(8))
