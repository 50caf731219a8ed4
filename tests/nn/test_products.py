"""Products and sums of half precision, inside autocast and out of it, are those of float64."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from hmn.errors import NonFiniteError
from hmn.nn.attention.hard import HardAttention
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.attention.softmax import SoftmaxAttention
from hmn.nn.loss import fixed_keys_nll, marginal_nll, sampled_nll
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.nn.network import MemoryNetwork
from hmn.nn.products import inner_products, scaled, weighted_sum
from hmn.nn.reader import KMIPSReader, SoftmaxReader

HALF = [torch.float16, torch.bfloat16]


def rows(count: int, features: int, seed: int) -> Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed))


def large() -> tuple[Tensor, Tensor, Tensor]:
    """Keys, values and queries that float16 holds; their products exceed its largest number, 65,504."""
    return 60 * rows(40, 64, 0), 3e4 * rows(40, 2, 1).clamp(-2, 2), 60 * rows(5, 64, 2)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", ["kmips", "strategy", "softmax", "hard"])
def test_layers_do_not_overflow(kind: str, autocast: bool, dtype: torch.dtype) -> None:
    keys, values, query = (part if autocast else part.to(dtype) for part in large())
    memory = Memory(keys, values, trainable=True, sparse=False)
    layer: nn.Module = {
        "kmips": lambda: KMIPSAttention(memory, 40, scale=1e-3),
        "strategy": lambda: KMIPSAttention(memory, 4, strategy="k-mips:40", scale=1e-3),
        "softmax": lambda: SoftmaxAttention(memory, 1e-3),
        "hard": lambda: HardAttention(memory, 1e-3).eval(),
    }[kind]()
    query.requires_grad_()
    with torch.autocast("cpu", dtype=dtype) if autocast else nullcontext():
        read = layer(query)
    score = query.detach().double() @ keys.double().T
    assert float(score.max()) > 65_504
    cell = read.cell
    torch.testing.assert_close(read.score.double(), score.gather(1, cell), rtol=1e-4, atol=0.1)
    weight = (1e-3 * score).softmax(dim=1)
    torch.testing.assert_close(read.weight.double(), weight.gather(1, cell), rtol=1e-3, atol=1e-4)
    wanted = values.double()[cell[:, 0]] if kind == "hard" else weight @ values.double()
    assert read.value.dtype == (torch.float32 if autocast else dtype)
    torch.testing.assert_close(read.value.double(), wanted, rtol=0.01, atol=20.0)
    (read.value.float().sum() + read.weight.square().sum()).backward()
    assert query.grad is not None and bool(torch.isfinite(query.grad).all())
    assert memory.keys.grad is None or bool(torch.isfinite(memory.keys.grad).all())


@pytest.mark.parametrize("memory_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("query_dtype", [torch.float16, torch.float32, torch.float64])
def test_networks_attend_to_keys_of_another_type(memory_dtype: torch.dtype, query_dtype: torch.dtype) -> None:
    keys, query = large()[0].to(memory_dtype), large()[2].to(query_dtype)
    wanted = query.double() @ keys.double().T
    for make in (SoftmaxReader, lambda indexed: KMIPSReader(indexed, 40)):
        indexed = IndexedMemory(Memory(keys))
        network = MemoryNetwork(nn.Identity(), indexed, make(indexed), lambda read: read)
        for on in (False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on):
                drawn, score = network.attend(query, torch.arange(40), torch.Generator())
                read = network(query, 3)
            assert drawn.cell.tolist() == list(range(40)) and score.dtype in (torch.float32, torch.float64)
            torch.testing.assert_close(score.double(), wanted, rtol=1e-5, atol=0.1)
            share = wanted.softmax(dim=1).gather(1, read.cell)
            torch.testing.assert_close(read.weight.double(), share, rtol=0, atol=0.05)


@pytest.mark.parametrize("dtype", HALF)
def test_losses_of_half_precision(dtype: torch.dtype) -> None:
    keys, query = (60 * rows(40, 64, 0)).to(dtype), (rows(5, 64, 2)).to(dtype).requires_grad_()
    score = (query.detach().double() @ keys.double().T).requires_grad_()
    right = torch.zeros(5, 40, dtype=torch.bool)
    right[torch.arange(5), torch.tensor([3, 30, 7, 1, 12])] = True
    wanted = marginal_nll(score, right)
    (gradient,) = torch.autograd.grad(wanted.sum(), score)
    row, column = right.nonzero(as_tuple=True)
    losses = fixed_keys_nll(query, keys, row, column)
    torch.testing.assert_close(losses.double(), wanted, rtol=1e-4, atol=1e-3)
    (by_query,) = torch.autograd.grad(losses.sum(), query)
    assert by_query.dtype == dtype
    torch.testing.assert_close(by_query.double(), gradient @ keys.double(), rtol=0.02, atol=0.5)
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(fixed_keys_nll(query, keys, row, column), losses.detach())
    coarse = score.detach().to(dtype).double()
    for loss in (marginal_nll, lambda *masks: sampled_nll(*masks, torch.ones(40))):
        got = loss(score.detach().to(dtype), right)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), marginal_nll(coarse, right), rtol=1e-5, atol=1e-5)


def test_a_factor_cannot_make_logits_overflow() -> None:
    score = torch.tensor([[3e37, 2e37, -3e37], [1.0, 1.0, 0.0]])
    assert scaled(1e30, score).softmax(dim=1).tolist() == [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
    torch.testing.assert_close(scaled(0.5, score[1:]).softmax(dim=1), (0.5 * score[1:]).softmax(dim=1))
    assert scaled(2.0, score[:, :0]).shape == (2, 0)


def test_products_and_sums_take_rows_that_all_or_each_query_reads() -> None:
    query, keys = rows(3, 4, 0).half(), rows(12, 4, 1).double()
    wanted = query.double() @ keys.T
    torch.testing.assert_close(inner_products(query, keys), wanted)
    own = keys.reshape(3, 4, 4)
    picked = torch.stack([wanted[row, 4 * row : 4 * row + 4] for row in range(3)])
    torch.testing.assert_close(inner_products(query, own), picked)
    torch.testing.assert_close(weighted_sum(wanted, keys), wanted @ keys)
    each = torch.stack([picked[row] @ own[row] for row in range(3)])
    torch.testing.assert_close(weighted_sum(picked, own), each)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e19])
def test_every_layer_names_a_bad_query(bad: float) -> None:
    memory = Memory(rows(9, 4, 0))
    query = rows(3, 4, 1)
    query[1, 2] = bad
    for layer in (KMIPSAttention(memory, 2), SoftmaxAttention(memory), HardAttention(memory)):
        with pytest.raises(NonFiniteError, match="query: row 1 h"):
            layer(query)
