"""A step of Adam on some rows, compiled and in PyTorch, agrees with ``torch.optim.AdamW`` on these rows."""

from __future__ import annotations

import pytest
import torch

from hmn._native import backend, reading
from hmn._native.fallback import rows as pytorch
from hmn._native.reading import Step
from hmn.errors import ShapeError

pytestmark = pytest.mark.usefixtures("instructions")


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("features", [1, 17, 64])
def test_rows_move_as_by_adamw(compiled: bool, features: int) -> None:
    generator = torch.Generator().manual_seed(features)
    table = torch.randn(600, features, generator=generator)
    row = torch.randperm(600, generator=generator)[:400]
    few, start = torch.nn.Parameter(table[row].double()), table.clone()
    adam = torch.optim.AdamW([few], lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3)
    mean, square = torch.zeros_like(table), torch.zeros_like(table)
    for count in range(1, 5):
        gradient = torch.randn(400, features, generator=generator)
        few.grad = gradient.double()
        adam.step()
        step = Step(1 - 0.8, 1 - 0.95, 1 / (1 - 0.95**count), 0.02 / (1 - 0.8**count), 1e-6, 1 - 0.02 * 0.3)
        if compiled:
            reading.move_rows(step, row, gradient, table, mean, square)
        else:
            pytorch.move_rows(*step, row, gradient, table, mean, square)
    torch.testing.assert_close(table[row].double(), few.detach(), rtol=1e-5, atol=1e-6)
    others = torch.ones(600, dtype=torch.bool)
    others[row] = False
    assert torch.equal(table[others], start[others])
    assert not bool(mean[others].any()) and not bool(square[others].any())


def test_pytorch_counts_the_change() -> None:
    table, mean, square = torch.ones(5, 3), torch.zeros(5, 3), torch.zeros(5, 3)
    before = [part._version for part in (table, mean, square)]
    step = Step(0.1, 0.001, 1.0, 0.1, 1e-8, 1.0)
    reading.move_rows(step, torch.tensor([2]), torch.ones(1, 3), table, mean, square)
    assert all(part._version > old for part, old in zip((table, mean, square), before, strict=True))


def test_rows_that_do_not_exist_are_refused_before_any_moves() -> None:
    if backend.compiled is None:
        pytest.skip("PyTorch refuses these by errors of its own")
    table, mean, square = torch.ones(5, 3), torch.zeros(5, 3), torch.zeros(5, 3)
    step = Step(0.1, 0.001, 1.0, 0.1, 1e-8, 1.0)
    for row in ([1, 5], [1, -1]):
        with pytest.raises(ShapeError, match="a row that is moved"):
            reading.move_rows(step, torch.tensor(row), torch.ones(2, 3), table, mean, square)
    with pytest.raises(ShapeError, match="gradient is"):
        reading.move_rows(step, torch.tensor([1]), torch.ones(1, 2), table, mean, square)
    assert bool((table == 1).all())
