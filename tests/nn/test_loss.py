"""The loss agrees with a float64 loop over its definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hmn.errors import ConfigError, ShapeError
from hmn.nn import loss as loss_module
from hmn.nn.loss import fixed_keys_nll, marginal_nll, sampled_nll

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


@quick
@given(b=st.integers(1, 5), c=st.integers(1, 9), shared=st.booleans(), seed=st.integers(0, 999))
def test_the_sampled_loss_counts_each_candidate_by_its_probability(
    b: int, c: int, shared: bool, seed: int
) -> None:
    score, right, ignored = drawn(b, c, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    times = torch.randint(1, 4, (c,) if shared else (b, c), generator=generator)
    # a candidate of probability 1/t stands for t cells
    repeats = times.expand(b, c)
    for row in range(b):
        wanted = marginal_nll(*(x[row].repeat_interleave(repeats[row]).unsqueeze(0) for x in (score, right)))
        got = sampled_nll(score, right, 1 / times.double())[row : row + 1]
        torch.testing.assert_close(got, wanted)
    certain = torch.ones(c)
    torch.testing.assert_close(
        sampled_nll(score, right, certain, ignored), marginal_nll(score, right, ignored)
    )
    assert bool((sampled_nll(score, right, 1 / times.double(), ignored) >= 0).all())


def test_the_loss_of_drawn_candidates_comes_near_that_of_all_cells() -> None:
    """The normaliser's mean is exact, the loss a little small; the paper's is far too small."""
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(1, 400, generator=generator).double()
    right = torch.arange(400).unsqueeze(0) == 3
    true = float(marginal_nll(score, right))
    probability = torch.full((400,), 0.1).double()
    probability[3] = 1.0
    sampled, plain, normaliser = [], [], []
    for _ in range(1000):
        chosen = torch.rand(400, generator=generator) < probability
        few = score[:, chosen], right[:, chosen]
        sampled.append(float(sampled_nll(*few, probability[chosen])))
        normaliser.append(float((few[0].exp() / probability[chosen]).sum()))
        plain.append(float(marginal_nll(*few)))
    whole = float(score.exp().sum())
    of_normaliser = torch.tensor(normaliser).double()
    error = float(of_normaliser.std()) / math.sqrt(1000)
    assert abs(float(of_normaliser.mean()) - whole) < 3 * error < 0.05 * whole
    wanted = true - float(of_normaliser.var()) / (2 * whole**2)
    assert abs(sum(sampled) / 1000 - wanted) < 0.04
    assert true - sum(plain) / 1000 > 2.0
    assert abs(sum(sampled) / 1000 - true) < 0.15


def test_gradients_of_the_sampled_loss() -> None:
    score, right, ignored = drawn(3, 5, 2)
    score.requires_grad_()
    probability = torch.rand(5, dtype=torch.float64) * 0.9 + 0.1
    assert torch.autograd.gradcheck(lambda s: sampled_nll(s, right, probability, ignored), (score,))
    probability.requires_grad_()
    torch.autograd.backward([sampled_nll(score, right, probability).sum()])
    assert probability.grad is None


@pytest.mark.parametrize("shape", [(2,), (3, 2), (2, 1), ()])
def test_refuses_probabilities_of_other_shapes(shape: tuple[int, ...]) -> None:
    score, right = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"expected \(3,\) or \(2, 3\): one per candidate"):
        sampled_nll(score, right, torch.ones(shape))


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.5, math.nan])
def test_refuses_what_is_no_probability(bad: float) -> None:
    score, right = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ConfigError, match=f"has probability {bad}"):
        sampled_nll(score, right, torch.tensor([1.0, bad, 1.0], dtype=torch.float64))


@quick
@given(
    b=st.integers(1, 5),
    n=st.integers(1, 40),
    chosen=st.booleans(),
    tile=st.integers(1, 9),
    seed=st.integers(0, 999),
)
def test_fixed_keys_give_the_loss_and_the_gradient_of_all_scores(
    b: int, n: int, chosen: bool, tile: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys = 3 * torch.randn(n, 4, generator=generator, dtype=torch.float64)
    query = torch.randn(b, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(b, generator=generator, dtype=torch.float64)
    cell = torch.randperm(n, generator=generator)[: -(-n // 2)].sort().values if chosen else None
    score = query @ (keys if cell is None else keys[cell]).T
    _, right, _ = drawn(b, score.shape[1], seed)
    wanted = marginal_nll(score, right)
    (wanted_gradient,) = torch.autograd.grad(wanted @ weight, query)
    row, column = right.nonzero(as_tuple=True)
    order = torch.randperm(len(row), generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_module, "TILE", tile)
        losses = fixed_keys_nll(query, keys, row[order], column[order], cell)
    (gradient,) = torch.autograd.grad(losses @ weight, query)
    torch.testing.assert_close(losses, wanted)
    torch.testing.assert_close(gradient, wanted_gradient)


def test_fixed_keys_of_any_size_do_not_overflow() -> None:
    keys = torch.tensor([[300.0], [-300.0], [299.0]])
    query = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    losses = fixed_keys_nll(query, keys, torch.arange(2), torch.tensor([2, 1]))
    torch.testing.assert_close(losses, torch.tensor([1 + math.log1p(math.exp(-1)), 0.0]))
    losses.sum().backward()
    assert query.grad is not None
    share = 1 / (1 + math.exp(-1))
    torch.testing.assert_close(query.grad, torch.tensor([[share], [0.0]]), rtol=0, atol=1e-4)


def test_no_loss_is_below_zero() -> None:
    """Where all candidates are right the loss is 0, which rounding may miss by a little either way."""
    generator = torch.Generator().manual_seed(0)
    query, keys = 5 * torch.randn(3000, 8, generator=generator), torch.randn(7, 8, generator=generator)
    right = torch.ones(len(query), len(keys), dtype=torch.bool)
    fixed = fixed_keys_nll(query, keys, *right.nonzero(as_tuple=True))
    for losses in (fixed, marginal_nll(query @ keys.T, right)):
        assert float(losses.min()) == 0.0 and float(losses.max()) < 1e-5


def test_fixed_keys_refuse_what_they_cannot_answer() -> None:
    keys, query, first = torch.ones(3, 2), torch.ones(2, 2), torch.arange(2)
    with pytest.raises(ConfigError, match="the keys have gradients"):
        fixed_keys_nll(query, keys.requires_grad_(), first, first)
    keys = torch.ones(3, 2)
    with pytest.raises(ShapeError, match="row 1 has no right cell"):
        fixed_keys_nll(query, keys, first[:1], first[:1])
    with pytest.raises(ShapeError, match=r"keys \(3, 2\), expected"):
        fixed_keys_nll(torch.ones(2, 5), keys, first, first)
    with pytest.raises(ShapeError, match="a pair for each right cell"):
        fixed_keys_nll(query, keys, first, first[:1])
