"""How evenly a memory is used."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class CellUse:
    """Counts how often cells are read, and with which weights.

    Args:
        cells: number of cells.
    """

    def __init__(self, cells: int) -> None:
        self.reads = torch.zeros(cells, dtype=torch.int64, device="cpu")
        self.weight = torch.zeros(cells, dtype=torch.float64, device="cpu")

    @torch.no_grad()
    def add(self, cell: Tensor, weight: Tensor) -> None:
        """Count reads of cells ``(..., K)``, -1 for none, with weights ``(..., K)``."""
        used = cell >= 0
        read = cell[used].to(self.reads.device)
        self.reads += torch.bincount(read, minlength=len(self.reads))
        self.weight.index_add_(0, read, weight[used].to(self.weight))

    @property
    def share(self) -> float:
        """Share of the cells that were read at all."""
        return float((self.reads > 0).double().mean())

    @property
    def divergence(self) -> float:
        """Kullback-Leibler divergence, in nats, of the weights of cells from equal ones.

        0 if all cells have got the same weight, ``log(N)`` if one has got all. NaN before the first read.
        """
        part = self.weight / self.weight.sum()
        return math.log(len(part)) + float(torch.special.xlogy(part, part).sum())

    def forget(self) -> None:
        """Count from 0 again."""
        self.reads.zero_()
        self.weight.zero_()
