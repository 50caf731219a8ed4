"""What the groups of a tier hold: the groups of the tier below it, or the cells themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native import means, write_entries
from hmn.errors import ShapeError
from hmn.index.storage.coded_lists import Lists
from hmn.index.storage.key_rows import KeyRows


class Members(Protocol):
    """What the groups of a tier hold: the groups of the tier below it, or the cells.

    A member is a number: of a group, or of a cell's row. Each is filed in one group of the tier above. Its
    code holds what its vector has beyond the group's ``anchor``: the vector that the group's own code stands
    for. ``anchor`` is ``(groups, D)``, or ``(1, 1)`` zeros for the first tier, which has no groups above it.
    """

    filing: Filing

    def points(self, members: Tensor) -> Tensor:
        """Vectors ``(n, D)`` that groups of members are formed by: keys, or mean keys."""
        ...

    def weights(self, members: Tensor) -> Tensor:
        """Number of cells ``(n,)`` float32 in each member."""
        ...

    def means(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Mean key ``(g, D)`` of what groups ``(g,)`` of the tier above hold, and their cells ``(g,)``."""
        ...

    def enter(self, members: Tensor, groups: Tensor, anchor: Tensor) -> None:
        """File members ``(n,)``, which are in no group, in groups ``(n,)``."""
        ...

    def leave(self, members: Tensor) -> None:
        """Take members ``(n,)`` out of their groups."""
        ...

    def encode(self, members: Tensor, anchor: Tensor) -> None:
        """Write the codes of members ``(n,)`` again, where they are."""
        ...

    def encode_below(self, members: Tensor) -> None:
        """Write again the codes of what members ``(n,)`` hold, after their own codes have changed."""
        ...


@dataclass
class Filing:
    """Which group each member is in, and where its code lies.

    Attributes:
        lists: for each group of the tier above, the codes of its members.
        parent: ``(room,)`` int64 group of each member; -1 where there is no member.
        place: ``(room,)`` int64 place of each member's code in ``lists``; -1 where there is no member.
    """

    lists: Lists
    parent: Tensor
    place: Tensor

    def live(self) -> Tensor:
        """The members ``(n,)``, ascending."""
        return (self.parent >= 0).nonzero().squeeze(1)

    def in_groups(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Members ``(n,)`` of groups ``(g,)``, group by group, and their numbers ``(g,)``."""
        return self.lists.level.children_of(groups)

    def size(self, groups: Tensor) -> Tensor:
        """Number of members ``(g,)`` int32 of groups ``(g,)``."""
        return self.lists.level.length[groups]

    def build(self, members: Tensor, vectors: Tensor, anchor: Tensor) -> None:
        """Write all lists from the beginning, each member in its ``parent``; ``vectors`` is by member."""
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
        """Write the codes of members ``(n,)`` again, where they are; their vectors are ``vectors[row]``."""
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

    def check(self, name: str) -> None:
        """Refuse places that do not lead to the members.

        Raises:
            ShapeError: the state that they come from is damaged.
        """
        live = self.live()
        place, child = self.place[live], self.lists.level.child
        bad = len(place) != len(self.lists)
        bad = bad or (len(place) > 0 and not 0 <= int(place.min()) <= int(place.max()) < len(child))
        if bad or not torch.equal(child[place].long(), live):
            raise ShapeError(f"{name} does not lead to the entries of the lists: the state is damaged")


class Cells:
    """The cells as members of the leaves, which are the groups of the last tier; a member is a row of keys.

    Args:
        rows: the keys.
        filing: which leaf each row is in, and where its code lies.
    """

    def __init__(self, rows: KeyRows, filing: Filing) -> None:
        self.rows, self.filing = rows, filing

    def points(self, members: Tensor) -> Tensor:
        """See ``Members.points``."""
        return self.rows.keys[members]

    def weights(self, members: Tensor) -> Tensor:
        """See ``Members.weights``."""
        return torch.ones(len(members), device=members.device)

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
        """See ``Members.encode_below``; a cell holds nothing."""

    def build(self, anchor: Tensor) -> None:
        """Write the lists of all leaves from the beginning."""
        self.filing.build(self.rows.live(), self.rows.keys, anchor)

    def grow(self) -> None:
        """Make room for all rows of keys that there are now."""
        more = len(self.rows.keys) - len(self.filing.parent)
        if more > 0:
            self.filing.grow(more)
