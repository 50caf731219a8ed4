"""Lists of vectors in short codes that grow and shrink in place: one level of a hierarchy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native import enter, take_out, write_entries
from hmn._native.codes import codes_of
from hmn._native.level import GROUP, IN_FULL, LANES, Level
from hmn.errors import ShapeError

SPARE = 1.25
"""Room of a list when it is built, in multiples of its entries."""
CODES = {"int1": 1, "int4": 4, "int8": 8}
"""Bits per feature of the codes that the setting ``codes`` names."""
STATE_NAMES = ("codes", "along", "step", "child", "first_panel", "length", "room")
"""Names in the state, after the prefix."""
ENCODED_AT_A_TIME = 1 << 16
"""Entries encoded at a time while lists are built."""


class Lists:
    """L lists of entries, each a vector in a code of 1, 4 or 8 bits per feature, or without a code.

    An entry stands for a *child*: a number that the owner gives it. A list has a direction v, in which its
    vectors lie roughly. A vector x is kept as ``along * v + step * (code - zero)``: its part along v as one
    number, the rest as a code. Each list has room to grow; one that runs out of room moves.

    Args:
        features: D.
        bits: 1, 4 or 8; ``IN_FULL`` for entries without codes.
        device: device of the tensors.

    Attributes:
        level: the tensors, for the kernels.
    """

    def __init__(self, features: int, bits: int, device: torch.device) -> None:
        self.features, self.bits = features, bits
        self._bytes = 0 if bits == IN_FULL else GROUP * -(-features // (GROUP * 8 // bits))
        self._room = torch.zeros(0, dtype=torch.int64, device=device)  # (L,) panels
        self._used = 0  # panels
        self._count = 0  # entries
        self.level = self._empty(0, 0, device)

    def _empty(self, panels: int, lists: int, device: torch.device) -> Level:
        entries = panels * LANES
        return Level(
            codes=torch.zeros(panels, self._bytes // GROUP, LANES, GROUP, dtype=torch.uint8, device=device),
            along=torch.zeros(entries, dtype=torch.float32, device=device),
            step=torch.zeros(entries, dtype=torch.float32, device=device),
            child=torch.full((entries,), -1, dtype=torch.int32, device=device),
            first_panel=torch.zeros(lists, dtype=torch.int64, device=device),
            length=torch.zeros(lists, dtype=torch.int32, device=device),
            bits=self.bits,
        )

    def __len__(self) -> int:
        """Number of entries in all lists."""
        return self._count

    def build(self, lists: Tensor, child: Tensor, vectors: Tensor, direction: Tensor) -> Tensor:
        """Fill the lists from the start; what they held is gone.

        Args:
            lists: ``(n,)`` int64 list of each entry.
            child: ``(n,)`` int64 what each entry stands for.
            vectors: ``(children, D)`` float, by child.
            direction: ``(L, D)`` vectors of the lists; ``(L, 1)`` zeros where lists have none.

        Returns:
            ``(n,)`` int64 place of each entry.
        """
        count = torch.bincount(lists, minlength=len(direction))  # (L,)
        self._room = ((count.float() * SPARE).ceil().long() + LANES - 1) // LANES
        self._used = int(self._room.sum())
        self.level = self._empty(self._used, len(direction), lists.device)
        self.level.first_panel.copy_(self._room.cumsum(0) - self._room)
        self.level.length.copy_(count)
        self._count = len(lists)
        order = lists.argsort(stable=True)  # (n,) entries, list by list
        begin = count.cumsum(0) - count
        within = torch.arange(len(lists), device=lists.device) - begin[lists[order]]
        place = torch.empty_like(lists)  # (n,)
        place[order] = self.level.first_panel[lists[order]] * LANES + within
        for part in torch.split(torch.arange(len(lists), device=lists.device), ENCODED_AT_A_TIME):
            self.level.child[place[part]] = child[part].to(torch.int32)
            self._encode(place[part], vectors, child[part], lists[part], direction)
        return place

    def add(self, lists: Tensor, child: Tensor, vector: Tensor, direction: Tensor, where: Tensor) -> None:
        """Add entries; see ``build``.

        Args:
            lists, child, direction: as for ``build``.
            vector: ``(n, D)`` float, of each entry.
            where: by child, the place of its entry; written for new entries, and for those that had to move.
        """
        if not len(lists):
            return
        used = enter(self.level, self._room, self._used, lists, child, where)
        if used > len(self.level.codes):
            self._grow(max(used, self._used + self._used // 2))
            used = enter(self.level, self._room, self._used, lists, child, where)
        self._used = used
        self._count += len(lists)
        self._encode(where[child], vector, torch.arange(len(vector), device=vector.device), lists, direction)

    def remove(self, lists: Tensor, child: Tensor, where: Tensor) -> None:
        """Remove entries; the last entries of their lists take their places.

        Args:
            lists: ``(n,)`` int64 list of each entry.
            child: ``(n,)`` int64 what each entry stands for.
            where: by child, the place of its entry; becomes -1 for these, and is written for those that move.
        """
        if len(lists):
            take_out(self.level, lists, where[child], where)
            self._count -= len(lists)

    def more(self, count: int) -> None:
        """Append ``count`` empty lists."""
        level = self.level
        level.first_panel = F.pad(level.first_panel, (0, count))
        level.length = F.pad(level.length, (0, count))
        self._room = F.pad(self._room, (0, count))

    def vectors_at(self, place: Tensor, lists: Tensor, direction: Tensor) -> Tensor:
        """Vectors ``(n, D)`` that the codes at places ``(n,)``, in lists ``(n,)``, stand for."""
        rest = self.level.step[place].unsqueeze(1) * (
            codes_of(self.level, place, self.features) - self.level.zero
        )
        if direction.shape[1] != self.features:
            return rest
        return self.level.along[place].unsqueeze(1) * direction[lists] + rest

    def state_dict(self, prefix: str) -> dict[str, Tensor]:
        """The tensors, by name."""
        level, used = self.level, self._used
        return {
            f"{prefix}codes": level.codes[:used],
            f"{prefix}along": level.along[: used * LANES],
            f"{prefix}step": level.step[: used * LANES],
            f"{prefix}child": level.child[: used * LANES],
            f"{prefix}first_panel": level.first_panel,
            f"{prefix}length": level.length,
            f"{prefix}room": self._room,
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, Tensor], prefix: str, features: int, bits: int, children: int
    ) -> Lists:
        """Lists as they were when ``state_dict`` was called.

        Args:
            state: tensors by name; they are copied.
            prefix: beginning of their names.
            features: D.
            bits: as for the class.
            children: number that all children are below; the kernels rely on it.

        Raises:
            ShapeError: a tensor is missing or does not fit.
        """
        missing = [name for name in STATE_NAMES if f"{prefix}{name}" not in state]
        if missing:
            raise ShapeError(f"the state has no {prefix}{missing[0]}: save it with the same settings")
        tensors = {name: state[f"{prefix}{name}"].clone() for name in STATE_NAMES}
        lists = cls(features, bits, tensors["codes"].device)
        lists._check_shapes(tensors, prefix)
        lists._room, lists._used = tensors["room"], len(tensors["codes"])
        lists.level = Level(
            codes=tensors["codes"],
            along=tensors["along"],
            step=tensors["step"],
            child=tensors["child"],
            first_panel=tensors["first_panel"],
            length=tensors["length"],
            bits=bits,
        )
        lists._count_entries(prefix, children)
        return lists

    def _check_shapes(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        panels, count = len(tensors["codes"]), len(tensors["length"])
        shapes = {
            "codes": (panels, self._bytes // GROUP, LANES, GROUP),
            **dict.fromkeys(("along", "step", "child"), (panels * LANES,)),
            **dict.fromkeys(("first_panel", "length", "room"), (count,)),
        }
        for name, shape in shapes.items():
            tensor, dtype = tensors[name], getattr(self.level, name, self._room).dtype
            if tensor.shape != shape or tensor.dtype != dtype:
                got, wanted = f"{tuple(tensor.shape)} of {tensor.dtype}", f"{shape} of {dtype}"
                raise ShapeError(f"{prefix}{name} is {got}, expected {wanted}: use the same settings")

    def _count_entries(self, prefix: str, children: int) -> None:
        """Count the entries of a loaded level, after checking all numbers that the kernels follow."""
        first, length = self.level.first_panel, self.level.length
        end = first + (length.long() + LANES - 1) // LANES
        if len(first) and not (
            int(length.min()) >= 0
            and 0 <= int(first.min()) <= int(first.max()) <= self._used
            and int(end.max()) <= self._used
        ):
            raise ShapeError(f"{prefix}first_panel points outside of the codes: the state is damaged")
        place, _ = self.level.entries_of(torch.arange(len(length), device=length.device))
        self._count = len(place)
        child = self.level.child[place]
        if len(child) and not 0 <= int(child.min()) <= int(child.max()) < children:
            raise ShapeError(f"{prefix}child is not between 0 and {children - 1}: the state is damaged")

    def _encode(self, place: Tensor, vectors: Tensor, rows: Tensor, lists: Tensor, direction: Tensor) -> None:
        if self.bits != IN_FULL:
            write_entries(self.level, place, vectors, rows, lists, direction)

    def _grow(self, panels: int) -> None:
        old = self.level
        self.level = self._empty(panels, len(old.length), old.codes.device)
        self.level.codes[: len(old.codes)] = old.codes
        for name in ("along", "step", "child"):
            getattr(self.level, name)[: len(old.child)] = getattr(old, name)
        self.level.first_panel.copy_(old.first_panel)
        self.level.length.copy_(old.length)
