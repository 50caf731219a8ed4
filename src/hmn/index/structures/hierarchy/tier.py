"""One tier of groups of a hierarchy."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn.errors import ShapeError
from hmn.index.storage.coded_lists import Lists

COLUMNS = ("weight", "parent", "place")


def saved(number: int) -> tuple[str, ...]:
    """What the state holds of a tier."""
    return ("mean", *COLUMNS) if number else ("mean", "taught", *COLUMNS)


@dataclass
class Tier:
    """The groups of one level; rows where ``parent`` is -1 hold no group.

    Attributes:
        lists: for each group of the tier above, the groups in it.
        mean: ``(room, D)`` float32 mean key of each group, longer keys counting more.
        taught: ``(room, D)`` float32 what queries taught to add to it; of the first tier alone.
        weight: ``(room,)`` float32 cells of each group.
        coded: ``(room, D)`` float32 what the groups' codes stand for: where the codes below them begin.
        inverse: ``(room,)`` float32 1 / the length of ``coded``; cells are filed by cosines.
        parent: ``(room,)`` int64 group of the tier above.
        place: ``(room,)`` int64 place in ``lists``.
        width: what ``reach=100`` means here, in lengths of the query.
        length: ``(room,)`` float32 length of ``mean``, at least 1e-30.
        free: heap of the rows that hold no group.
    """

    lists: Lists
    mean: Tensor
    taught: Tensor | None
    weight: Tensor
    coded: Tensor
    inverse: Tensor
    parent: Tensor
    place: Tensor
    width: float
    length: Tensor = field(init=False)
    free: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Measure the means, and find the rows that hold no group."""
        self.length = _length(self.mean)
        self.free = (self.parent < 0).nonzero().squeeze(1).tolist()

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.lists)

    def live(self) -> Tensor:
        """Groups that there are."""
        return (self.parent >= 0).nonzero().squeeze(1)

    def vectors(self, groups: Tensor) -> Tensor:
        """By what queries look for groups ``(n,)``: ``(n, D)``."""
        return self.mean[groups] if self.taught is None else self.mean[groups] + self.taught[groups]

    def follow(self, groups: Tensor, mean: Tensor) -> None:
        """Give groups ``(n,)`` other means ``(n, D)``."""
        self.mean[groups], self.length[groups] = mean, _length(mean)

    def take(self, count: int) -> Tensor:
        """Numbers for so many new groups, the lowest that are free."""
        more = count - len(self.free)
        if more > 0:
            room = len(self.parent)
            grown = max(more, room // 4)
            self.free += range(room, room + grown)  # above all others: the heap stays one
            self.mean, self.coded = (F.pad(one, (0, 0, 0, grown)) for one in (self.mean, self.coded))
            if self.taught is not None:
                self.taught = F.pad(self.taught, (0, 0, 0, grown))
            self.weight = F.pad(self.weight, (0, grown))
            self.inverse, self.length = (F.pad(x, (0, grown), value=1.0) for x in (self.inverse, self.length))
            self.parent, self.place = (F.pad(one, (0, grown), value=-1) for one in (self.parent, self.place))
        taken = [heappop(self.free) for _ in range(count)]
        return torch.tensor(taken, dtype=torch.int64, device=self.parent.device)

    def drop(self, groups: Tensor) -> None:
        """Free the rows of groups that are in no list any more."""
        self.parent[groups], self.place[groups] = -1, -1
        for one in groups.tolist():
            heappush(self.free, one)


def _length(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1).clamp(min=1e-30)
    return lengths


def check_places(parent: Tensor, place: Tensor, lists: Lists, name: str) -> None:
    """Refuse places that are not those of the entries."""
    live = (parent >= 0).nonzero().squeeze(1)
    at = place[live]
    most = len(lists.level.child)
    bad = len(at) != len(lists) or (len(at) and not 0 <= int(at.min()) <= int(at.max()) < most)
    if bad or not torch.equal(lists.level.child[at].long(), live):
        raise ShapeError(f"{name} does not point to what is there: the state is damaged")
