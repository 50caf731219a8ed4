"""A level: lists of coded entries, in the memory layout that the kernels read."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import is_not
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from hmn._native.arguments import address

LANES = 16
"""Entries per panel."""
GROUP = 4
"""Bytes of an entry's code that lie side by side; the same bytes of the other entries of the panel follow."""
LINE = 64
"""Bytes of a line of a panel's screen: one cache line."""
WORD = 4
"""Bytes of the two bfloat16 numbers that an entry has in its screen, and in its row of codes."""
FINE_BYTES = 32
"""The bytes of an entry's row of codes are a multiple of this."""
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


class Encoder(Protocol):
    """Short codes, as ``hmn.index.storage.short_codes.ShortCodes`` has them."""

    centroid: Tensor
    order: Tensor | None
    rotation: Tensor | None

    def encode(self, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Codes ``(m, n)`` uint8 and factors ``(m,)`` of vectors ``(m, D)`` float32."""
        ...


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
        screen: ``(P, 1 + n / 8, 64)`` uint8 short codes: 4 bits for each of n parts. Line 0 has two bfloat16
            numbers for each entry: the factor of its short code, then its coefficient along the direction.
            Line ``1 + l`` has byte ``16 * j + e`` for entry e: part ``8 * l + j`` in the lower half, part
            ``8 * l + 4 + j`` in the upper one. None, as the three below, for lists without short codes.
        fine: ``(16 * P, W)`` uint8, the codes of ``codes`` (4 bits) as one row for each entry: ``step`` and
            ``along`` as bfloat16, then bytes with feature i in the lower half and ``i + W - 4`` in the upper.
        size: ``(16 * P, 2)`` float32 length of each vector, and of what its part along the direction leaves.
        bound: ``(P, 2)`` float32: how large the part along the direction and a product with the rest may be
            in this panel and in those after it in its list; see ``hmn._native.lists.write_bounds``.
    """

    codes: Tensor
    along: Tensor
    step: Tensor
    child: Tensor
    first_panel: Tensor
    length: Tensor
    bits: int
    screen: Tensor | None = None
    fine: Tensor | None = None
    size: Tensor | None = None
    bound: Tensor | None = None
    _compiled: tuple[tuple[Tensor | None, ...], Any] | None = field(default=None, repr=False, compare=False)

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
        parts: tuple[Tensor | None, ...]
        parts = (self.codes, self.along, self.step, self.child, self.first_panel, self.length)
        parts += (self.screen, self.fine, self.size, self.bound)
        if self._compiled is None or any(map(is_not, self._compiled[0], parts)):
            self._check()
            self._compiled = (parts, kernels.level(*parts, self.bits))
        return self._compiled[1]

    def screen_at(self, slot: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Along ``(m,)``, factor ``(m,)`` and short codes ``(m, n)`` uint8 of entries at slots ``(m,)``."""
        assert self.screen is not None
        panel, lane = slot // LANES, slot % LANES
        along, step = _two_numbers(self.screen.view(torch.int32)[panel, 0, lane])
        lines = self.screen.view(*self.screen.shape[:2], LINE // LANES, LANES)
        packed = lines[panel, 1:, :, lane]  # (m, n / 8, 4)
        return along, step, torch.stack([packed & 15, packed >> 4], dim=2).flatten(1)

    def fine_at(self, slot: Tensor, features: int) -> tuple[Tensor, Tensor, Tensor]:
        """Along ``(m,)``, step ``(m,)`` and codes ``(m, D)`` uint8 at slots ``(m,)``, by ``fine``."""
        assert self.fine is not None
        row = self.fine[slot]  # (m, W)
        along, step = _two_numbers(row[:, :WORD].contiguous().view(torch.int32).squeeze(1))
        return along, step, torch.cat([row[:, WORD:] & 15, row[:, WORD:] >> 4], dim=1)[:, :features]

    def _check(self) -> None:
        """Refuse parts that do not fit each other; the kernels check the numbers in them."""
        panels, lists = len(self.codes), len(self.length)
        address(self.codes, torch.uint8, (panels, *self.codes.shape[1:2], LANES, GROUP), "codes")
        for name, dtype in (("along", torch.float32), ("step", torch.float32), ("child", torch.int32)):
            address(getattr(self, name), dtype, (panels * LANES,), name)
        address(self.first_panel, torch.int64, (lists,), "first_panel")
        address(self.length, torch.int32, (lists,), "length")
        if self.screen is not None and self.fine is not None:
            address(self.screen, torch.uint8, (panels, *self.screen.shape[1:2], LINE), "screen")
            address(self.fine, torch.uint8, (panels * LANES, *self.fine.shape[1:2]), "fine")
        for name, entries in (("size", panels * LANES), ("bound", panels)):
            if (column := getattr(self, name)) is not None:
                address(column, torch.float32, (entries, 2), name)

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
            screen=_copy(self.screen),
            fine=_copy(self.fine),
            size=_copy(self.size),
            bound=_copy(self.bound),
        )


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()


def _two_numbers(word: Tensor) -> tuple[Tensor, Tensor]:
    """The bfloat16 numbers in the upper and the lower halves of words ``(m,)`` int32, as float32 ``(m,)``."""
    return (word & -65536).view(torch.float32), (word << 16).view(torch.float32)
