"""Activation checkpointing runs a layer twice: it reads the same cells, and gradients are the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hmn.nn.attention.hard import HardAttention
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.memory.stored import Memory

N, D, V, B = 300, 8, 3, 6


class Block(nn.Module):
    """A layer between dropout and a linear map."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.before, self.drop, self.layer, self.after = (
            nn.Linear(D, D),
            nn.Dropout(0.5),
            layer,
            nn.Linear(V, 2),
        )

    def forward(self, query: Tensor) -> Tensor:
        read = self.layer(self.drop(self.before(query)))
        return self.after(self.drop(read.value)) + read.weight.square().sum(dim=1, keepdim=True)


def gradients(block: Block, query: Tensor, reentrant: bool | None) -> list[Tensor]:
    """Gradients of three passes whose losses are added up, each checkpointed unless ``reentrant`` is None."""
    torch.manual_seed(5)
    block.zero_grad()
    query = query.clone().requires_grad_()
    total = torch.zeros(())
    for number in range(3):
        asked = query * (1 + number)
        result = block(asked) if reentrant is None else checkpoint(block, asked, use_reentrant=reentrant)
        total = total + result.square().mean()
    total.backward()
    grads = [query.grad, *(weight.grad for weight in block.parameters())]
    return [grad.to_dense() for grad in grads if grad is not None]


def assert_same(block: Block, reentrant: bool) -> None:
    query = torch.randn(B, D, generator=torch.Generator().manual_seed(2))
    wanted = gradients(block, query, None)
    for got, expected in zip(gradients(block, query, reentrant), wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)
    assert all(bool(grad.any()) for grad in wanted)


def memory() -> Memory:
    generator = torch.Generator().manual_seed(1)
    keys, values = torch.randn(N, D, generator=generator), torch.randn(N, V, generator=generator)
    return Memory(keys, values, trainable=True)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize(
    "strategy",
    [None, "k-mips", "top-k:1", "sample-k:2", "rand-block:40", "k-mips:2+top-k:1+sample-k:2+rand-block:9"],
)
def test_strategies_draw_the_same_candidates_twice(strategy: str | None, reentrant: bool) -> None:
    torch.manual_seed(0)
    layer = KMIPSAttention(memory(), 4, "cluster:num_clusters=12", strategy, corrected=True)
    assert_same(Block(layer), reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("index", ["exact", "cluster:num_clusters=3x12", "hierarchy", "wta-hash", "pca-tree"])
def test_structures_find_the_same_cells_twice(index: str, reentrant: bool) -> None:
    torch.manual_seed(0)
    assert_same(Block(KMIPSAttention(memory(), 4, index)), reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
def test_hard_attention_draws_the_same_cell_twice(reentrant: bool) -> None:
    torch.manual_seed(0)
    assert_same(Block(HardAttention(memory())), reentrant)


def test_a_run_repeats_under_manual_seed_and_processes_differ_by_their_seed() -> None:
    def drawn(seed: int) -> list[list[int]]:
        layer = KMIPSAttention(memory(), 4, strategy="rand-block:10", seed=seed)
        torch.manual_seed(0)
        return [layer(torch.ones(1, D)).cell[0].tolist() for _ in range(8)]

    assert drawn(0) == drawn(0)
    assert len({str(drawn(seed)) for seed in (0, 1, -1, 1 << 63)}) == 4
    assert len({str(cells) for cells in drawn(0)}) > 3


def test_what_draws_nothing_takes_no_random_number() -> None:
    layer = KMIPSAttention(memory(), 4, strategy="k-mips")
    before = torch.get_rng_state()
    layer(torch.ones(1, D))
    assert torch.equal(torch.get_rng_state(), before)
