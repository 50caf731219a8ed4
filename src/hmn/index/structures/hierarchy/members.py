"""What the groups of a tier hold: the groups of the tier below it, or the cells themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native import means, write_entries
from hmn.index.storage.coded_lists import Lists
from hmn.index.storage.key_rows import KeyRows


class Members(Protocol):
    """What the groups of a tier hold: the groups of the tier below it, or the cells.

    Members are numbers: of groups, or of the rows that hold the cells' keys. Each member is filed in one
    group of the tier above. Its code is relative to that group's *anchor*, the vector that the group's own
    code stands for: scoring the group has already scored the anchor. ``anchor`` is ``(groups, D)``, or
    ``(1, 1)`` zeros for members of the first tier, which has no groups above it.
    """

    filing: Filing

    def points(self, members: Tensor) -> Tensor:
        """Vectors ``(n, D)`` of members ``(n,)``: the keys of cells, or the mean keys of groups."""
        ...

    def weights(self, members: Tensor) -> Tensor:
        """Number of cells ``(n,)`` float32 that each of members ``(n,)`` stands for."""
        ...

    def means(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Mean key ``(g, D)`` and number of cells ``(g,)`` of groups ``(g,)`` of the tier above.

        Both come from the members that the groups hold now; the tier above may have noted others.
        """
        ...

    def enter(self, members: Tensor, groups: Tensor, anchor: Tensor) -> None:
        """File members ``(n,)``, which are in no group, in groups ``(n,)``."""
        ...

    def leave(self, members: Tensor) -> None:
        """Take members ``(n,)`` out of their groups."""
        ...

    def encode(self, members: Tensor, anchor: Tensor) -> None:
        """Write the codes of members ``(n,)`` again, in place."""
        ...

    def encode_below(self, members: Tensor) -> None:
        """Write the codes of what members ``(n,)`` hold again, after their own codes have changed."""
        ...


@dataclass
class Filing:
    """Where the members of a tier are filed: in which group each is, and at which place its code lies.

    Attributes:
        lists: for each group of the tier above, the codes of its members.
        parent: ``(room,)`` int64 group of each member; -1 where there is no member.
        place: ``(room,)`` int64 place of each member's code in ``lists``; -1 where there is no member.
    """

    lists: Lists
    parent: Tensor
    place: Tensor

    def live(self) -> Tensor:
        """All members ``(n,)``, ascending."""
        return (self.parent >= 0).nonzero().squeeze(1)

    def in_groups(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Members ``(n,)`` of groups ``(g,)``, group by group, and how many each group has ``(g,)`` int64."""
        return self.lists.level.children_of(groups)

    def size(self, groups: Tensor) -> Tensor:
        """Number of members ``(g,)`` int32 of groups ``(g,)``."""
        return self.lists.level.length[groups]

    def build(self, members: Tensor, vectors: Tensor, anchor: Tensor) -> None:
        """Rebuild all lists, with each of members ``(n,)`` in its ``parent``.

        Args:
            members: all of them.
            vectors: ``(room, D)``, by member.
            anchor: see ``Members``.
        """
        self.place[members] = self.lists.build(self.parent[members], members, vectors, anchor)

    def enter(self, members: Tensor, groups: Tensor, vectors: Tensor, anchor: Tensor) -> None:
        """File members ``(n,)`` with vectors ``(n, D)`` in groups ``(n,)``."""
        self.lists.add(groups, members, vectors, anchor, self.place)
        self.parent[members] = groups

    def leave(self, members: Tensor) -> None:
        """Take members ``(n,)`` out of their groups."""
        self.lists.remove(self.parent[members], members, self.place)
        self.parent[members] = -1

    def encode(self, members: Tensor, vectors: Tensor, row: Tensor, anchor: Tensor) -> None:
        """Write the codes of members ``(n,)``, whose vectors are ``vectors[row]``, again in place."""
        if len(members):
            lists, place = self.parent[members], self.place[members]
            write_entries(self.lists.level, place, vectors, row, lists, anchor)

    def decode(self, members: Tensor, anchor: Tensor) -> Tensor:
        """Vectors ``(n, D)`` that the codes of members ``(n,)`` stand for."""
        return self.lists.vectors_at(self.place[members], self.parent[members], anchor)

    def grow(self, count: int) -> None:
        """Make room for ``count`` more members."""
        self.parent = F.pad(self.parent, (0, count), value=-1)
        self.place = F.pad(self.place, (0, count), value=-1)


class Cells:
    """The cells, as members of the leaves: the groups of the last tier. A member is a row of keys.

    Args:
        rows: rows of keys.
        filing: the leaf of each row, and the place of its code.
    """

    def __init__(self, rows: KeyRows, filing: Filing) -> None:
        self.rows, self.filing = rows, filing

    def points(self, members: Tensor) -> Tensor:
        """See ``Members.points``."""
        return self.rows.keys[members]

    def weights(self, members: Tensor) -> Tensor:
        """See ``Members.weights``."""
        return torch.ones(len(members), dtype=torch.float32, device=members.device)

    def means(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Members.means``."""
        return means(self.filing.lists.level, groups, self.rows.keys, None)

    def enter(self, members: Tensor, groups: Tensor, anchor: Tensor) -> None:
        """See ``Members.enter``."""
        self.filing.enter(members, groups, self.rows.keys[members], anchor)

    def leave(self, members: Tensor) -> None:
        """See ``Members.leave``."""
        self.filing.leave(members)

    def encode(self, members: Tensor, anchor: Tensor) -> None:
        """See ``Members.encode``."""
        self.filing.encode(members, self.rows.keys, members, anchor)

    def encode_below(self, members: Tensor) -> None:
        """See ``Members.encode_below``: cells hold nothing."""

    def build(self, anchor: Tensor) -> None:
        """Rebuild the lists of all leaves."""
        self.filing.build(self.rows.live(), self.rows.keys, anchor)

    def grow(self) -> None:
        """Make room for rows of keys that were added since."""
        more = len(self.rows.keys) - len(self.filing.parent)
        if more > 0:
            self.filing.grow(more)
