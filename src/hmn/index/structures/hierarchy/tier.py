"""One tier of groups of a hierarchy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from heapq import heappop, heappush

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native import means
from hmn.index.structures.hierarchy.members import Filing, Members

GROUP_BITS = 4
"""Bits per feature of the codes of groups."""
SHORTEST = 1e-30
"""Lower limit of lengths, so that it is safe to divide by them."""


@dataclass
class Tier:
    """The groups of one tier. They hold the members ``below``, and are themselves members of the tier above.

    A group is a row of the tensors, which have room for more. Rows whose ``filing.parent`` is -1 are free.

    Attributes:
        filing: the group of the tier above that each group is in, and the place of its code.
        below: what the groups hold.
        mean: ``(room, D)`` float32 mean key of each group's cells; longer keys count more.
        weight: ``(room,)`` float32 number of each group's cells.
        taught: ``(room, D)`` float32 what was learned from queries: added to ``mean``, it gives the vector
            that queries are routed by. None except in the first tier.
        width: gap, per unit of the query's length, by which the score of a group that is entered may lie
            below the anchor at ``reach=100``.
        rank: rank of the anchor among the scores of a tier at ``reach=100``, in multiples of the root of the
            number of results: that many groups are entered at least. With 0 the anchor is the best score.
        coded: ``(room, D)`` float32 vector that each group's code stands for: the anchor of its members.
        inverse: ``(room,)`` float32 1 / the length of ``coded``; turns scores into cosines.
        length: ``(room,)`` float32 length of ``mean``, at least ``SHORTEST``.
        free: heap of the free rows.
    """

    filing: Filing
    below: Members
    mean: Tensor
    weight: Tensor
    taught: Tensor | None
    width: float
    rank: float = 0.0
    coded: Tensor = field(init=False)
    inverse: Tensor = field(init=False)
    length: Tensor = field(init=False)
    free: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Measure the means and find the free rows; ``coded`` is set by ``build`` or ``decode``."""
        self.coded, self.inverse = torch.zeros_like(self.mean), torch.ones_like(self.weight)
        self.length = _length(self.mean)
        self.free = (self.filing.parent < 0).nonzero().squeeze(1).tolist()

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.filing.lists)

    def live(self) -> Tensor:
        """All groups ``(n,)``, ascending."""
        return self.filing.live()

    def routing_vectors(self, groups: Tensor) -> Tensor:
        """Vectors ``(n, D)`` that queries are routed by: means of groups ``(n,)``, plus what was taught."""
        return self.mean[groups] if self.taught is None else self.mean[groups] + self.taught[groups]

    def points(self, members: Tensor) -> Tensor:
        """See ``Members.points``."""
        return self.mean[members]

    def weights(self, members: Tensor) -> Tensor:
        """See ``Members.weights``."""
        return self.weight[members]

    def means(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Members.means``."""
        return means(self.filing.lists.level, groups, self.mean, self.weight)

    def enter(self, members: Tensor, groups: Tensor, anchor: Tensor) -> None:
        """See ``Members.enter``."""
        self.filing.enter(members, groups, self.routing_vectors(members), anchor)
        self.decode(members, anchor)

    def leave(self, members: Tensor) -> None:
        """See ``Members.leave``."""
        self.filing.leave(members)

    def encode(self, members: Tensor, anchor: Tensor) -> None:
        """See ``Members.encode``."""
        if self.taught is None:
            self.filing.encode(members, self.mean, members, anchor)
        else:
            row = torch.arange(len(members), device=members.device)
            self.filing.encode(members, self.routing_vectors(members), row, anchor)
        self.decode(members, anchor)

    def encode_below(self, members: Tensor) -> None:
        """See ``Members.encode_below``.

        Codes further below are left alone: their anchors change only by the rounding of these codes.
        """
        self.below.encode(self.below.filing.in_groups(members)[0], self.coded)

    def decode(self, groups: Tensor, anchor: Tensor) -> None:
        """Set ``coded`` and ``inverse`` of groups ``(n,)`` from their codes."""
        if len(groups):
            coded = self.filing.decode(groups, anchor)
            self.coded[groups] = coded
            self.inverse[groups] = 1.0 / _length(coded)

    def build(self, anchor: Tensor) -> None:
        """Rebuild the lists and the codes of all groups."""
        live = self.live()
        self.filing.build(live, self.mean if self.taught is None else self.mean + self.taught, anchor)
        self.decode(live, anchor)

    def set_means(self, groups: Tensor, mean: Tensor) -> None:
        """Set the means ``(n, D)`` of groups ``(n,)``; their codes stay."""
        self.mean[groups], self.length[groups] = mean, _length(mean)

    def take(self, count: int) -> Tensor:
        """Make ``count`` new groups without members; returns their numbers, the lowest that are free."""
        more = count - len(self.free)
        if more > 0:
            self._grow(max(more, len(self.mean) // 4))
        taken = [heappop(self.free) for _ in range(count)]
        return torch.tensor(taken, dtype=torch.int64, device=self.mean.device)

    def drop(self, groups: Tensor) -> None:
        """Take groups ``(n,)`` out of the tier above and free their rows."""
        self.leave(groups)
        for group in groups.tolist():
            heappush(self.free, group)

    def _grow(self, count: int) -> None:
        room = len(self.mean)
        self.free += range(room, room + count)  # above all others: the heap stays one
        self.mean, self.coded = (F.pad(rows, (0, 0, 0, count)) for rows in (self.mean, self.coded))
        if self.taught is not None:
            self.taught = F.pad(self.taught, (0, 0, 0, count))
        self.weight = F.pad(self.weight, (0, count))
        self.inverse, self.length = (F.pad(x, (0, count), value=1.0) for x in (self.inverse, self.length))
        self.filing.grow(count)
        lists = self.below.filing.lists
        lacking = room + count - len(lists.level.length)
        if lacking > 0:
            lists.more(lacking)


def anchor_rank(rank: float, k: int) -> int:
    """Rank of the anchor for k results, from 1 for the best; see ``Tier.rank``."""
    return max(1, math.ceil(rank * math.sqrt(k)))


def _length(vectors: Tensor) -> Tensor:
    """Lengths ``(n,)`` of vectors ``(n, D)``, at least ``SHORTEST``."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1).clamp(min=SHORTEST)
    return lengths
