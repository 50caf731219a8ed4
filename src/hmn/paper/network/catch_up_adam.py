"""Adam on a table of which a step touches few rows, with the result of Adam on the whole table.

The paper trains its words with Adam, whose momentum moves every row at every step, even rows that the batch
does not touch: a rare word moves ten times as far after one of its few gradients as with it. Adam on the
touched rows alone (``torch.optim.SparseAdam``) omits these movements. Making them all moves tens of millions
of numbers per step. Here a row makes up for the steps that it missed when it is next needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hmn.store.contents import tensor_like

LONGEST = 400
"""Upper limit of the movements after a gradient: each is a tenth smaller, so later ones are below float32."""
PART = 1 << 13
"""Rows that catch up together, to bound the memory they need."""


class CatchUpAdam:
    """Adam for one table whose gradients are sparse rows.

    Call ``catch_up`` with the rows that a step is going to read, and without rows before the whole table is
    read. ``eps`` is left out only of the decay of the denominator between two gradients.

    Args:
        weight: ``(rows, features)`` parameter.
        lr: learning rate.
        betas, eps: as in ``torch.optim.Adam``.
    """

    def __init__(
        self, weight: Tensor, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        self.weight, self.lr, self.betas, self.eps = weight, lr, betas, eps
        self.steps = 0
        self.mean, self.square = torch.zeros_like(weight), torch.zeros_like(weight)
        self._table = torch.zeros(0)
        self.last = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)

    @torch.no_grad()
    def catch_up(self, rows: Tensor | None = None) -> None:
        """Bring distinct rows ``(n,)``, or all rows, to where Adam would have moved them by now."""
        if rows is None:
            rows = torch.arange(len(self.weight), device=self.weight.device)
        # before its first gradient a row is at rest
        rows = rows[(self.last[rows] < self.steps) & (self.last[rows] > 0)]
        for part in torch.split(rows, PART) if len(rows) else ():
            missed = self.steps - self.last[part]
            mean, square = self.mean[part], self.square[part]
            moved = mean / square.sqrt().add_(self.eps)
            far = self._distance(self.last[part], missed).to(moved.dtype)
            self.weight.index_add_(0, part, moved * far.unsqueeze(1), alpha=-self.lr)
            for state, value, beta in zip((self.mean, self.square), (mean, square), self.betas, strict=True):
                decay = torch.pow(torch.tensor(beta, dtype=torch.float64, device=part.device), missed)
                state[part] = value * decay.to(value.dtype).unsqueeze(1)
            self.last[part] = self.steps

    @torch.no_grad()
    def step(self) -> None:
        """Move the rows that have a gradient, which must have caught up, and clear the gradient."""
        first, second = self.betas
        self.steps += 1
        if self.weight.grad is None:
            return
        gradient = self.weight.grad.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        mean = self.mean[rows].lerp_(values, 1 - first)
        square = self.square[rows].mul_(second).addcmul_(values, values, value=1 - second)
        self.mean[rows], self.square[rows], self.last[rows] = mean, square, self.steps
        spread = square.div_(1 - second**self.steps).sqrt_().add_(self.eps)
        self.weight.index_add_(0, rows, mean.div_(spread), alpha=-self.lr / (1 - first**self.steps))
        self.weight.grad = None

    def state(self) -> dict[str, Tensor]:
        """The state as tensors."""
        steps = torch.tensor(self.steps)
        return {"steps": steps, "mean": self.mean, "square": self.square, "last": self.last}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state`` returned.

        Raises:
            ValueError: a tensor is missing, does not fit, or holds numbers out of range.
        """
        own = self.state()
        loaded = {name: tensor_like(state, name, tensor) for name, tensor in own.items()}
        steps, last = int(loaded["steps"]), loaded["last"]
        if not 0 <= int(last.min()) <= int(last.max()) <= steps or bool((loaded["square"] < 0).any()):
            raise ValueError(f"rows moved in steps {int(last.min())} to {int(last.max())} of {steps}")
        self.steps = steps
        for name in ("mean", "square", "last"):
            getattr(self, name).copy_(loaded[name])

    def _corrections(self, device: torch.device) -> Tensor:
        """Adam's corrections of its averages by number of steps, tabulated well beyond the present one."""
        if len(self._table) <= self.steps + LONGEST:
            first, second = self.betas
            step = torch.arange(2 * (self.steps + LONGEST), device=device, dtype=torch.float64)
            self._table = (1 - second**step).sqrt() / (1 - first**step)
        return self._table

    def _distance(self, last: Tensor, missed: Tensor) -> Tensor:
        """Sum ``(n,)`` of the missed movements, in units of the learning rate and of mean / sqrt(square)."""
        first, second = self.betas
        ago = torch.arange(1, min(int(missed.max()), LONGEST) + 1, device=last.device, dtype=torch.float64)
        shrunk = (first / second**0.5) ** ago
        size = shrunk * self._corrections(last.device)[last.unsqueeze(1) + ago.long()]  # (n, A)
        total: Tensor = (size * (ago <= missed.unsqueeze(1))).sum(dim=1)
        return total
