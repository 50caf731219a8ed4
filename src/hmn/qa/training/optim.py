"""The optimisers of a question-answering model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from hmn.nn.row_adam import RowAdam
from hmn.qa.config import ENCODER_LEARNING_RATE, TrainConfig
from hmn.store.contents import tensor_like
from hmn.store.rows import NUMBERS, packed_rows, unpacked_rows, zero_rows

TABLES = ("table.weight", "words.word", "words.ngram", "encoder.word")
"""Endings of the names of tables, of which a step touches few rows. The first is the table of names."""
MOMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "step": lambda weight: torch.zeros((), dtype=torch.float32, device=weight.device),
    "exp_avg": lambda weight: weight,
    "exp_avg_sq": lambda weight: weight,
}
"""Names of the tensors that Adam keeps for a parameter, and tensors of their type and shape."""
PRETRAINED = "phrasing.pretrained."
"""Part of the names of a pretrained encoder's parameters."""


class Optimisers:
    """Adam for the parts of the network, each with its own learning rate.

    Tables with sparse gradients are updated only in the rows that a step touches.

    Args:
        network: The model.
        config: Learning rates.
        total_steps: Number of steps over which the rates fall.
        sparse: Whether the gradients of the tables are sparse.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, total_steps: int, *, sparse: bool) -> None:
        self.config, self.total_steps = config, total_steps
        rate = config.encoder_learning_rate
        encoder_rate = ENCODER_LEARNING_RATE if rate is None else rate
        if not encoder_rate:  # neither trained nor passed through backwards
            for name, weight in network.named_parameters():
                weight.requires_grad_(weight.requires_grad and PRETRAINED not in name)
        named = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        self.names = {weight: name for name, weight in named.items()}
        tables = {name for name in named if name.endswith(TABLES)}
        pretrained = {name for name in named if PRETRAINED in name}
        rest = named.keys() - tables - pretrained
        groups = [
            ({name for name in tables if name.endswith(TABLES[0])}, config.table_learning_rate, sparse),
            ({name for name in tables if not name.endswith(TABLES[0])}, config.learning_rate, sparse),
            (rest, config.learning_rate, False),
            (pretrained, encoder_rate, False),
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
        """Take a step with the present gradients and clear them. Steps are numbered from 0."""
        share = self.share(step)
        for optimiser, rate in zip(self._all, self._rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * share
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def share(self, step: int) -> float:
        """Share of the peak learning rate at a step: it rises in the warm-up and falls linearly to 1 %."""
        warm = min(1.0, (step + 1) / max(1, self.config.warmup))
        return warm * max(0.01, 1 - step / self.total_steps)

    def state(self) -> dict[str, Tensor]:
        """State as tensors, by parameter and name; of tables, the rows that training has touched."""
        state: dict[str, Tensor] = {}
        for optimiser in self._all:
            for weight in _weights(optimiser):
                for name, value in optimiser.state[weight].items():
                    key, moment = f"{self.names[weight]}|{name}", torch.as_tensor(value)
                    in_rows = moment.dim() and self.names[weight].endswith(TABLES)
                    state |= packed_rows(key, moment, zero_rows(moment)) if in_rows else {key: moment}
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state from ``state``.

        Raises:
            ValueError: A tensor is missing or unknown, or does not fit its parameter.
        """
        loaded = 0
        for optimiser in self._all:
            for weight in _weights(optimiser):
                prefix = f"{self.names[weight]}|"
                held = [name for name in state if name.startswith(prefix)]
                if not held:
                    continue
                loaded += len(held)
                values = {name.removeprefix(prefix).partition("|")[0] for name in held}
                if values != MOMENTS.keys():
                    raise ValueError(f"{prefix} has {sorted(values)}, expected {sorted(MOMENTS)}")
                kept = {name: _moment(state, prefix + name, like(weight)) for name, like in MOMENTS.items()}
                if not kept["step"] >= 1 or not bool((kept["exp_avg_sq"] >= 0).all()):
                    raise ValueError(f"{prefix} holds numbers that Adam cannot have reached")
                optimiser.state[weight] = kept
        if loaded < len(state):
            raise ValueError("the state of an optimiser names parameters that the network lacks")


def _moment(state: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """What Adam keeps for a parameter, of the type and shape of a tensor."""
    if name + NUMBERS in state:
        return unpacked_rows(state, name, like, zero_rows(like))
    return tensor_like(state, name, like)


def _weights(optimiser: torch.optim.Optimizer) -> Iterable[nn.Parameter]:
    return [weight for group in optimiser.param_groups for weight in group["params"]]
