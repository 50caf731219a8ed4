"""A step of Adam on some rows of a table."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from hmn._native.arguments import address
from hmn._native.backend import kernels_for
from hmn._native.fallback import rows as pytorch


class Step(NamedTuple):
    """A step of Adam.

    Attributes:
        first: weight of the new gradient in the mean: 1 - the first beta.
        second: weight of its square in the mean of squares: 1 - the second beta.
        square_scale: factor of the mean of squares: ``1 / (1 - second beta ** steps)``.
        rate: learning rate, divided by ``1 - first beta ** steps``.
        eps: added to the root of the mean of squares.
        kept: share of a row that weight decay leaves.
    """

    first: float
    second: float
    square_scale: float
    rate: float
    eps: float
    kept: float


def move_rows(step: Step, row: Tensor, gradient: Tensor, table: Tensor, mean: Tensor, square: Tensor) -> None:
    """Move rows of a table, and their moments, by their gradients.

    Args:
        step: the step.
        row: ``(U,)`` int64 distinct rows.
        gradient: ``(U, D)``, of the type of the moments.
        table: ``(N, D)``, modified in place.
        mean: ``(N, D)`` means of the gradients, modified in place.
        square: ``(N, D)`` means of their squares, modified in place.

    Raises:
        ShapeError: a row does not exist, or tensors do not fit each other.
    """
    kernels = kernels_for(table)
    plain = all(part.dtype is torch.float32 and part.is_contiguous() for part in (table, mean, square))
    if kernels is None or not plain:
        pytorch.move_rows(*step, row, gradient, table, mean, square)
        return
    row, gradient, shape = row.contiguous(), gradient.contiguous(), tuple(table.shape)
    kernels.move_rows(
        address(row, torch.int64, (len(row),), "the rows that are moved"),
        len(row),
        address(gradient, torch.float32, (len(row), shape[1]), "gradient"),
        *(
            address(part, torch.float32, shape, name)
            for part, name in ((table, "table"), (mean, "mean"), (square, "square"))
        ),
        *shape,
        *step,
        torch.get_num_threads(),
    )
    for part in (table, mean, square):
        increment_version(part)  # as PyTorch's own operations do
