"""RowAdam moves the rows that have a gradient as AdamW moves a table of these rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hmn.errors import ConfigError
from hmn.nn.row_adam import RowAdam


def table() -> nn.Embedding:
    weight = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return nn.Embedding(20, 4, sparse=True, _weight=weight)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_rows_with_a_gradient_move_as_in_adamw(decay: float) -> None:
    sparse, rows = table(), torch.tensor([3, 7, 7, 11])
    few = nn.Embedding(3, 4, _weight=sparse.weight.detach()[[3, 7, 11]].clone())
    ours = RowAdam([{"params": sparse.parameters(), "lr": 0.05}], lr=1.0, weight_decay=decay)
    theirs = torch.optim.AdamW(few.parameters(), lr=0.05, weight_decay=decay)
    for step in range(5):
        for module, optimiser, read in ((sparse, ours, rows), (few, theirs, torch.tensor([0, 1, 1, 2]))):
            optimiser.zero_grad()
            (module(read) - step).square().sum().backward()
            optimiser.step()
    torch.testing.assert_close(sparse.weight.detach()[[3, 7, 11]], few.weight.detach(), rtol=1e-6, atol=1e-8)
    others = torch.ones(20, dtype=torch.bool)
    others[rows] = False
    assert torch.equal(sparse.weight.detach()[others], table().weight.detach()[others])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_other_parameters_move_as_in_adamw(dtype: torch.dtype) -> None:
    start = nn.Linear(4, 3, dtype=dtype).state_dict()
    models = [nn.Linear(4, 3, dtype=dtype) for _ in range(2)]
    sparse = table().to(dtype)
    groups = [{"params": models[0].parameters()}, {"params": sparse.parameters(), "lr": 0.5}]
    ours = RowAdam(groups, lr=0.05, weight_decay=0.1)
    theirs = torch.optim.AdamW(models[1].parameters(), lr=0.05, weight_decay=0.1)
    for model in models:
        model.load_state_dict(start)
    for step in range(6):
        if step == 3:  # a saved optimiser goes on as if nothing had happened
            saved = ours.state_dict()
            ours = RowAdam([{"params": models[0].parameters()}, {"params": sparse.parameters()}], lr=1.0)
            ours.load_state_dict(saved)
        for model, optimiser in zip(models, (ours, theirs), strict=True):
            optimiser.zero_grad()
            rows = sparse(torch.tensor([2, 5]))
            loss = (model(rows.detach()) - step).square().sum() + (rows.sum() if model is models[0] else 0)
            loss.backward()
        for optimiser in (theirs, ours):
            optimiser.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)
    assert not torch.equal(sparse.weight[2], table().to(dtype).weight[2])


def test_half_precision_parameters_move_as_in_float32() -> None:
    models = [nn.Linear(4, 3, bias=False, dtype=dtype) for dtype in (torch.bfloat16, torch.float32)]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        optimiser = RowAdam(model.parameters(), lr=0.01)
        for _ in range(5):
            model.weight.grad = torch.full_like(model.weight, 1e-5)
            optimiser.step()
    slack = 8 * torch.finfo(torch.bfloat16).eps
    torch.testing.assert_close(models[0].weight.float(), models[1].weight, rtol=slack, atol=slack)


def test_a_closure_is_called_and_its_loss_returned() -> None:
    sparse = table()
    optimiser = RowAdam(sparse.parameters(), lr=0.1)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss: Tensor = sparse(torch.tensor([2])).square().sum()
        loss.backward()
        return loss

    first, second = optimiser.step(closure), optimiser.step(closure)
    assert first is not None and second is not None and second < first


def test_settings_out_of_their_range_are_refused() -> None:
    sparse = table()
    for settings, message in (
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": 0.1, "eps": "1"}, "eps is '1'"),
        ({"lr": 0.1, "weight_decay": torch.nan}, "weight_decay is nan"),
        ({"lr": 0.1, "betas": (0.9, 1.0)}, r"betas is \(0.9, 1.0\)"),
        ({"lr": 0.1, "betas": 0.9}, "betas is 0.9"),
    ):
        with pytest.raises(ConfigError, match=message):
            RowAdam(sparse.parameters(), **settings)


def test_a_state_without_weight_decay_loads() -> None:
    sparse = table()
    optimiser = RowAdam(sparse.parameters(), lr=0.1)
    state = optimiser.state_dict()
    del state["param_groups"][0]["weight_decay"]
    optimiser.load_state_dict(state)
    sparse(torch.tensor([2])).sum().backward()
    optimiser.step()
    assert optimiser.param_groups[0]["weight_decay"] == 0 == optimiser.defaults["weight_decay"]
    copied = optimiser.__getstate__()
    del copied["param_groups"][0]["weight_decay"]
    optimiser.__setstate__(copied)  # as pickle does
    assert optimiser.param_groups[0]["weight_decay"] == 0


def test_steps_are_counted_on_the_cpu_in_float32_whatever_the_defaults() -> None:
    sparse = table()
    optimiser = RowAdam(sparse.parameters(), lr=0.1)
    sparse(torch.tensor([2])).sum().backward()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        with torch.device("meta"):
            optimiser.step()
    finally:
        torch.set_default_dtype(before)
    step = optimiser.state[next(sparse.parameters())]["step"]
    assert (step.dtype, step.device.type, float(step)) == (torch.float32, "cpu", 1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rows_move_as_in_float32(dtype: torch.dtype) -> None:
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    tables = [
        nn.Embedding(4, 3, sparse=True, _weight=start.clone()),
        nn.Embedding(4, 3, sparse=True, _weight=start.float()),
    ]
    optimisers = [RowAdam(table.parameters(), lr=0.01) for table in tables]
    for step in range(6):
        if step == 3:  # a saved optimiser goes on as if nothing had happened
            saved = optimisers[0].state_dict()
            optimisers[0] = RowAdam(tables[0].parameters(), lr=0.5)
            optimisers[0].load_state_dict(saved)
        for table, optimiser in zip(tables, optimisers, strict=True):
            optimiser.zero_grad()
            # the squares of these gradients are 0 in float16
            (table(torch.tensor([1, 2])) * 1e-4).sum().backward()
            optimiser.step()
    slack = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(tables[0].weight.float(), tables[1].weight, rtol=slack, atol=slack)
