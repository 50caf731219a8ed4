"""Lists of vectors in short codes, which grow and shrink in place: one level of a hierarchy."""

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
CODES = {"int1": 1, "int4": 4, "int8": 8}


class Lists:
    """L lists of entries, each a vector in codes of 1, 4 or 8 bits a feature, or without codes.

    A vector x in a list of direction v is kept as ``along * v + step * (code - zero)``: the part along v in
    full, the rest in codes. A list has room to grow; where it runs out of it, the list moves.

    Args:
        features: D.
        bits: 1, 4 or 8; ``IN_FULL`` for entries without codes.
        device: where the tensors lie.

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
            along=torch.zeros(entries, device=device),
            step=torch.zeros(entries, device=device),
            child=torch.full((entries,), -1, dtype=torch.int32, device=device),
            first_panel=torch.zeros(lists, dtype=torch.int64, device=device),
            length=torch.zeros(lists, dtype=torch.int32, device=device),
            bits=self.bits,
        )

    def __len__(self) -> int:
        """Number of entries in all lists."""
        return self._count

    def build(self, lists: Tensor, child: Tensor, vectors: Tensor, direction: Tensor) -> Tensor:
        """Fill the lists anew.

        Args:
            lists: ``(n,)`` int64 list of each entry.
            child: ``(n,)`` int64 what each stands for.
            vectors: ``(children, D)`` float, by child.
            direction: ``(L, D)`` vectors of the lists; ``(L, 1)`` zeros where lists have none.

        Returns:
            ``(n,)`` int64 place of each entry.
        """
        count = torch.bincount(lists, minlength=len(direction))
        self._room = ((count * SPARE).ceil().long() + LANES - 1) // LANES
        self._used = int(self._room.sum())
        self.level = self._empty(self._used, len(direction), lists.device)
        self.level.first_panel.copy_(self._room.cumsum(0) - self._room)
        order = lists.argsort(stable=True)
        begin = count.cumsum(0) - count
        place = torch.empty_like(lists)
        within = torch.arange(len(lists), device=lists.device) - begin[lists[order]]
        place[order] = self.level.first_panel[lists[order]] * LANES + within
        self.level.length.copy_(count)
        self._count = len(lists)
        for part in torch.split(torch.arange(len(lists), device=lists.device), 1 << 16):
            self.level.child[place[part]] = child[part].to(torch.int32)
            self._encode(place[part], vectors, child[part], lists[part], direction)
        return place

    def add(self, lists: Tensor, child: Tensor, vector: Tensor, direction: Tensor, where: Tensor) -> None:
        """Add entries; see ``build``.

        Args:
            lists, child, direction: as for ``build``.
            vector: ``(n, D)`` float, of each entry.
            where: by child, the place of each entry: those of the new ones, and of others that had to
                move, are written there.
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
        """Remove entries for children ``(n,)`` of lists ``(n,)``; the last of each list take their places.

        Args:
            lists: of each.
            child: what they stand for.
            where: by child, the place of each entry: -1 from then on for those, and others move.
        """
        if len(lists):
            take_out(self.level, lists, where[child], where)
            self._count -= len(lists)

    def more(self, count: int) -> None:
        """So many more lists, without entries."""
        level = self.level
        level.first_panel = F.pad(level.first_panel, (0, count))
        level.length = F.pad(level.length, (0, count))
        self._room = F.pad(self._room, (0, count))

    def vectors_at(self, place: Tensor, lists: Tensor, direction: Tensor) -> Tensor:
        """What the codes at places ``(n,)`` of lists ``(n,)`` stand for, ``(n, D)``."""
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
            state: by name.
            prefix: of the names.
            features: D.
            bits: as they were made with.
            children: entries stand for numbers below this one, which the kernels trust.

        Raises:
            ShapeError: a tensor is missing or does not fit.
        """
        names = ("codes", "along", "step", "child", "first_panel", "length", "room")
        missing = [name for name in names if f"{prefix}{name}" not in state]
        if missing:
            raise ShapeError(f"the state has no {prefix}{missing[0]}: save it with the same settings")
        found = {name: state[f"{prefix}{name}"].clone() for name in names}
        lists = cls(features, bits, found["codes"].device)
        panels, rows = len(found["codes"]), len(found["length"])
        expected = {
            "codes": (panels, lists._bytes // GROUP, LANES, GROUP),
            **dict.fromkeys(("along", "step", "child"), (panels * LANES,)),
            **dict.fromkeys(("first_panel", "room"), (rows,)),
        }
        types = {name: getattr(lists.level, name, lists._room).dtype for name in names}
        for name, dtype in types.items():
            shape = expected.get(name, (rows,))
            if found[name].shape != shape or found[name].dtype != dtype:
                got = f"{tuple(found[name].shape)} of {found[name].dtype}"
                wanted = f"{shape} of {dtype}"
                raise ShapeError(f"{prefix}{name} is {got}, expected {wanted}: use the same settings")
        lists._room, lists._used = found.pop("room"), panels
        ends = found["first_panel"] + (found["length"].long() + LANES - 1) // LANES
        if rows and not (
            int(found["length"].min()) >= 0
            and 0 <= int(found["first_panel"].min()) <= int(found["first_panel"].max()) <= panels
            and int(ends.max()) <= panels
        ):
            raise ShapeError(f"{prefix}first_panel points outside of the codes: the state is damaged")
        lists.level = Level(
            codes=found["codes"],
            along=found["along"],
            step=found["step"],
            child=found["child"],
            first_panel=found["first_panel"],
            length=found["length"],
            bits=bits,
        )
        place, _ = lists.level.entries_of(torch.arange(rows, device=found["length"].device))
        lists._count = len(place)
        child = lists.level.child[place]
        if len(child) and not 0 <= int(child.min()) <= int(child.max()) < children:
            raise ShapeError(f"{prefix}child is not between 0 and {children - 1}: the state is damaged")
        return lists

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
