"""A level: lists of coded entries, in the memory layout that the kernels read."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import is_not
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hmn._native.arguments import address

LANES = 16
"""Entries per panel."""
GROUP = 4
"""Bytes of an entry's code that lie side by side; the same bytes of the other entries of the panel follow."""
IN_FULL = 32
"""Value of ``Level.bits`` for entries without codes, which are scored by their keys."""


class Begin(NamedTuple):
    """Lists that queries enter first, where others have already found the way to them.

    Attributes:
        lists: ``(B, P)`` int64, -1 for none.
        base: ``(B, P)`` float32 inner product of the query with the direction of each list.
    """

    lists: Tensor
    base: Tensor


@dataclass
class Level:
    """Entries in lists; each list is a run of whole panels of 16 entries.

    The score of an entry for a query is ``along * (query . direction of its list) + step * (query . (code -
    zero))``. There, zero is 0.5 for codes of one bit, 7.5 for 4 bits, 127.5 for 8 bits, and 0 for 16 bits,
    whose codes are signed.

    Attributes:
        codes: ``(P, G, 16, 4)`` uint8. With 8 bits, byte ``[p, g, e, i]`` is the code of entry ``16 * p + e``
            for feature ``4 * g + i``. With fewer bits, its lowest bits are that code; the next bits are the
            code for feature ``4 * (g + G) + i``, and so on. With 16 bits, two bytes make one code: a group
            holds features ``2 * g`` and ``2 * g + 1``.
        along: ``(16 * P,)`` float32 coefficient of each entry along the direction of its list.
        step: ``(16 * P,)`` float32 factor of each entry's codes.
        child: ``(16 * P,)`` int32, what each entry stands for: a list of the next level, or a row.
        first_panel: ``(L,)`` int64 panel at which each list begins.
        length: ``(L,)`` int32 entries per list.
        bits: 1, 4 or 8 per feature; 16, for ``screened`` only; ``IN_FULL`` for a last level whose entries are
            scored by their keys (G is 0).
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
        """The code of a coordinate of 0; a half where no code stands for 0."""
        return 0.0 if self.bits == 16 else ((1 << self.bits) - 1) / 2

    @property
    def entry_bytes(self) -> int:
        """Bytes read to score an entry by its code: the code, along and step."""
        return 0 if self.bits == IN_FULL else self.codes.shape[1] * GROUP + 8

    def entries_of(self, lists: Tensor) -> tuple[Tensor, Tensor]:
        """Slots of all entries of lists ``(m,)``, list by list, and the length of each list ``(m,)``."""
        length = self.length[lists].long()  # (m,)
        begin = self.first_panel[lists] * LANES - length.cumsum(0) + length
        begin = begin.repeat_interleave(length)  # (entries,)
        return begin + torch.arange(len(begin), device=lists.device), length

    def children_of(self, lists: Tensor) -> tuple[Tensor, Tensor]:
        """Children of all entries of lists ``(m,)``, list by list, and the length of each list ``(m,)``."""
        slot, length = self.entries_of(lists)
        return self.child[slot].long(), length

    def compiled(self, kernels: Any) -> Any:
        """The kernels' view of the tensors; cached until one of them is replaced."""
        parts = (self.codes, self.along, self.step, self.child, self.first_panel, self.length)
        if self._compiled is None or any(map(is_not, self._compiled[0], parts)):
            self._check()
            self._compiled = (parts, kernels.level(*parts, self.bits))
        return self._compiled[1]

    def _check(self) -> None:
        """Refuse parts that do not fit each other; the kernels check the numbers in them."""
        panels, lists = len(self.codes), len(self.length)
        address(self.codes, torch.uint8, (panels, *self.codes.shape[1:2], LANES, GROUP), "codes")
        for name, dtype in (("along", torch.float32), ("step", torch.float32), ("child", torch.int32)):
            address(getattr(self, name), dtype, (panels * LANES,), name)
        address(self.first_panel, torch.int64, (lists,), "first_panel")
        address(self.length, torch.int32, (lists,), "length")

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
