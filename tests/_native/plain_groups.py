"""Groups of random keys, and a search through them in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native.codes import codes_of, split
from hmn._native.groups import GroupsView, Limits, Searcher
from hmn._native.level import LANES, LINE, Level
from hmn.index.storage import short_codes
from hmn.index.storage.coded_lists import Lists
from hmn.index.storage.short_codes import ShortCodes
from hmn.index.structures.hierarchy.directions import from_basis, on_basis

CPU = torch.device("cpu")
AT_A_TIME = 64
"""Panels that the kernels screen before the k-th best estimate rises."""
BOUND = 8
"""Bytes of a bound."""
LEAST = 2.0**-126
"""Lower limit of what a panel must promise once the k-th best score is 0."""


@dataclass
class Made:
    """Groups, and the rows ``(n,)`` of keys that are in one."""

    view: GroupsView
    keys: Tensor
    rows: Tensor

    def searcher(self) -> Searcher:
        return Searcher(self.view, self.keys)

    def best(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Scores ``(B, k)`` in float64 and rows of the best cells."""
        score = query.double() @ self.keys[self.rows].double().T
        found = score.topk(min(k, len(self.rows)), dim=1)
        return found.values, self.rows[found.indices]


def made(
    n: int = 900,
    d: int = 20,
    parts: int = 16,
    *,
    groups: int = 20,
    basis: str = "all",
    turned: bool = False,
    storage: torch.dtype = torch.float32,
    spread: float = 0.0,
    seed: int = 0,
) -> Made:
    """Groups after changes: lists that have moved, are not in order, or have lost all of their entries.

    A third of the rows is in none of them. Lengths of keys are 1 or, with a ``spread``, lognormal.
    """
    generator = torch.Generator().manual_seed(seed)
    middle = F.normalize(torch.randn(groups, d, generator=generator), dim=1)
    of = torch.randint(1, max(2, groups - 1), (n,), generator=generator) % groups  # 0 and the last stay empty
    noise = torch.randn(n, d, generator=generator) * (d > 1) / d**0.5
    keys = F.normalize(middle[of] + noise, dim=1)
    keys = (keys * (spread * torch.randn(n, 1, generator=generator)).exp()).to(storage)
    vectors = None
    if basis == "chosen":
        vectors = torch.randperm(d, generator=generator)[: max(1, d // 2)].sort().values.int()
    elif basis == "projected":
        vectors = torch.linalg.qr(torch.randn(d, d, generator=generator))[0][: max(1, d // 2)].contiguous()
    routing, direction = routes(on_basis(middle, vectors), vectors, d)
    rest = F.normalize(split(keys.float(), direction[of])[1], dim=1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(short_codes, "CLEARLY", 1e9 if turned else 0.0)
        short = ShortCodes.fit(rest, parts, generator)
    cells, row, where = Lists(d, 4, CPU, short), torch.randperm(n, generator=generator), torch.full((n,), -1)
    early, late = row[: n // 2], row[n // 2 : n - n // 6]
    where[early] = cells.build(of[early], early, keys, direction)
    gone = early[(torch.arange(len(early)) % 3 == 0) | (of[early] == 2)]  # all of group 2 that there are
    cells.remove(of[gone], gone, where)
    late = late[of[late] != 2]
    cells.add(of[late], late, keys[late], direction, where)
    every = torch.arange(groups)
    cells.write_bounds(every[::2])
    cells.settle(every[1::2], where, 1.0)
    level = cells.level
    assert level.bound is not None
    front = torch.tensor([[0.0], [-1.0]]).repeat(1, len(routing.codes) * LANES)
    for slot in range(int(routing.first_panel) * LANES, int(routing.first_panel) * LANES + groups):
        group = int(routing.child[slot])
        if int(level.length[group]):
            front[:, slot] = level.bound[level.first_panel[group]]
    coded = short.centroid, short.order, short.rotation
    return Made(
        GroupsView(routing, level, vectors, direction, *coded, front), keys, (where >= 0).nonzero().squeeze(1)
    )


def routes(mean: Tensor, basis: Tensor | None, features: int) -> tuple[Level, Tensor]:
    """A list of the codes of directions, which does not begin at panel 0, and these directions in full."""
    groups, none = torch.arange(len(mean)), torch.zeros(1, 1)
    lists, slot, zero = Lists(mean.shape[1], 8, CPU), torch.full((len(mean),), -1), torch.zeros_like(groups)
    slot[:1] = lists.build(zero[:1], groups[:1], mean, none)
    lists.add(zero[1:], groups[1:], mean[1:], none, slot)
    return lists.level, from_basis(lists.vectors_at(slot, zero, none), basis, features)


def queries(count: int, d: int, seed: int = 0) -> Tensor:
    """Queries that codes of 8 bits keep as they are."""
    query = torch.randint(-127, 128, (count, d), generator=torch.Generator().manual_seed(seed)).float()
    query[:, 0] = 127
    return query / 64


@dataclass
class Search:
    """One query's search; ``run`` does it.

    Attributes:
        seen: estimate by slot of all entries that were estimated.
        bytes: bytes read.
        tau: the lowest wanted estimate, once there are k.
    """

    view: GroupsView
    keys: Tensor
    query: Tensor
    limits: Limits
    k: int
    tiles: bool
    seen: dict[int, float] = field(default_factory=dict)
    bytes: int = 0
    tau: float = -torch.inf

    def run(self) -> tuple[list[int], float, int]:
        """Rows of the results, reads, and rows scored in full."""
        view, cells = self.view, self.view.cells
        assert cells.bound is not None and cells.screen is not None and cells.fine is not None
        self.panel_bytes, self.row_bytes = cells.screen.shape[1] * LINE + BOUND, cells.fine.shape[1]
        self.norm = float(self.query.double().norm())
        self.bound = cells.bound.double().tolist()
        routing, begin = view.routing, int(view.routing.first_panel) * LANES
        slot = torch.arange(begin, begin + int(routing.length))
        self.groups = routing.child[slot].tolist()
        self.front = view.front[:, slot].double()
        self.base = self._base(slot)
        every = torch.arange(len(cells.child))
        self.fine = self._estimates(*cells.fine_at(every, len(self.query))).tolist()
        self.tile, self.screen = self._tile(every).tolist(), self._screen(every).tolist()
        self.done = [0] * len(self.groups)
        directed = (self.front[0] * self.base)[self.front[1] >= 0]
        self.usual = float(directed.mean() + self.limits.spread * directed.std(correction=0))
        self.bytes = int(routing.length) * (routing.entry_bytes + BOUND)
        self._begin()
        for reach in self.limits.reach:
            for i in self._reaching(reach):
                (self._together if self.tiles else self._alone)(i, reach * self.norm, 1 << 30)
        return self._finish()

    def _base(self, slot: Tensor) -> Tensor:
        """Products with the directions, by their codes."""
        basis, query = self.view.basis, self.query
        if basis is not None:
            query = on_basis(query.unsqueeze(0), basis).squeeze(0)
            if largest := float(query.abs().max()):  # whole numbers of 8 bits
                query = (query * (127 / largest)).round().double() * (largest / 127)
        code = codes_of(self.view.routing, slot, len(query)).double() - self.view.routing.zero
        return self.view.routing.step[slot].double() * (code @ query.double())

    def _list_base(self, every: Tensor) -> Tensor:
        """By slot of cells, the product with the direction of its list; 0 in none."""
        base = torch.zeros(len(every), dtype=torch.float64)
        for i, group in enumerate(self.groups):
            slot, _ = self.view.cells.entries_of(torch.tensor([group]))
            base[slot] = self.base[i]
        return base

    def _estimates(self, along: Tensor, step: Tensor, codes: Tensor) -> Tensor:
        product = (codes.double() - self.view.cells.zero) @ self.query.double()
        return along.double() * self._list_base(torch.arange(len(along))) + step.double() * product

    def _tile(self, every: Tensor) -> Tensor:
        cells = self.view.cells
        return self._estimates(cells.along, cells.step, codes_of(cells, every, len(self.query)))

    def _screen(self, every: Tensor) -> Tensor:
        """Estimates by short codes and their slack, with tables of whole numbers."""
        view = self.view
        short = ShortCodes(view.centroid, view.order, view.rotation)
        table = short.tables(self.query.unsqueeze(0)).squeeze(0)  # (n, 16)
        low = table.amin(dim=1, keepdim=True)
        most, largest = 255 // (2 * (len(table) // 8)), float((table - low).max())
        number = ((table - low) * (most / largest if largest else 0.0)).round()
        along, step, code = view.cells.screen_at(every)
        total = number.gather(1, code.T.long()).sum(dim=0).double()  # (slots,)
        product = total * largest / most + float(low.sum()) + self.limits.slack * self.norm
        return along.double() * self._list_base(every) + step.double() * product

    def _reaching(self, reach: float) -> list[int]:
        width = reach * self.norm
        fronts = zip((self.front[0] * self.base).tolist(), self.front[1].tolist(), strict=True)
        return [i for i, (directed, rest) in enumerate(fronts) if self._promises(directed, rest * width)]

    def _promises(self, directed: float, rest: float) -> bool:
        """Whether a panel promises enough, by its direction and what its rests may add."""
        own = self.limits.own
        least = max(own * self.tau + (1 - own) * self.usual, LEAST)
        return self.tau < 0 or directed + rest >= least or directed >= max(self.tau, LEAST)

    def _begin(self) -> None:
        width = self.limits.reach[0] * self.norm
        promise = self.front[0] * self.base + self.front[1] * width
        order = [
            i
            for i in promise.argsort(descending=True).tolist()
            if int(self.view.cells.length[self.groups[i]])
        ]
        wanted = self.limits.first // LANES + 1
        while True:
            left = [i for i in order if not self.done[i]]
            for i in left[:wanted]:
                self._alone(i, width, 1)
            if len(left) <= wanted or self.tau >= 0:
                return
            wanted *= 4

    def _alone(self, i: int, width: float, most: int) -> None:
        for _ in range(1 << 30):
            first = self._entered(i, width, min(most, self.done[i] + AT_A_TIME))
            slots = self._slots(i, first)
            passed = [slot for slot in slots if self.screen[slot] >= self.tau]
            self.bytes += (self.done[i] - first) * self.panel_bytes + len(passed) * self.row_bytes
            self._push({slot: self.fine[slot] for slot in passed})
            if self.done[i] - first < AT_A_TIME:
                return

    def _together(self, i: int, width: float, most: int) -> None:
        first = self._entered(i, width, most)
        self.bytes += (self.done[i] - first) * (self.view.cells.entry_bytes * LANES + BOUND)
        self._push({slot: self.tile[slot] for slot in self._slots(i, first)})

    def _entered(self, i: int, width: float, most: int) -> int:
        """Enter panels of a group up to ``most``; returns the first that is new."""
        cells, group, first = self.view.cells, self.groups[i], self.done[i]
        panels = min(most, -(-int(cells.length[group]) // LANES))
        while self.done[i] < panels:
            a, s = self.bound[int(cells.first_panel[group]) + self.done[i]]
            if not self._promises(a * float(self.base[i]), s * width):
                break
            self.done[i] += 1
        return first

    def _slots(self, i: int, first: int) -> range:
        cells, group = self.view.cells, self.groups[i]
        begin, length = int(cells.first_panel[group]) * LANES, int(cells.length[group])
        return range(begin + first * LANES, begin + min(self.done[i] * LANES, length))

    def _push(self, found: dict[int, float]) -> None:
        assert not set(found) & set(self.seen)
        self.seen |= found
        if len(self.seen) >= self.k:
            self.tau = sorted(self.seen.values(), reverse=True)[min(self.k, self.limits.wanted) - 1]

    def _finish(self) -> tuple[list[int], float, int]:
        best = sorted(self.seen, key=lambda slot: (-self.seen[slot], slot))[: self.limits.kept]
        row = self.view.cells.child[torch.tensor(best, dtype=torch.int64)].long()
        score = (self.keys[row].double() @ self.query.double()).float().tolist()
        spent = self.bytes + len(row) * (self.keys.shape[1] * self.keys.element_size() + 4)
        found = sorted(zip(row.tolist(), score, strict=True), key=lambda each: (-each[1], each[0]))
        return [each for each, _ in found[: self.k]], spent / (4 * len(self.query)), len(row)
