"""Hard attention over a stored memory, trained by REINFORCE; for comparison."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hmn.errors import ConfigError, ShapeError
from hmn.index.checks import as_tensor
from hmn.nn.attention.scoring import (
    all_reads,
    all_scores,
    checked,
    checked_memory,
    shaped,
    uncompiled,
)
from hmn.nn.memory.operator import check_range
from hmn.nn.memory.stored import Memory
from hmn.nn.products import scaled
from hmn.nn.settings import check_seed, check_share, keep_scale, stream
from hmn.results import Read

DRAWN_BLOCK = 256
"""Number of cells whose probabilities are added up before one of them is drawn."""


class HardAttention(nn.Module):
    """Hard attention: each query reads one cell, drawn from the full softmax; for comparison.

    Trained by REINFORCE (Williams 1992) with a moving average of the reward as its baseline: add
    ``loss(read, reward)`` to the rest of the loss. In evaluation the best cell is read.

    Args:
        memory: N cells, at least one; a ring may be empty until it is read. Gradients of keys are dense, as
            those of ``SoftmaxAttention``.
        scale: factor of the scores in the softmax that cells are drawn from; a number, or an
            ``nn.Parameter`` that is trained.
        decay: decay of the moving average, from 0 to below 1.
        seed: number that is mixed into the draws of PyTorch's generator; see ``KMIPSAttention``.

    Raises:
        ConfigError: a setting is out of its range, or the memory is empty.
    """

    baseline: Tensor
    scale: float | Tensor
    steps: Tensor

    def __init__(
        self, memory: Memory, scale: float | Tensor = 1.0, *, decay: float = 0.9, seed: int = 0
    ) -> None:
        super().__init__()
        _check_some(len(checked_memory(memory).table))  # a ring is empty at first
        self.memory = memory
        keep_scale(self, scale)
        self.decay = check_share("decay", decay)
        self.seed = check_seed(seed)
        self.register_buffer("baseline", torch.zeros((), dtype=torch.float32, device=memory.keys.device))
        self.register_buffer("steps", torch.zeros((), dtype=torch.float32, device=memory.keys.device))

    def forward(self, query: Tensor, target: Tensor | None = None) -> Read:
        """Read one cell for each query: ``value`` is its value, ``weight`` (B, 1) its probability.

        Arguments and errors as in ``KMIPSAttention.forward``. ``target`` is checked but changes
        nothing: the gradient is right only for draws from the softmax itself.
        """
        flat, wanted = checked(query, target, self.memory)
        _check_some(len(self.memory))
        check_range(wanted, len(self.memory))
        score = all_scores(flat, self.memory)  # (B, N)
        share = torch.log_softmax(scaled(self.scale, score), dim=1)
        cell = self._draw(share) if self.training else share.argmax(dim=1, keepdim=True)  # (B, 1)
        value = self.memory.values_of(cell.squeeze(1))  # (B, V)
        weight = share.gather(1, cell).exp()
        reads = all_reads(flat, self.memory)
        return shaped(Read(value, weight, cell, score.gather(1, cell), reads), query)

    def loss(self, read: Read, reward: Tensor) -> Tensor:
        """The score-function term: its gradient estimates that of minus the mean reward.

        Args:
            read: from ``forward`` in training.
            reward: ``(...)``, one for each query, larger is better; no gradient flows to it.

        Returns:
            A scalar. In training the baseline moves towards this batch's rewards, after they were used.

        Raises:
            ShapeError: the reward has another shape than the queries.
        """
        reward = as_tensor(reward, "reward", floats=True)
        if reward.is_complex():
            raise ShapeError(f"reward is of {reward.dtype}, expected real numbers")
        if reward.shape != read.weight.shape[:-1]:
            expected = tuple(read.weight.shape[:-1])
            raise ShapeError(
                f"reward has shape {tuple(reward.shape)}, expected {expected}: one for each query"
            )
        reward = reward.detach().to(self.baseline.dtype)
        share = 1 - self.decay**self.steps  # as Adam corrects averages that start at zero
        expected_reward = torch.where(self.steps > 0, self.baseline / share, 0.0)
        term = -((reward - expected_reward) * read.weight.squeeze(-1).log()).mean()
        if self.training and reward.numel():
            with torch.no_grad():
                self.baseline.lerp_(reward.mean(), 1 - self.decay)
                self.steps += 1
        return term

    @uncompiled
    @torch.no_grad()
    def _draw(self, share: Tensor) -> Tensor:
        """Draw one column ``(B, 1)`` per row of log-probabilities ``(B, N)``, by inverting their running sum.

        One random number is drawn per row, not per cell; the block of columns is found first, then the
        column.
        """
        if not len(share):
            return share.new_empty(0, 1, dtype=torch.int64)
        weight = F.pad(share.exp(), (0, -share.shape[1] % DRAWN_BLOCK)).reshape(len(share), -1, DRAWN_BLOCK)
        mass = weight.sum(dim=2, dtype=torch.float64)  # (B, N / block)
        generator = stream(self.seed)
        part = torch.rand(len(share), 1, dtype=torch.float64, generator=generator, device=generator.device)
        part = part.to(share.device)
        block, left = _reached(mass, part * mass.sum(dim=1, keepdim=True))
        own = weight.take_along_dim(block.unsqueeze(2), dim=1).squeeze(1).double()  # (B, block)
        column, _ = _reached(own, left)
        return block * DRAWN_BLOCK + column


def _check_some(cells: int) -> None:
    """Refuse a memory without cells."""
    if not cells:
        raise ConfigError("the memory has no cells, expected at least one for hard attention to draw")


def _reached(weight: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    """Find where running sums of rows ``(B, n)`` first exceed ``part`` (B, 1), and what is left of it there.

    A part that rounding has raised to the whole sum is reached at the last weight that is not zero.
    """
    total = weight.cumsum(dim=1)
    last = weight.shape[1] - 1 - (weight > 0).flip(1).byte().argmax(dim=1, keepdim=True)
    column = torch.minimum(torch.searchsorted(total, part, right=True), last)  # (B, 1)
    return column, part - (total - weight).gather(1, column)
