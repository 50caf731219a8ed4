"""Refuse NaN, infinity, and vectors too long for inner products in float32."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hmn.errors import NonFiniteError

LONGEST = 2.0**63
"""Upper limit of a vector's length; all inner products are then below 2^126, and float32 can hold them."""


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


def check_vectors(rows: Tensor, name: str, slack: float = 1.0) -> None:
    """Refuse what has no inner products: NaN, infinity, and rows longer than ``slack * LONGEST``."""
    # the length of all rows together bounds each, and takes a tenth of the time of looking at each
    wide = None if rows.dtype in (torch.float32, torch.float64) else torch.float32
    if float(torch.linalg.vector_norm(rows.detach(), dtype=wide)) <= slack * LONGEST / 2:  # rounding included
        return
    check_finite(rows, name)
    length = torch.linalg.vector_norm(rows.detach(), dim=1, dtype=torch.float64)
    bad = (length > slack * LONGEST).nonzero()
    if len(bad):
        raise NonFiniteError(
            f"{name}: row {int(bad[0])} has length {float(length[bad[0]]):.3g} ({len(bad)} such rows), "
            f"expected at most {LONGEST:.3g}, so that float32 can hold inner products: scale the {name}"
        )
