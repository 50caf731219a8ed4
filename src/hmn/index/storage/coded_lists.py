"""Lists of vectors in short codes that grow and shrink in place: one level of a structure."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native import disorder, enter, settle, take_out, write_bounds, write_entries, write_screen
from hmn._native.codes import codes_of
from hmn._native.fallback.ordered import falling
from hmn._native.level import GROUP, IN_FULL, LANES, Level
from hmn.index.storage import screens
from hmn.index.storage.saved import ANY, Saved, is_each_once, refuse, runs_apart
from hmn.index.storage.short_codes import ShortCodes

SPARE = 1.25
"""Room of a list when it is built, in multiples of its entries."""
CODES = {"int1": 1, "int4": 4, "int8": 8}
"""Bits per feature of the codes that the setting ``codes`` names."""
ENCODED_AT_A_TIME = 1 << 16
"""Entries encoded at a time while lists are built."""


class Lists:
    """L lists of entries, each a vector in a code of 1, 4 or 8 bits per feature, or without a code.

    An entry stands for a *child*: a number that the owner gives it. A list has a direction v, in which its
    vectors lie roughly. A vector x is kept as ``along * v + step * (code - zero)``: its part along v as one
    number, the rest as a code. Each list has room to grow; one that runs out of room moves.

    With short codes, the entries of a list lie by falling length of their vectors when it is built, and each
    panel has bounds, which ``write_bounds`` writes again after changes.

    Args:
        features: D.
        bits: 1, 4 or 8; ``IN_FULL`` for entries without codes.
        device: device of the tensors.
        short: codes to write beside those of 4 bits, which ``bits`` must then be.

    Attributes:
        level: the tensors, for the kernels.
    """

    def __init__(
        self, features: int, bits: int, device: torch.device, short: ShortCodes | None = None
    ) -> None:
        self.features, self.bits, self.short = features, bits, short
        self._bytes = 0 if bits == IN_FULL else GROUP * -(-features // (GROUP * 8 // bits))
        self._room = torch.zeros(0, dtype=torch.int64, device=device)  # (L,) panels
        self._used = 0  # panels
        self._count = 0  # entries
        self.level = self._empty(0, 0, device)

    def _empty(self, panels: int, lists: int, device: torch.device) -> Level:
        entries = panels * LANES
        level = Level(
            codes=torch.zeros(panels, self._bytes // GROUP, LANES, GROUP, dtype=torch.uint8, device=device),
            along=torch.zeros(entries, dtype=torch.float32, device=device),
            step=torch.zeros(entries, dtype=torch.float32, device=device),
            child=torch.full((entries,), -1, dtype=torch.int32, device=device),
            first_panel=torch.zeros(lists, dtype=torch.int64, device=device),
            length=torch.zeros(lists, dtype=torch.int32, device=device),
            bits=self.bits,
        )
        if self.short is not None:
            screens.add_screen(level, self.short.parts, self.features)
        return level

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
        order = self._order(lists, child, vectors)  # (n,) entries, list by list
        begin = count.cumsum(0) - count
        within = torch.arange(len(lists), device=lists.device) - begin[lists[order]]
        place = torch.empty_like(lists)  # (n,)
        place[order] = self.level.first_panel[lists[order]] * LANES + within
        for part in torch.split(torch.arange(len(lists), device=lists.device), ENCODED_AT_A_TIME):
            self.level.child[place[part]] = child[part].to(torch.int32)
            self.encode(place[part], vectors, child[part], lists[part], direction)
        self.write_bounds(torch.arange(len(direction), device=lists.device))
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
        self.encode(where[child], vector, torch.arange(len(vector), device=vector.device), lists, direction)

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

    def encode(self, place: Tensor, vectors: Tensor, rows: Tensor, lists: Tensor, direction: Tensor) -> None:
        """Write the codes of entries, new ones or again; see ``write_entries``. Bounds stay as they are.

        Args:
            place: ``(n,)`` int64, distinct.
            vectors: ``(rows, D)`` float.
            rows: ``(n,)`` int64 row of ``vectors`` for each entry.
            lists: ``(n,)`` int64 list of each entry.
            direction: as for ``build``.
        """
        if self.bits != IN_FULL:
            write_entries(self.level, place, vectors, rows, lists, direction)
        if self.short is not None and len(place):
            write_screen(self.level, place, vectors, rows, lists, direction, self.short)

    def write_bounds(self, lists: Tensor) -> None:
        """Write the bounds of lists ``(m,)``, distinct, after changes of their entries or of their places."""
        if self.short is not None and len(lists):
            write_bounds(self.level, lists, max(1, self.features))

    def disorder(self, lists: Tensor) -> Tensor:
        """How much looser the bounds of lists ``(m,)`` are than if they were sorted: ``(m,)``, 1 if not."""
        return disorder(self.level, lists)

    def settle(self, lists: Tensor, where: Tensor, loose: float) -> None:
        """Move entries of lists ``(m,)`` to panels of their length, without encoding them; writes bounds.

        Args:
            lists: ``(m,)`` int64, distinct.
            where: by child, the place of its entry; written for the entries of these lists.
            loose: upper limit of ``disorder`` afterwards.
        """
        settle(self.level, lists, where, loose)
        self.write_bounds(lists)

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
        state = {
            f"{prefix}codes": level.codes[:used],
            f"{prefix}along": level.along[: used * LANES],
            f"{prefix}step": level.step[: used * LANES],
            f"{prefix}child": level.child[: used * LANES],
            f"{prefix}first_panel": level.first_panel,
            f"{prefix}length": level.length,
            f"{prefix}room": self._room,
        }
        if self.short is not None and level.screen is not None and level.size is not None:
            # rows of codes and bounds follow from the others
            state[f"{prefix}screen"] = level.screen[:used]
            state[f"{prefix}size"] = level.size[: used * LANES]
            state |= self.short.state_dict(prefix)
        return state

    @classmethod
    def from_state(cls, saved: Saved, prefix: str, features: int, bits: int, short: bool = False) -> Lists:
        """Lists as they were when ``state_dict`` was called; call ``check_filed`` or ``check_children`` next.

        Args:
            saved: tensors by name.
            prefix: beginning of their names.
            features: D.
            bits: as for the class.
            short: whether the lists have short codes.

        Raises:
            ShapeError: a tensor is missing or does not fit.
        """
        coded = ShortCodes.from_state(saved, prefix, features) if short else None
        lists = cls(features, bits, saved.device, coded)
        codes = saved.tensor(f"{prefix}codes", torch.uint8, (ANY, lists._bytes // GROUP, LANES, GROUP))
        panels, entries = len(codes), len(codes) * LANES
        most = torch.iinfo(torch.int32).max
        first = saved.whole(f"{prefix}first_panel", (ANY,), 0, panels + 1)
        room = saved.whole(f"{prefix}room", (len(first),), 0, panels + 1)
        length = saved.whole(f"{prefix}length", (len(first),), 0, entries + 1, torch.int32)
        if bool((first + room > panels).any()) or not runs_apart(first, room):
            refuse(f"{prefix}first_panel", "of lists that overlap or end outside", "a place for each list")
        if bool((length > room * LANES).any()):
            refuse(f"{prefix}length", f"up to {int(length.max())}", f"no more entries than in {prefix}room")
        lists._room, lists._used, lists._count = room, panels, int(length.sum(dtype=torch.int64))
        lists.level = Level(
            codes=codes,
            along=saved.floats(f"{prefix}along", (entries,)),
            step=saved.floats(f"{prefix}step", (entries,), least=0.0),
            child=saved.whole(f"{prefix}child", (entries,), -1, most, torch.int32),
            first_panel=first,
            length=length,
            bits=bits,
        )
        if coded is not None:
            screens.read_screen(lists.level, saved, prefix, coded.parts, features)
        return lists

    def check_children(self, prefix: str, children: int) -> None:
        """Refuse loaded lists whose entries are not the children 0 to ``children`` - 1, each once.

        Raises:
            ShapeError: they are not.
        """
        child = self._children()[1]
        if not is_each_once(child, children):
            refuse(f"{prefix}child", f"{len(child)} entries", f"each of 0 to {children - 1} once")

    def check_filed(self, prefix: str, lists: Tensor, where: Tensor, names: tuple[str, str]) -> None:
        """Refuse loaded lists that do not hold what they should.

        Args:
            prefix: of the lists in the state.
            lists: by child, the list that it is in; -1 for a child that is in none.
            where: by child, the place of its entry; changed to -1 for a child that is in no list.
            names: of these two in the state.

        Raises:
            ShapeError: an entry and its child do not lead to each other.
        """
        place, child = self._children()
        if len(child) and not 0 <= int(child.min()) <= int(child.max()) < len(lists):
            refuse(f"{prefix}child", f"up to {int(child.max())}", f"numbers from 0 to {len(lists) - 1}")
        held = torch.arange(len(self.level.length), device=place.device)
        held = held.repeat_interleave(self.level.length.long())
        filed = lists >= 0
        if len(child) != int(filed.sum()) or not torch.equal(lists[child], held):
            refuse(names[0], f"not what the {len(child)} entries of {prefix}child are", "the list of each")
        if not torch.equal(where[child], place):
            refuse(names[1], f"not the places of the entries of {prefix}child", "the place of each")
        where[~filed] = -1

    def _children(self) -> tuple[Tensor, Tensor]:
        """Places ``(n,)`` and children ``(n,)`` of all entries, list by list; clears the other places."""
        length = self.level.length
        place, _ = self.level.entries_of(torch.arange(len(length), device=length.device))
        child = self.level.child[place]
        self.level.child.fill_(-1)
        self.level.child[place] = child
        return place, child.long()

    def _order(self, lists: Tensor, child: Tensor, vectors: Tensor) -> Tensor:
        """Entries ``(n,)`` list by list: as they come, or with short codes by falling length."""
        if self.short is None:
            return lists.argsort(stable=True)
        parts = torch.split(child, ENCODED_AT_A_TIME)
        return falling(
            torch.cat([torch.linalg.vector_norm(vectors[part].float(), dim=1) for part in parts]), lists
        )

    def _grow(self, panels: int) -> None:
        old = self.level
        self.level = self._empty(panels, len(old.length), old.codes.device)
        self.level.codes[: len(old.codes)] = old.codes
        for name in ("along", "step", "child", "screen", "fine", "size", "bound"):
            if (column := getattr(old, name)) is not None:
                getattr(self.level, name)[: len(column)] = column
        self.level.first_panel.copy_(old.first_panel)
        self.level.length.copy_(old.length)
