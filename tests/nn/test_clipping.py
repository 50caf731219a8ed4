"""Gradients of sparse rows are clipped as those of the whole table are."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hmn.errors import ConfigError, NonFiniteError
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.clipping import clip_grad_norm_
from hmn.nn.memory.stored import Memory


def model(sparse: bool, dtype: torch.dtype = torch.float64) -> nn.ModuleList:
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(30, 4, generator=generator), torch.randn(30, 3, generator=generator)
    layer = KMIPSAttention(Memory(keys.to(dtype), values.to(dtype), True, sparse=sparse), 5)
    linear = nn.Linear(4, 4, bias=False, dtype=dtype)
    nn.init.eye_(linear.weight)
    unused = nn.Linear(2, 2)
    query = torch.randn(9, 4, generator=generator).to(dtype)
    for part in (query[:6], query[3:]):  # gradients of two passes add up, with rows given twice
        layer(linear(part)).value.square().sum().backward()
    return nn.ModuleList([layer, linear, unused])


def gradients(module: nn.Module) -> list[Tensor]:
    return [weight.grad.to_dense() for weight in module.parameters() if weight.grad is not None]


@pytest.mark.parametrize("order", [2.0, 1.0, 3, 0.5, math.inf])
@pytest.mark.parametrize("most", [0.0, 0.3, 1e6])
@pytest.mark.parametrize("foreach", [None, False, True])
def test_sparse_gradients_are_clipped_as_dense_ones(order: float, most: float, foreach: bool | None) -> None:
    ours, theirs = model(True), model(False)
    wanted = nn.utils.clip_grad_norm_(theirs.parameters(), most, order)
    for _ in range(1 if most < 1e6 else 2):
        got = clip_grad_norm_(ours.parameters(), most, order, foreach=foreach)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=0)
    assert len(gradients(ours)) == 3
    for gradient, expected in zip(gradients(ours), gradients(theirs), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-15)
    memory = ours[0].memory
    assert memory.keys.grad.is_sparse and memory.values.grad.is_sparse
    dense = model(False)
    assert torch.equal(clip_grad_norm_(dense.parameters(), most, order), wanted)
    assert all(map(torch.equal, gradients(dense), gradients(theirs)))


def test_a_norm_that_is_not_finite_is_refused_if_asked() -> None:
    module = model(True)
    weight = module[1].weight
    weight.grad[0, 0] = torch.nan
    before = [gradient.clone() for gradient in gradients(module)]
    with pytest.raises(NonFiniteError, match="the norm of the gradients is nan, expected a finite one"):
        clip_grad_norm_(module.parameters(), 1.0, error_if_nonfinite=True)
    for gradient, kept in zip(gradients(module), before, strict=True):
        torch.testing.assert_close(gradient, kept, equal_nan=True)
    assert math.isnan(clip_grad_norm_(module.parameters(), 1.0))


def test_one_parameter_none_and_no_gradients() -> None:
    weight = nn.Parameter(torch.ones(3))
    assert float(clip_grad_norm_(weight, 1.0)) == float(clip_grad_norm_([], 1.0)) == 0.0
    weight.grad = torch.tensor([3.0, 4.0, 0.0])
    assert float(clip_grad_norm_(weight, 1.0)) == 5.0
    torch.testing.assert_close(weight.grad, torch.tensor([0.6, 0.8, 0.0]))


def test_bad_limits_are_refused() -> None:
    for arguments, message in (
        ((-1.0,), "max_norm is -1.0"),
        (("a",), "max_norm is 'a'"),
        ((1.0, 0), "norm_type is 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            clip_grad_norm_([], *arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [None, nn.Linear(2, 2), nn.Linear(2, 2).named_parameters()])
def test_refuses_what_holds_no_parameters(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected tensors: give model\.parameters\(\)"):
        clip_grad_norm_(given, 1.0)
