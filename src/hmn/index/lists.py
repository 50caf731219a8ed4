"""Lists of vectors in short codes, which grow and shrink in place: one level of a hierarchy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native import write_entries
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

    def build(self, lists: Tensor, child: Tensor, vector: Tensor, direction: Tensor) -> Tensor:
        """Fill the lists anew.

        Args:
            lists: ``(n,)`` int64 list of each entry.
            child: ``(n,)`` int64 what each stands for.
            vector: ``(n, D)`` float32.
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
            self._write(place[part], child[part], vector[part], lists[part], direction)
        return place

    def add(
        self, lists: Tensor, child: Tensor, vector: Tensor, direction: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Add entries; see ``build``.

        Returns:
            ``(n,)`` places of the entries, and children and new places of entries that had to move.
        """
        if not len(lists):
            return lists, lists, lists
        level = self.level
        one, which, count = torch.unique(lists, return_inverse=True, return_counts=True)
        length = level.length[one].long()
        needed = (length + count + LANES - 1) // LANES
        grown = needed > self._room[one]
        moved = self._move(one[grown], needed[grown])
        level = self.level  # there may be more room now
        order = which.argsort(stable=True)
        within = torch.arange(len(lists), device=lists.device) - (count.cumsum(0) - count)[which[order]]
        place = torch.empty_like(lists)
        place[order] = (level.first_panel[one] * LANES + length)[which[order]] + within
        level.length[one] = (length + count).to(torch.int32)
        self._count += len(lists)
        self._write(place, child, vector, lists, direction)
        return place, level.child[moved].long(), moved

    def remove(self, lists: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Remove entries of lists ``(n,)`` at places ``(n,)``; the last of each list take their places.

        Returns:
            Children and new places of the entries that moved.
        """
        if not len(lists):
            return lists, lists
        level = self.level
        one, which, count = torch.unique(lists, return_inverse=True, return_counts=True)
        length = level.length[one].long()
        # of the places at the end of each list that will be free, those still held must move
        end = level.first_panel[one] * LANES + length - count
        within = torch.arange(len(lists), device=lists.device)
        tail = (end - count.cumsum(0) + count).repeat_interleave(count) + within
        hole = place < end[which]
        source = tail[~torch.isin(tail, place)]
        target = place[hole][which[hole].argsort(stable=True)]
        for column in (level.along, level.step, level.child):
            column[target] = column[source]
        level.codes[target // LANES, :, target % LANES] = level.codes[source // LANES, :, source % LANES]
        level.child[tail] = -1
        level.length[one] = (length - count).to(torch.int32)
        self._count -= len(lists)
        return level.child[target].long(), target

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

    def entries_of(self, lists: Tensor) -> tuple[Tensor, Tensor]:
        """Places of all entries of lists ``(m,)``, list by list, and their numbers ``(m,)``."""
        length = self.level.length[lists].long()
        begin = (self.level.first_panel[lists] * LANES).repeat_interleave(length)
        within = torch.arange(int(length.sum()), device=lists.device)
        within = within - (length.cumsum(0) - length).repeat_interleave(length)
        return begin + within, length

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
        place, _ = lists.entries_of(torch.arange(rows, device=found["length"].device))
        lists._count = len(place)
        child = lists.level.child[place]
        if len(child) and not 0 <= int(child.min()) <= int(child.max()) < children:
            raise ShapeError(f"{prefix}child is not between 0 and {children - 1}: the state is damaged")
        return lists

    def _write(self, place: Tensor, child: Tensor, vector: Tensor, lists: Tensor, direction: Tensor) -> None:
        self.level.child[place] = child.to(torch.int32)
        if self.bits != IN_FULL:
            write_entries(self.level, place, vector.float(), lists, direction)

    def _move(self, lists: Tensor, needed: Tensor) -> Tensor:
        """Move lists ``(m,)`` to the end, with room for their doubles; the new places of their entries."""
        if not len(lists):
            return lists
        room = torch.maximum(needed, 2 * self._room[lists])
        end = self._used + int(room.sum())
        if end > len(self.level.codes):
            self._grow(max(end, self._used + self._used // 2))
        level = self.level
        old, length = self.entries_of(lists)
        first = self._used + room.cumsum(0) - room
        new = old + ((first - level.first_panel[lists]) * LANES).repeat_interleave(length)
        panels = (length + LANES - 1) // LANES
        within = torch.arange(int(panels.sum()), device=lists.device)
        within = within - (panels.cumsum(0) - panels).repeat_interleave(panels)
        source = level.first_panel[lists].repeat_interleave(panels) + within
        level.codes[first.repeat_interleave(panels) + within] = level.codes[source]
        for column in (level.along, level.step, level.child):
            column[new] = column[old]
        level.child[old] = -1
        level.first_panel[lists], self._room[lists] = first, room
        self._used = end
        return new

    def _grow(self, panels: int) -> None:
        old = self.level
        self.level = self._empty(panels, len(old.length), old.codes.device)
        self.level.codes[: len(old.codes)] = old.codes
        for name in ("along", "step", "child"):
            getattr(self.level, name)[: len(old.child)] = getattr(old, name)
        self.level.first_panel.copy_(old.first_panel)
        self.level.length.copy_(old.length)
