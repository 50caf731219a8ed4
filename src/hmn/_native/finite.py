"""Refuse NaN and infinity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hmn.errors import NonFiniteError


def check_finite(rows: Tensor, name: str) -> None:
    """Refuse NaN and infinity in a matrix, naming the first bad row."""
    # a finite sum proves all entries finite, at a tenth of the cost of looking at each; an infinite one may
    # only have overflowed
    if math.isfinite(float(rows.detach().sum(dtype=torch.float32))):
        return
    bad = (~torch.isfinite(rows)).any(dim=1).nonzero()
    if len(bad):
        raise NonFiniteError(
            f"{name}: row {int(bad[0])} holds NaN or infinity ({len(bad)} such rows), "
            "expected finite numbers: remove or repair these rows"
        )
