"""Adam for models with tables of which a training step touches few rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.optimizer import ParamsT

from hmn._native.reading import Step, move_rows
from hmn.errors import ConfigError

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Names of the moments in an optimiser's state."""


class RowAdam(torch.optim.Optimizer):
    """AdamW that moves only the rows of a table that have a gradient; a faster ``torch.optim.SparseAdam``.

    Parameters with sparse gradients are tables of such rows: other rows do not move, and do not decay. All
    other parameters move as in ``torch.optim.AdamW``, so that one optimiser trains a whole model; give tables
    a group with a learning rate of their own. ``eps`` is added where ``torch.optim.AdamW`` adds it. Moments
    of half-precision parameters are kept in float32.

    Args:
        weights: parameters, or groups of them.
        lr: learning rate.
        betas: as in Adam.
        eps: as in Adam.
        weight_decay: as in AdamW.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        weights: ParamsT,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not isinstance(value, float | int) or not 0 <= value < math.inf:
                raise ConfigError(f"{name} is {value!r}, expected a finite number of at least 0")
        if not isinstance(betas, Iterable) or len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ConfigError(f"betas is {betas!r}, expected two numbers from 0 to below 1")
        super().__init__(weights, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy; those of version 0.1 have no weight decay."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("weight_decay", 0.0)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what ``state_dict`` returned; moments keep their type, which PyTorch makes the rows'."""
        super().load_state_dict(state_dict)
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for number, weight in zip(numbers, weights, strict=True):
            for name, moment in state_dict["state"].get(number, {}).items():
                if name in MOMENTS:
                    wide = torch.promote_types(weight.dtype, torch.float32)
                    self.state[weight][name] = moment.to(weight.device, wide, copy=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move the rows of tables that have a gradient, and other parameters as a whole.

        Args:
            closure: computes the loss and its gradients, if given.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            pairs = [(weight, weight.grad) for weight in group["params"] if weight.grad is not None]
            for weight, gradient in pairs:
                if gradient.is_sparse:
                    self._move(weight, *_rows_and_values(gradient), group)
            self._move_whole([pair for pair in pairs if not pair[1].is_sparse], group)
        return loss

    def _moments(self, weight: Tensor) -> dict[str, Any]:
        """The state of a parameter, made at its first step."""
        state: dict[str, Any] = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device="cpu")
            # in half precision squares and eps would be 0, and the parameters NaN
            wide = torch.promote_types(weight.dtype, torch.float32)
            for name in MOMENTS:
                state[name] = torch.zeros_like(weight, dtype=wide)
        return state

    def _move_whole(self, pairs: list[tuple[Tensor, Tensor]], group: dict[str, Any]) -> None:
        """Move parameters, each with its dense gradient."""
        for device in {weight.device for weight, _ in pairs}:
            own = [pair for pair in pairs if pair[0].device == device]
            states, (first, second) = [self._moments(weight) for weight, _ in own], group["betas"]
            wide = [pair[0].to(state["exp_avg"].dtype) for pair, state in zip(own, states, strict=True)]
            adamw(
                wide,
                [gradient.to(moved.dtype) for (_, gradient), moved in zip(own, wide, strict=True)],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=device.type == "cpu",
                amsgrad=False,
                beta1=first,
                beta2=second,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
            for (weight, _), moved in zip(own, wide, strict=True):
                if moved is not weight:
                    weight.copy_(moved)

    def _move(self, weight: Tensor, rows: Tensor, values: Tensor, group: dict[str, Any]) -> None:
        state, (first, second) = self._moments(weight), group["betas"]
        state["step"] += 1
        step = float(state["step"])
        rate, decay = group["lr"], group["weight_decay"]
        taken = Step(
            first=1 - first,
            second=1 - second,
            square_scale=1 / (1 - second**step),
            rate=rate / (1 - first**step),
            eps=group["eps"],
            kept=1 - rate * decay,
        )
        values = values.to(state["exp_avg"].dtype)
        move_rows(taken, rows, values, weight, state["exp_avg"], state["exp_avg_sq"])


def _rows_and_values(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct rows ``(U,)`` of a sparse gradient and their values ``(U, D)``."""
    rows = gradient._indices()[0]
    if not bool((rows[1:] > rows[:-1]).all()):  # ascending ones are distinct, though autograd forgets that
        gradient = gradient.coalesce()
    return gradient._indices()[0], gradient._values()
