"""The optimisers of a model, and their state as plain tensors (so that a checkpoint needs no pickle)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hmn.qa.config import TrainConfig

TABLES = ("table.weight", "words.word", "words.ngram", "encoder.word")
PRETRAINED = "phrasing.pretrained."


class RowAdam(torch.optim.Optimizer):
    """Adam on the rows of a table that have a gradient; as ``torch.optim.SparseAdam`` does in more time.

    ``eps`` is added where ``torch.optim.Adam`` adds it.

    Args:
        weights: tables ``(rows, features)`` whose gradients are sparse.
        lr: learning rate.
        betas, eps: as in Adam.
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(weights, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Move the rows that have a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad.coalesce(), group)

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (first, second) = self.state[weight], group["betas"]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        step = float(state["step"])
        rows, values = gradient.indices()[0], gradient.values()
        mean = state["exp_avg"][rows].lerp_(values, 1 - first)
        square = state["exp_avg_sq"][rows].mul_(second).addcmul_(values, values, value=1 - second)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        spread = square.div_(1 - second**step).sqrt_().add_(group["eps"])
        weight.index_add_(0, rows, mean.div_(spread), alpha=-group["lr"] / (1 - first**step))


class Optimisers:
    """Adam for the network's parts; where few rows of a table are touched, Adam on these rows alone.

    Args:
        network: the model.
        config: learning rates.
        total_steps: the rates fall to zero over so many steps.
        sparse: gradients of the tables come as sparse rows.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, total_steps: int, *, sparse: bool) -> None:
        self.config, self.total_steps = config, total_steps
        named = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        self.names = {weight: name for name, weight in named.items()}
        tables = {name for name in named if name.endswith(TABLES)}
        pretrained = {name for name in named if PRETRAINED in name}
        rest = named.keys() - tables - pretrained
        groups = [
            ({name for name in tables if name.endswith(TABLES[0])}, config.table_learning_rate, sparse),
            ({name for name in tables if not name.endswith(TABLES[0])}, config.learning_rate, sparse),
            (rest, config.learning_rate, False),
            (pretrained, config.encoder_learning_rate, False),
        ]
        self._rates: list[float] = []
        self._all: list[torch.optim.Optimizer] = []
        for names, rate, as_rows in groups:
            weights = [named[name] for name in sorted(names)]
            if weights:
                self._all.append(
                    RowAdam(weights, rate) if as_rows else torch.optim.Adam(weights, rate, fused=True)
                )
                self._rates.append(rate)

    def step(self, step: int) -> None:
        """Take step number ``step`` (from 0) with the gradients at hand, and clear them."""
        share = self.share(step)
        for optimiser, rate in zip(self._all, self._rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * share
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def share(self, step: int) -> float:
        """The share of the peak learning rate at a step: up in the warm-up, then down in a line."""
        up = min(1.0, (step + 1) / max(1, self.config.warmup))
        return up * max(0.01, 1 - step / self.total_steps)

    def state(self) -> dict[str, Tensor]:
        """The state as tensors, by parameter and name."""
        found = {}
        for optimiser in self._all:
            for weight in _weights(optimiser):
                for name, value in optimiser.state[weight].items():
                    found[f"{self.names[weight]}|{name}"] = torch.as_tensor(value)
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        for optimiser in self._all:
            for weight in _weights(optimiser):
                prefix = f"{self.names[weight]}|"
                values = {
                    name.removeprefix(prefix): value
                    for name, value in state.items()
                    if name.startswith(prefix)
                }
                if values:
                    optimiser.state[weight] = values


def _weights(optimiser: torch.optim.Optimizer) -> Iterable[nn.Parameter]:
    return [weight for group in optimiser.param_groups for weight in group["params"]]
