"""Full softmax attention over a stored memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hmn.nn.attention.scoring import (
    all_reads,
    all_scores,
    checked,
    checked_memory,
    kept,
    shaped,
    softmax,
)
from hmn.nn.memory.operator import check_range
from hmn.nn.memory.stored import Memory
from hmn.nn.products import scaled, weighted_sum
from hmn.nn.settings import keep_scale
from hmn.results import Read


class SoftmaxAttention(nn.Module):
    """Full softmax attention: every cell is scored and read, at a cost linear in N.

    Gradients reach all rows and are dense, so the optimiser cannot be ``SparseAdam``. A memory that is
    trained with ``DistributedDataParallel`` needs ``sparse=False``.

    Args:
        memory: N cells.
        scale: factor of the scores in the softmax; a number, or an ``nn.Parameter`` that is trained.

    Raises:
        ConfigError: scale is not one finite number above 0.
    """

    scale: float | Tensor

    def __init__(self, memory: Memory, scale: float | Tensor = 1.0) -> None:
        super().__init__()
        self.memory = checked_memory(memory)
        keep_scale(self, scale)

    def forward(self, query: Tensor, target: Tensor | None = None) -> Read:
        """Read the memory: as ``KMIPSAttention.forward`` with K = N, cells in their own order.

        ``target`` is checked but changes nothing: every cell is read.
        """
        flat, wanted = checked(query, target, self.memory)
        check_range(wanted, len(self.memory))
        score = all_scores(flat, self.memory)  # (B, N)
        cell = torch.arange(len(self.memory), device=score.device).expand(len(flat), -1)
        weight = softmax(scaled(self.scale, score), cell < 0)
        values = self.memory.keys if self.memory.values is None else self.memory.values
        value = weighted_sum(weight, kept(self.memory, values)).to(
            torch.promote_types(flat.dtype, values.dtype)
        )
        return shaped(Read(value, weight, cell, score, all_reads(flat, self.memory)), query)
