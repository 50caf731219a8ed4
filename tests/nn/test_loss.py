"""The loss agrees with a float64 loop over its definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hmn.errors import ShapeError
from hmn.nn.loss import marginal_nll

quick = settings(max_examples=60, deadline=None)


def by_loop(score: Tensor, right: Tensor, ignored: Tensor) -> list[float]:
    losses = []
    for row in range(len(score)):
        of_right = of_all = 0.0
        for column in range(score.shape[1]):
            mass = math.exp(float(score[row, column]))
            of_right += mass if right[row, column] else 0.0
            of_all += mass if right[row, column] or not ignored[row, column] else 0.0
        losses.append(-math.log(of_right / of_all))
    return losses


def drawn(b: int, c: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and masks that overlap, with at least one right cell a row."""
    generator = torch.Generator().manual_seed(seed)
    score = 5 * torch.randn(b, c, generator=generator, dtype=torch.float64)
    right = torch.rand(b, c, generator=generator) < 0.3
    right[torch.arange(b), torch.randint(c, (b,), generator=generator)] = True
    return score, right, torch.rand(b, c, generator=generator) < 0.4


@quick
@given(b=st.integers(1, 5), c=st.integers(1, 9), seed=st.integers(0, 999))
def test_agrees_with_the_loop(b: int, c: int, seed: int) -> None:
    score, right, ignored = drawn(b, c, seed)
    losses = marginal_nll(score, right, ignored)
    torch.testing.assert_close(losses, torch.tensor(by_loop(score, right, ignored), dtype=torch.float64))
    nothing = torch.zeros_like(ignored)
    for mask in (None, nothing):
        wanted = torch.tensor(by_loop(score, right, nothing), dtype=torch.float64)
        torch.testing.assert_close(marginal_nll(score, right, mask), wanted)
    assert bool((marginal_nll(score.float(), right, ignored) >= 0).all())


def test_one_right_cell_is_cross_entropy() -> None:
    score, target = torch.randn(6, 11, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    wanted = torch.nn.functional.cross_entropy(score, target, reduction="none")
    one_hot = torch.nn.functional.one_hot(target, 11).bool()
    torch.testing.assert_close(marginal_nll(score, one_hot), wanted)


def test_right_cells_are_never_ignored() -> None:
    score, right, ignored = drawn(4, 6, 1)
    torch.testing.assert_close(
        marginal_nll(score, right, ignored | right), marginal_nll(score, right, ignored & ~right)
    )


def test_ignored_cells_get_no_gradient_and_change_nothing() -> None:
    score = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    right, ignored = torch.tensor([[True, False, False]]), torch.tensor([[False, False, True]])
    torch.autograd.backward([marginal_nll(score, right, ignored).sum()])
    assert score.grad is not None
    assert score.grad[0, 2] == 0 and score.grad[0, 1] > 0 > score.grad[0, 0]


def test_all_right_costs_nothing_and_large_scores_do_not_overflow() -> None:
    score = torch.tensor([[1e4, -1e4], [3.0, 4.0]])
    right = torch.tensor([[False, True], [True, True]])
    assert marginal_nll(score, right).tolist() == [2e4, 0.0]


def test_gradients() -> None:
    score, right, ignored = drawn(3, 5, 2)
    score.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: marginal_nll(s, right, ignored), (score,))
    assert torch.autograd.gradcheck(lambda s: marginal_nll(s, right), (score,))


def test_refuses_masks_of_other_shapes() -> None:
    score, right = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"\(2, 2\).*expected that of the scores, \(2, 3\)"):
        marginal_nll(score, right[:, :2])
    with pytest.raises(ShapeError, match=r"\(1, 3\)"):
        marginal_nll(score, right, right[:1])


def test_names_the_row_without_a_right_cell() -> None:
    right = torch.tensor([[True, False], [False, False], [False, False]])
    with pytest.raises(ShapeError, match="row 1 has no right cell"):
        marginal_nll(torch.zeros(3, 2), right)
