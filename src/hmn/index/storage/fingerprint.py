"""Fingerprints of keys: one number per row, by which a changed key is noticed."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS_AT_A_TIME = 1 << 14
"""Number of rows that are hashed at a time, to bound the memory it needs."""


def row_fingerprints(keys: Tensor) -> Tensor:
    """Hash each row of ``(N, D)`` keys to an int64: ``(N,)``, the same however the rows are split."""
    bits = keys.detach().contiguous().view(torch.int16 if keys.element_size() == 2 else torch.int32)
    column = torch.arange(1, bits.shape[1] + 1, dtype=torch.int64, device=keys.device)
    weight = column * 0x1E3779B97F4A7C15
    weight = (weight ^ (weight >> 30)) * 0x3F58476D1CE4E5B9 | 1
    parts = [(part.long() * weight).sum(dim=1) for part in torch.split(bits, ROWS_AT_A_TIME)]
    return torch.cat(parts) if parts else column.new_empty(0)
