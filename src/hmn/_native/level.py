"""A level of lists of coded entries, as the kernels and their twins read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import is_not
from typing import Any

import torch
from torch import Tensor

LANES, GROUP = 16, 4
"""A panel has 16 entries; codes lie in groups of 4 features."""
IN_FULL = 32
"""As bits of a level: its entries have no codes and are scored by their keys."""


@dataclass
class Level:
    """Entries in lists, each a run of whole panels of 16 entries.

    The score of an entry for a query is ``along * (query . direction of its list) + step * (query . (code -
    zero))``, where zero is 0.5 for codes of one bit, 7.5 for 4, 127.5 for 8 and 0 for 16, which are signed.

    Attributes:
        codes: ``(P, G, 16, 4)`` uint8. With 8 bits byte ``[p, g, e, i]`` is the code of entry
            ``16 * p + e`` for feature ``4 * g + i``; with fewer bits its lowest are that, the next the code
            for feature ``4 * (g + G) + i``, and so on. With 16 bits two bytes are a code, for feature
            ``2 * g`` and the next.
        along, step: ``(16 * P,)`` float32.
        child: ``(16 * P,)`` int32, what each entry stands for.
        first_panel: ``(L,)`` int64 where each list begins.
        length: ``(L,)`` int32 entries of each list.
        bits: 1, 4 or 8, or 16, which only ``screened`` takes; ``IN_FULL`` for the last level if its entries
            are scored by their keys (G is 0 then).
    """

    codes: Tensor
    along: Tensor
    step: Tensor
    child: Tensor
    first_panel: Tensor
    length: Tensor
    bits: int
    _compiled: tuple[tuple[Tensor, ...], Any] | None = field(default=None, repr=False, compare=False)

    @property
    def zero(self) -> float:
        """The code that stands for nothing."""
        return 0.0 if self.bits == 16 else ((1 << self.bits) - 1) / 2

    @property
    def entry_bytes(self) -> int:
        """Bytes that scoring an entry by its code touches: its code, along and step."""
        return 0 if self.bits == IN_FULL else self.codes.shape[1] * GROUP + 8

    def entries_of(self, lists: Tensor) -> tuple[Tensor, Tensor]:
        """Places of all entries of lists ``(m,)``, list by list, and their numbers ``(m,)``."""
        length = self.length[lists].long()
        begin = self.first_panel[lists] * LANES - length.cumsum(0) + length
        begin = begin.repeat_interleave(length)
        return begin + torch.arange(len(begin), device=lists.device), length

    def children_of(self, lists: Tensor) -> tuple[Tensor, Tensor]:
        """What the entries of lists ``(m,)`` stand for, list by list, and their numbers ``(m,)``."""
        place, length = self.entries_of(lists)
        return self.child[place].long(), length

    def compiled(self, kernels: Any) -> Any:
        """The kernels' own view of the tensors, made anew only when one of them is another."""
        parts = (self.codes, self.along, self.step, self.child, self.first_panel, self.length)
        if self._compiled is None or any(map(is_not, self._compiled[0], parts)):
            self._compiled = (parts, kernels.level(*parts, self.bits))
        return self._compiled[1]

    def __deepcopy__(self, memo: dict[int, Any]) -> Level:
        """A copy with tensors of its own."""
        return Level(
            codes=self.codes.clone(),
            along=self.along.clone(),
            step=self.step.clone(),
            child=self.child.clone(),
            first_panel=self.first_panel.clone(),
            length=self.length.clone(),
            bits=self.bits,
        )
