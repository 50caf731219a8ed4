"""A filter: which rows queries may find."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hmn._native.arguments import address


class Filter(NamedTuple):
    """Which rows queries may find: those whose number lies from a lower to an upper limit.

    Attributes:
        number: ``(n,)`` int64 number of each cell, or bool, whether all queries may find it. Cells from n on
            are found by none.
        low: ``(B,)`` or ``(1,)`` int64 lower limit of each query, or of all; unused with bool.
        high: the same, upper limit.
        cell: ``(rows,)`` int64 cell of each row; None where cells are rows.
    """

    number: Tensor
    low: Tensor
    high: Tensor
    cell: Tensor | None = None

    @property
    def is_shared(self) -> bool:
        """Whether all queries may find the same rows."""
        return len(self.low) == 1

    def as_mask(self) -> Filter:
        """A shared filter with a mask, which takes an eighth of the memory."""
        if self.number.dtype == torch.bool:
            return self
        return self._replace(number=(self.number >= self.low) & (self.number <= self.high))

    def of(self, lines: Tensor) -> Filter:
        """The same for some of the queries ``(b,)``."""
        return self if self.is_shared else self._replace(low=self.low[lines], high=self.high[lines])

    def sets(self, queries: int) -> tuple[list[Filter], Tensor]:
        """The distinct sets, each as a shared filter, and which of them each of some queries ``(B,)`` has."""
        if self.is_shared:
            return [self], self.low.new_zeros(queries)
        limits = torch.stack([self.low, self.high], dim=1)  # (B, 2)
        limits, which = torch.unique(limits, dim=0, return_inverse=True)
        low, high = limits.T.contiguous()
        return [self._replace(low=a, high=b) for a, b in zip(low.split(1), high.split(1), strict=True)], which

    def numbers(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The number of each of some rows of any shape, -1 included, and whether it has one."""
        cell = rows if self.cell is None else self.cell[rows.clamp(min=0)].masked_fill(rows < 0, -1)
        has = (cell >= 0) & (cell < len(self.number))
        if not len(self.number):
            return torch.zeros_like(rows), has
        return self.number[cell.clamp(0, len(self.number) - 1)], has

    def allows(self, rows: Tensor) -> Tensor:
        """Whether each query may find rows ``(C,)``, or its own line of rows ``(B, C)``.

        Returns:
            ``(1, C)`` bool for rows that all queries share with a shared filter, ``(B, C)`` otherwise.
        """
        number, has = self.numbers(rows if rows.dim() == 2 else rows.unsqueeze(0))
        if number.dtype == torch.bool:
            return number & has
        return has & (number >= self.low.unsqueeze(1)) & (number <= self.high.unsqueeze(1))

    def parts(self) -> list[tuple[int, int]]:
        """Address and number of what the filter consists of, for the kernels."""
        number, low, high, cell = self
        none = 0, -1
        is_mask = number.dtype == torch.bool
        listed = _numbers(number, torch.bool if is_mask else torch.int64, "the numbers of allowed")
        return [
            listed if is_mask else none,
            none if is_mask else listed,
            _numbers(low, torch.int64, "low of allowed"),
            _numbers(high, torch.int64, "high of allowed"),
            none if cell is None else _numbers(cell, torch.int64, "cells by row"),
        ]


class Enough(NamedTuple):
    """How many allowed entries a query looks at in the last level of a search.

    Lists of that level are entered, best first, until enough have allowed entries, and these are enough.
    Lists without any are passed over.

    Attributes:
        lists: number of lists with allowed entries.
        entries: ``(B,)`` float32 number of allowed entries.
        looked: entries of a list by which the number of allowed ones is estimated; more where none of them is
            allowed, until one is.
        most: upper limit of the entries that are looked at so; a list whose first ones are not allowed counts
            as one without any. PyTorch looks at all entries.
        lacking: ``(B,)`` bool; written: whether the lists that were found have too few.
    """

    lists: int
    entries: Tensor
    looked: int
    most: int
    lacking: Tensor


def _numbers(numbers: Tensor, dtype: torch.dtype, name: str) -> tuple[int, int]:
    """Address and number of numbers."""
    count = numbers.numel()
    return address(numbers, dtype, (count,), name), count
