"""The data of one tier of groups: their directions, the lists of their cells, and what the build measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native import means
from hmn._native.groups import GroupsView, Limits, Searcher
from hmn._native.level import LANES
from hmn.index.clustering.kmeans import assign, unit_rows
from hmn.index.storage.coded_lists import Lists
from hmn.index.storage.key_rows import KeyRows
from hmn.index.storage.short_codes import ShortCodes
from hmn.index.structures.hierarchy.directions import SHORTEST, from_basis, on_basis

ROUTING_BITS = 4
"""Bits per feature of the codes of directions."""
CELL_BITS = 4
"""Bits per feature of the codes of cells."""
FEW_COSINES = 1 << 22
"""Products of vectors with directions up to which all are computed in full."""


class Point(NamedTuple):
    """How far a search looks.

    Attributes:
        reach: how far above its expected value a product with the rest of a key is looked for, in root mean
            squares.
        slack: by how much an estimate by a short code may lie below the k-th best, as a share of the product
            of the lengths of query and rest.
        spare: cells scored in full per query for each result, beyond one.
    """

    reach: float
    slack: float
    spare: float


class Promise(NamedTuple):
    """What panels must promise to be entered; see ``hmn._native.groups.Limits``.

    Attributes:
        own: weight of the lowest wanted score.
        spread: standard deviations in what groups promise by their directions.
    """

    own: float
    spread: float


UNMEASURED = Point(4.0, 0.2, 1.0)
"""How far a search looks before anything was measured."""


SCORE_ALONE = Promise(1.0, 0.0)
"""Panels must promise the lowest wanted score."""


@dataclass
class Measured:
    """How far a search must look, as ``calibration`` measured it.

    Attributes:
        usual: for queries that are like the keys.
        most: for queries of any kind: what a search does at ``reach=100``.
        added: cells added since then; -1 if ``calibrate`` did not measure.
        longest: length of the longest key that there was then.
        written: cells added or given other keys since then; a cell counts each time.
        turns: times that there were as many of them as cells since the first build.
        promise: what panels must promise.
        last: settings of a search, and the limits that they and these numbers gave; None for all cells.
    """

    usual: Point
    most: Point
    added: int = -1
    longest: float = 0.0
    written: int = 0
    turns: int = 0
    promise: Promise = SCORE_ALONE
    last: tuple[tuple[object, ...], Limits | None] | None = field(default=None, repr=False, compare=False)

    def at(self, times: float) -> Point:
        """How far to look at a multiple of ``most.reach``.

        Between ``usual`` and ``most``, what is scanned per unit of reach changes gradually; below and beyond,
        it stays the same.
        """
        usual, most, reach = self.usual, self.most, times * self.most.reach
        if reach <= usual.reach:
            return Point(reach, usual.slack * reach / max(usual.reach, SHORTEST), usual.spare)
        if reach >= most.reach:
            return Point(reach, most.slack * times, most.spare * times)
        part = (reach - usual.reach) / (most.reach - usual.reach)
        slack = usual.slack + part * (most.slack - usual.slack)
        return Point(reach, slack, usual.spare + part * (most.spare - usual.spare))


@dataclass
class Groups:
    """One tier of groups. Each has a direction and a list of cells, which lie by falling length.

    A group is a row of the tensors, which have room for more; rows whose ``slot`` is -1 are free. Functions
    here take groups ``(g,)`` int64, distinct.

    Attributes:
        rows: rows of keys; a cell is a row here.
        basis: what directions live in; see ``choose_basis``.
        routing: one list with a code for each group; its children are the groups.
        slot: ``(room,)`` int64 place of each group's code in ``routing``.
        mean: ``(room, m)`` float32 coordinates of each group's unit mean, of which ``routing`` has the codes.
        cells: for each group, the codes of its cells.
        group: ``(rows,)`` int64 group of each cell; -1 for rows without a cell.
        place: ``(rows,)`` int64 place of each cell's code in ``cells``.
        bound: upper limit of cells per group; larger groups are split.
        seed: seed of the k-means that splits groups.
        measured: how far to look.
        direction: ``(room, D)`` float32 vector that each group's code stands for, no longer than 1.
        unit: ``(room, D)`` float32 the same, of length 1.
        barred: ``(room,)`` float32 0 for groups, minus infinity for free rows.
        front: ``(2, slots of routing)`` float32 bounds of the first panel of each group; 0 and -1 where there
            is no group, or none with cells.
        inverse: ``(rows,)`` float32 1 / the length of each cell's key, for means of keys of length 1.
        changed: ``(room,)`` int64 changes of each group since its mean was compared with its cells.
        free: heap of the free rows.
    """

    rows: KeyRows
    basis: Tensor | None
    routing: Lists
    slot: Tensor
    mean: Tensor
    cells: Lists
    group: Tensor
    place: Tensor
    bound: int
    seed: int
    measured: Measured = field(default_factory=lambda: Measured(UNMEASURED, UNMEASURED))
    direction: Tensor = field(init=False)
    unit: Tensor = field(init=False)
    barred: Tensor = field(init=False)
    front: Tensor = field(init=False)
    inverse: Tensor = field(init=False)
    changed: Tensor = field(init=False)
    free: list[int] = field(init=False)
    _searcher: Searcher | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Decode the directions and find the free rows."""
        room, device = len(self.slot), self.slot.device
        self.direction = torch.zeros(room, self.rows.features, dtype=torch.float32, device=device)
        self.unit = torch.zeros_like(self.direction)
        self.barred = torch.full((room,), -torch.inf, dtype=torch.float32, device=device)
        self.changed = torch.zeros(room, dtype=torch.int64, device=device)
        self.free = (self.slot < 0).nonzero().squeeze(1).tolist()
        self.inverse = torch.ones(len(self.group), dtype=torch.float32, device=device)
        if len(self.cells):
            self._measure(self.rows.live())
        self.decode(self.live())
        self.write_front()

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.routing)

    @property
    def short(self) -> ShortCodes:
        """The short codes of cells."""
        assert self.cells.short is not None
        return self.cells.short

    def live(self) -> Tensor:
        """All groups ``(n,)``, ascending."""
        return (self.slot >= 0).nonzero().squeeze(1)

    def searcher(self) -> Searcher:
        """Searches the groups as they are now; the same until ``write_front``, which ends every change."""
        known, keys = self._searcher, self.rows.keys
        if known is None or known.keys is not keys:
            short = self.short
            coded = short.centroid, short.order, short.rotation
            view = GroupsView(
                self.routing.level, self.cells.level, self.basis, self.direction, *coded, self.front
            )
            self._searcher = known = Searcher(view, keys)
        return known

    def nearest(self, vectors: Tensor) -> Tensor:
        """The groups ``(n,)`` in whose direction vectors ``(n, D)`` of any float type point."""
        vectors = vectors.float()
        if len(vectors) * self.unit.numel() <= FEW_COSINES * vectors.shape[1]:
            return torch.addmm(self.barred, unit_rows(vectors), self.unit.T).argmax(dim=1)
        live = self.live()
        return live[assign(vectors, self.unit[live])[0].clamp(min=0)]

    def members(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Cells ``(n,)`` of groups, group by group, and how many each has ``(g,)`` int64."""
        return self.cells.level.children_of(groups)

    def size(self, groups: Tensor) -> Tensor:
        """Number of cells ``(g,)`` int32 of groups."""
        return self.cells.level.length[groups]

    def enter(self, rows: Tensor, groups: Tensor) -> None:
        """File cells ``(n,)``, which are in no group, in groups ``(n,)``."""
        self.cells.add(groups, rows, self.rows.keys[rows], self.direction, self.place)
        self.group[rows] = groups
        self._measure(rows)
        self.changed.index_add_(0, groups, torch.ones_like(groups))

    def leave(self, rows: Tensor) -> None:
        """Take cells ``(n,)`` out of their groups."""
        self.changed.index_add_(0, self.group[rows], torch.ones_like(rows))
        self.cells.remove(self.group[rows], rows, self.place)
        self.group[rows] = -1

    def encode(self, rows: Tensor) -> None:
        """Write the codes of cells ``(n,)`` again, in place."""
        if len(rows):
            self.cells.encode(self.place[rows], self.rows.keys, rows, self.group[rows], self.direction)
            self._measure(rows)

    def build_lists(self, short: ShortCodes) -> None:
        """Write all codes of cells, with short codes of this kind, and all bounds."""
        live = self.rows.live()
        self.cells = Lists(self.rows.features, CELL_BITS, self.slot.device, short)
        self.place[live] = self.cells.build(self.group[live], live, self.rows.keys, self.direction)
        self._measure(live)
        self.changed.zero_()
        self.write_front()

    def means(self, groups: Tensor) -> Tensor:
        """Coordinates ``(g, m)`` of the unit means of the cells that groups have now."""
        mean, _ = means(self.cells.level, groups, self.rows.keys, self.inverse)
        return on_basis(F.normalize(mean, dim=1, eps=SHORTEST), self.basis)

    def set_means(self, groups: Tensor, mean: Tensor) -> None:
        """Give groups these means ``(g, m)`` and the directions that their codes stand for.

        Codes of cells stay, and ``front`` must be written again.
        """
        if not len(groups):
            return
        self.mean[groups], self.changed[groups], new = mean, 0, self.slot[groups] < 0
        one, none = torch.zeros_like(groups), mean.new_zeros(1, 1)
        if bool(new.any()):
            self.routing.add(one[new], groups[new], mean[new], none, self.slot)
        old = groups[~new]
        if len(old):
            self.routing.encode(self.slot[old], self.mean, old, one[~new], none)
        self.decode(groups)

    def decode(self, groups: Tensor) -> None:
        """Set the directions of groups from their codes."""
        slot, none = self.slot[groups], self.direction.new_zeros(1, 1)
        coordinates = self.routing.vectors_at(slot, torch.zeros_like(slot), none)
        direction = from_basis(coordinates, self.basis, self.rows.features)
        self.direction[groups] = direction
        self.unit[groups] = F.normalize(direction, dim=1, eps=SHORTEST)
        self.barred[groups] = 0.0

    def take(self, count: int) -> Tensor:
        """The lowest free rows for ``count`` new groups; they become groups by ``set_directions``."""
        more = count - len(self.free)
        if more > 0:
            self._grow(max(more, len(self.slot) // 4))
        taken = [heappop(self.free) for _ in range(count)]
        return torch.tensor(taken, dtype=torch.int64, device=self.slot.device)

    def drop(self, groups: Tensor) -> None:
        """Free the rows of groups, which have no cells any more."""
        self.routing.remove(torch.zeros_like(groups), groups, self.slot)
        self.barred[groups] = -torch.inf
        for group in groups.tolist():
            heappush(self.free, group)

    def grow_rows(self) -> None:
        """Make room for rows of keys that were added since."""
        more = len(self.rows.keys) - len(self.group)
        if more > 0:
            self.group, self.place = (F.pad(x, (0, more), value=-1) for x in (self.group, self.place))
            self.inverse = F.pad(self.inverse, (0, more), value=1.0)

    def write_front(self, groups: Tensor | None = None) -> None:
        """Write the bounds in front of groups after those of their panels have changed.

        Args:
            groups: None for all of them, as after codes of directions have moved or groups have gone.
        """
        self._searcher = None
        level = self.cells.level
        assert level.bound is not None
        if groups is None:
            groups, slots = self.live(), len(self.routing.level.codes) * LANES
            self.front = self.direction.new_tensor([0.0, -1.0]).unsqueeze(1).repeat(1, slots)
        held = (level.length[groups] > 0).unsqueeze(1)  # (g, 1)
        first = level.first_panel[groups].clamp(max=max(0, len(level.bound) - 1))
        bound = level.bound[first] if len(level.bound) else self.front.new_zeros(len(groups), 2)
        self.front[:, self.slot[groups]] = torch.where(held, bound, self.front.new_tensor([0.0, -1.0])).T

    def code_bytes(self) -> int:
        """Bytes of the codes of all groups and cells."""
        levels = (self.routing.level, self.cells.level)
        tensors = [part for level in levels for part in vars(level).values() if isinstance(part, Tensor)]
        return sum(tensor.nbytes for tensor in tensors)

    def _measure(self, rows: Tensor) -> None:
        """Note the lengths of the keys of cells ``(n,)`` whose codes were written."""
        assert self.cells.level.size is not None
        self.inverse[rows] = 1.0 / self.cells.level.size[self.place[rows], 0].clamp(min=SHORTEST)

    def _grow(self, count: int) -> None:
        """Make ``count`` more free rows."""
        room = len(self.slot)
        self.free += range(room, room + count)  # above all others: the heap stays one
        self.slot = F.pad(self.slot, (0, count), value=-1)
        vectors = (self.mean, self.direction, self.unit)
        self.mean, self.direction, self.unit = (F.pad(x, (0, 0, 0, count)) for x in vectors)
        self.barred = F.pad(self.barred, (0, count), value=-torch.inf)
        self.changed = F.pad(self.changed, (0, count))
        lacking = room + count - len(self.cells.level.length)
        if lacking > 0:
            self.cells.more(lacking)
