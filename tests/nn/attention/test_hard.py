"""Hard attention draws from the softmax, and its loss estimates the gradient of the mean reward."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from hmn.nn.attention import hard as module
from hmn.nn.attention.hard import HardAttention
from hmn.nn.memory.stored import Memory

N, D, V, B = 12, 4, 3, 5


def tensors(n: int = N, b: int = B) -> tuple[Tensor, Tensor, Tensor]:
    """Keys, values and queries."""
    generator = torch.Generator().manual_seed(0)
    keys, values, query = (torch.randn(*shape, generator=generator) for shape in ((n, D), (n, V), (b, D)))
    return keys, values, query


@pytest.mark.parametrize("block", [1, 2, 256])
def test_hard_attention_draws_from_the_softmax_and_reads_the_best_cell_in_evaluation(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAWN_BLOCK", block)
    keys, values, query = tensors(5, 2)
    attention = HardAttention(Memory(keys, values), scale=0.8)
    share = (0.8 * query @ keys.T).softmax(dim=1)
    read = attention(query.repeat(3000, 1))
    drawn = read.cell.reshape(3000, 2)
    counted = torch.stack([(drawn == cell).float().mean(dim=0) for cell in range(5)], dim=1)
    assert bool(((counted - share).abs() < 4 * (share * (1 - share) / 3000).sqrt()).all())
    torch.testing.assert_close(read.value, values[read.cell[:, 0]])
    torch.testing.assert_close(read.weight, share.repeat(3000, 1).gather(1, read.cell))
    torch.testing.assert_close(read.score, (query @ keys.T).repeat(3000, 1).gather(1, read.cell))
    best = attention.eval()(query)
    assert best.cell[:, 0].tolist() == share.argmax(dim=1).tolist() and best.weight.shape == (2, 1)


def test_hard_attention_draws_no_cell_of_probability_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the number that is drawn is 0 or as near to 1 as can be."""
    monkeypatch.setattr(module, "DRAWN_BLOCK", 2)
    keys = torch.tensor([[-1000.0], [0.0], [-1000.0], [-1000.0], [0.0], [-1000.0], [-1000.0]])
    attention = HardAttention(Memory(keys))
    for number, cell in ((0.0, 1), (0.49, 1), (0.51, 4), (1 - 2**-53, 4), (1.0, 4)):
        monkeypatch.setattr(
            torch, "rand", lambda *_, number=number, **__: torch.full((3, 1), number).double()
        )
        assert attention(torch.ones(3, 1)).cell.tolist() == [[cell]] * 3


def test_the_score_function_term_estimates_the_gradient_of_the_mean_reward() -> None:
    keys, _, query = tensors(5, 2)
    many, draws = query.repeat(5000, 1).requires_grad_(), 5000
    attention = HardAttention(Memory(keys), decay=0.5)
    of_cell = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0])
    query.requires_grad_()
    ((query @ keys.T).softmax(dim=1) * of_cell).sum().neg().backward()
    assert query.grad is not None
    for baseline in (0.0, 3.0):
        attention.baseline.fill_(baseline / 2)
        attention.steps.fill_(1 if baseline else 0)
        read = attention(many)
        term = attention.loss(read, of_cell[read.cell[:, 0]])
        (gradient,) = torch.autograd.grad(term * len(many), many)
        gradient = gradient.reshape(draws, *query.shape)
        error = gradient.std(dim=0) / math.sqrt(draws)
        assert bool(((gradient.mean(dim=0) - query.grad).abs() < 4 * error).all())
        assert float(error.max()) < 0.1 * float(query.grad.abs().max())


def test_the_baseline_is_a_moving_average_that_is_used_before_it_moves() -> None:
    keys, _, query = tensors()
    attention = HardAttention(Memory(keys), decay=0.75)
    used = []
    for reward in (8.0, 4.0, 4.0):
        read = attention(query)
        term = attention.loss(read, torch.full((B,), reward))
        used.append(reward - float(term / -read.weight.log().mean()))
    average = [0.0, 8.0, (0.75 * 8 + 4) / 1.75]
    torch.testing.assert_close(torch.tensor(used), torch.tensor(average), rtol=1e-4, atol=1e-4)
    kept = attention.baseline.clone()
    attention.eval()
    attention.loss(read, torch.zeros(B))
    assert torch.equal(attention.baseline, kept)
    assert sorted(attention.state_dict()) == ["baseline", "memory.key_table.weight", "steps"]
    torch.testing.assert_close(copy.deepcopy(attention)(query), attention(query))


def test_a_baseline_may_follow_the_last_reward_alone() -> None:
    assert HardAttention(Memory(torch.eye(3)), decay=0).decay == 0.0
