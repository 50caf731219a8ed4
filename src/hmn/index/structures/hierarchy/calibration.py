"""Measures how far a search must look among groups, by queries whose best cells are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial

import torch
from torch import Tensor

from hmn._native.fallback.groups import directions
from hmn._native.level import LANES
from hmn.index.clustering.kmeans import unit_rows
from hmn.index.storage.key_rows import KeyRows
from hmn.index.structures.exact import search_all
from hmn.index.structures.hierarchy.directions import SHORTEST
from hmn.index.structures.hierarchy.groups import SCORE_ALONE, UNMEASURED, Groups, Measured, Point, Promise
from hmn.results import SearchResult

Search = Callable[[Tensor, int], SearchResult]
"""Type of a search: queries ``(Q, D)`` and k."""
FEW_CELLS = 64
"""Number of cells up to which all of them are scored, unless ``rescore`` says otherwise."""
LONGER = 2.0
"""Factor by which a key must exceed the longest one for limits to be measured again."""
KINDS = 5
"""Number of kinds of queries: near keys, keys, opposite to both, and of any direction."""
QUERIES = 128
"""Upper limit of queries per kind."""
FEWEST_QUERIES = 48
"""Lower limit of queries per kind, where there are many cells."""
MANY_CELLS = 100_000
"""Number of cells from which on fewer queries are drawn, since each of them costs more."""
NOISE = (0.25, 0.6)
"""Lengths of the noise that is added to keys of length 1, in turn, to make queries near them."""
USUAL = 2
"""Number of the kinds, from the first on, that are usual."""
COUNTS = (1, 10, 50)
"""Numbers of results per query that are asked for."""
FOUND = 0.95
"""Share of the best cells that a search should find, for each kind of queries and each number of results."""
LESSONS = 50
"""Lower limit of queries that limits are learned from: enough that one of them may be lost."""
LEARNED = 0.98
"""Share of the cells that limits are learned from which a search should find."""
REACHED = 0.3
"""Part of the cells that may be lost which are lost since their panels are not entered. What is left is for
what the estimates by codes of 4 bits lose."""
SCREENED = 0.2
"""Part of the cells that may be lost which short codes lose."""
SPARE = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Numbers of cells scored in full that are tried, per result and beyond one; see ``Point.spare``."""
WORTH = 0.002
"""Gain of the share found for which it is worth while to score more cells in full."""
WIDER = 1.15
"""Factor of the limits where too little is found."""
ATTEMPTS = 8
"""Upper limit of the times that a search is made wider."""
PROMISES = (SCORE_ALONE, *(Promise(own, spread) for own in (0.7, 0.5) for spread in (2.0, 3.0, 4.0)))
"""Promises of panels that are tried."""
LOWER_PROMISES = tuple(Promise(0.3, spread) for spread in (2.0, 3.0, 4.0))
"""Promises that are tried as well where queries come with several best cells; others say too little."""
FEWEST_TRIED = 4096
"""Cells below which none but the first is tried: a search reads few of them anyway."""
ENTERED = 8192
"""Upper limit of cells for which is counted how many queries enter their panels."""
MOST_ASKED = 256
"""Upper limit of these queries."""
SAME = 1e-5
"""Relative difference of scores that count as equal."""
LARGEST = 1e6
"""Upper limit of what is needed for a cell, such as one whose panel has no rests at all."""
KEYS_AT_A_TIME = 1 << 16
"""Keys that are measured at a time."""
CELLS_AT_A_TIME = 1 << 14
"""Cells whose short codes are looked at at a time."""


class Due(Enum):
    """What must be done after a change."""

    NOTHING = "nothing"
    LIMITS = "fit codes to the cells, and measure again how far to look"
    GROUPS = "make the groups again"


@dataclass
class Sample:
    """Queries whose best cells are known.

    Attributes:
        query: ``(Q, D)`` queries of length 1, in equal parts of different kinds.
        cell: ``(Q, K)`` rows of the cells that they should find, best first.
        score: ``(Q, K + 1)`` their scores, and the next best score; -inf if there are no more cells.
        counts: numbers of results that are asked for, at most K.
        kinds: number of kinds.
    """

    query: Tensor
    cell: Tensor
    score: Tensor
    counts: Sequence[int]
    kinds: int

    def first_kinds(self, kinds: int) -> Sample:
        """The queries of some kinds only."""
        part = slice(kinds * len(self.query) // self.kinds)
        return Sample(self.query[part], self.cell[part], self.score[part], self.counts, kinds)

    def lowest(self, result: SearchResult, count: int) -> float:
        """Lowest share, over all kinds, of the best ``count`` cells that a search has found."""
        last = self.score[:, count - 1 : count]
        found = (result.score >= last - SAME * last.abs()).double().mean(dim=1)
        return float(found.view(self.kinds, -1).mean(dim=1).min())

    def needed(self, each: Callable[[Tensor], Tensor], share: float) -> float:
        """What a share of the best cells needs at most, of each kind and for each number of results.

        Args:
            each: gives what each cell ``(Q, K)`` needs if the k-th best of the others score this ``(Q, 1)``.
            share: of the cells.
        """
        most = 0.0
        for count in self.counts:
            own = each(self.score[:, count : count + 1])[:, :count].reshape(self.kinds, -1)
            most = max(most, float(own.double().clamp(0.0, LARGEST).quantile(share, dim=1).max()))
        return most


def calibrate(groups: Groups, rows: KeyRows, look: Search) -> None:
    """Set the limits of a search so that ``reach=100`` finds ``FOUND`` of the best cells.

    Args:
        groups: changed.
        rows: the keys.
        look: searches the groups as they are now, at ``reach=100``.
    """
    # as many as FEW_CELLS can grow to until limits are measured
    every = UNMEASURED._replace(spare=2.0 * FEW_CELLS)
    groups.measured = Measured(every, every, 0, _longest(rows, rows.live()), turns=groups.measured.turns)
    if len(rows) <= FEW_CELLS:
        return
    query = _queries(rows, groups.seed)  # (Q, D)
    best = search_all(rows, query, COUNTS[-1] + 1)
    sample = Sample(query, best.cell[:, :-1], best.score, COUNTS, KINDS)
    groups.measured.promise = _best_promise(groups, sample.first_kinds(USUAL), FOUND, PROMISES)
    usual = _measure(groups, sample.first_kinds(USUAL), FOUND, look)
    most = _measure(groups, sample, FOUND, look)
    groups.measured.usual = usual if usual.reach < most.reach else most
    groups.measured.most = most


def learn_limits(groups: Groups, rows: KeyRows, query: Tensor, row: Tensor, look: Search) -> None:
    """Set the limits of a search so that it finds ``LEARNED`` of the rows ``(Q, K)`` of queries ``(Q, D)``.

    Queries of zeros are left out, since they say nothing. Fewer than ``LESSONS`` others change nothing.
    """
    says, count = query.abs().amax(dim=1) > 0, row.shape[1]
    query, row = unit_rows(query[says]), row[says]
    if len(rows) <= FEW_CELLS or len(query) < LESSONS:
        return
    score = torch.cat(
        [
            (own.unsqueeze(1) * rows.keys[cells].float()).sum(dim=2)
            for own, cells in zip(torch.split(query, QUERIES), torch.split(row, QUERIES), strict=True)
        ]
    )  # (Q, K)
    score, order = score.sort(dim=1, descending=True)
    row = row.gather(1, order)
    best = search_all(rows, query, count + 1)
    last, following = best.score[:, count - 1 : count], best.score[:, count:]  # (Q, 1) each
    are_best = (score >= last - SAME * last.abs()).all(dim=1, keepdim=True)
    other = torch.where(are_best, following, last)
    sample = Sample(query, row, torch.cat([score, other], dim=1), (count,), 1)
    lower = LOWER_PROMISES if count > 1 else ()
    groups.measured.promise = _best_promise(groups, sample, LEARNED, (*PROMISES, *lower))
    _measure(groups, sample, LEARNED, look)
    groups.measured.added = -1


def due(groups: Groups, rows: KeyRows, written: Tensor, *, added: bool) -> Due:
    """What must be done since rows ``(n,)`` were written; counts them.

    It is time to measure again where a key is far longer than all were, where half of the cells are new or
    have new keys at once, and after as many writes as there are cells. What was learned from queries is kept.

    It is time to make the groups again after N, 2 N, 4 N, 8 N writes, and so on: groups follow their cells,
    but others may part the cells better by now. Keys that are trained change less and less, and in all
    there is no more than one build per N writes.
    """
    measured = groups.measured
    measured.written += len(written)
    if measured.written >= max(1, len(rows)):
        measured.written, measured.turns = 0, measured.turns + 1
        if measured.turns & (measured.turns - 1) == 0:
            return Due.GROUPS
        return Due.NOTHING if measured.added < 0 else Due.LIMITS
    if measured.added < 0 or not len(written):
        return Due.NOTHING
    measured.added += len(written) if added else 0
    new = max(measured.added, len(written))
    outdated = 2 * new >= len(rows) or _longest(rows, written) > LONGER * measured.longest
    return Due.LIMITS if outdated else Due.NOTHING


def _measure(groups: Groups, sample: Sample, share: float, look: Search) -> Point:
    """How far to look to find a share of the sample's best cells; ``groups.measured`` is set to it."""
    # 1. Let enough of the panels of the best cells be entered, and enough of these cells pass by short codes.
    # 2. Score that many cells in full that enough are found.
    # 3. Where no number suffices, look wider.
    reach_needed = partial(_reach_needed(groups, sample), groups.measured.promise)
    reach = sample.needed(reach_needed, 1 - REACHED * (1 - share))
    slack = sample.needed(_slack_needed(groups, sample), 1 - SCREENED * (1 - share))

    def found(point: Point) -> float:
        groups.measured.usual = groups.measured.most = point
        return min(sample.lowest(look(sample.query, count), count) for count in sample.counts)

    point, shares = Point(reach, slack, SPARE[0]), []
    for spare in SPARE:
        point = Point(reach, slack, spare)
        shares.append(found(point))
        if shares[-1] >= share:
            return point
    enough = max(shares) - WORTH
    spare = next(spare for spare, own in zip(SPARE, shares, strict=True) if own >= enough)
    for attempt in range(1, ATTEMPTS + 1):
        point = Point(reach * WIDER**attempt, slack, spare)
        if found(point) >= share:
            break
    return point


def _reach_needed(groups: Groups, sample: Sample) -> Callable[[Promise, Tensor], Tensor]:
    """What reach the panels of the sample's cells need to be entered; by promise, see ``Sample.needed``."""
    level = groups.cells.level
    assert level.bound is not None
    base = _products(groups, sample)  # (Q, K)
    along, width = level.bound[groups.place[sample.cell] // LANES].unbind(dim=2)
    width = torch.maximum(width, _shortest(groups, sample))
    promised, usual = along * base, _directions(groups, sample.query)

    def needed(promise: Promise, tau: Tensor) -> Tensor:
        lacks = _least_promise(promise, tau, usual) - promised
        return torch.where((tau < 0) | (promised >= tau), 0.0, lacks / width)

    return needed  # see ``_native/groups.py``


def _directions(groups: Groups, query: Tensor) -> tuple[Tensor, Tensor]:
    """What groups promise queries ``(Q, D)`` by their directions: mean and standard deviation ``(Q, 1)``."""
    slot = groups.slot.clamp(min=0)
    there = (groups.slot >= 0) & (groups.front[1, slot] >= 0)  # (room,)
    return directions(query @ groups.direction[there].T, groups.front[0, slot[there]])


def _best_promise(groups: Groups, sample: Sample, share: float, tried: Sequence[Promise]) -> Promise:
    """What panels must promise for few to be entered where a share of the sample's best cells is found."""
    level, live = groups.cells.level, groups.rows.live()
    if len(live) < FEWEST_TRIED:
        return SCORE_ALONE
    assert level.bound is not None
    generator = torch.Generator().manual_seed(groups.seed)
    chosen = torch.randperm(len(live), generator=generator, device=generator.device)[:ENTERED]
    cell = live[chosen.to(live.device)]
    step = -(-len(sample.query) // MOST_ASKED)
    query, score = sample.query[::step], sample.score[::step]
    along, rest = level.bound[groups.place[cell] // LANES].unbind(dim=1)  # (n,)
    promised = along * (query @ groups.direction[groups.group[cell]].T)  # (Q, n)
    usual, needed = _directions(groups, query), _reach_needed(groups, sample)

    def entered(promise: Promise) -> float:
        reach = sample.needed(partial(needed, promise), share)
        total = 0.0
        for count in sample.counts:
            tau = score[:, count : count + 1]
            least = _least_promise(promise, tau, usual)
            enter = (promised + reach * rest >= least) | (promised >= tau) | (tau < 0)
            total += float(enter.double().mean())
        return total

    return min(tried, key=entered)


def _least_promise(promise: Promise, tau: Tensor, usual: tuple[Tensor, Tensor]) -> Tensor:
    """What panels must promise ``(Q, 1)`` where the lowest wanted scores are ``tau``; see ``Limits``."""
    mean, deviation = usual
    return (promise.own * tau + (1 - promise.own) * (mean + promise.spread * deviation)).clamp(min=0)


def _slack_needed(groups: Groups, sample: Sample) -> Callable[[Tensor], Tensor]:
    """What slack short codes must have for the sample's cells to pass; see ``Sample.needed``."""
    table = groups.short.tables(sample.query)  # (Q, n, 16)
    parts = []
    for place, own in zip(
        torch.split(groups.place[sample.cell], max(1, CELLS_AT_A_TIME // sample.cell.shape[1])),
        torch.split(table, max(1, CELLS_AT_A_TIME // sample.cell.shape[1])),
        strict=True,
    ):
        along, step, codes = groups.cells.level.screen_at(place.flatten())
        codes = codes.view(*place.shape, -1).long().transpose(1, 2)  # (q, n, K)
        product = own.gather(2, codes).sum(dim=1)  # (q, K)
        parts.append(torch.stack([along.view_as(place), step.view_as(place), product]))
    along, step, product = torch.cat(parts, dim=1)
    estimate = along * _products(groups, sample) + step * product  # (Q, K)
    step = torch.maximum(step, _shortest(groups, sample))
    return lambda tau: (tau - estimate) / step


def _shortest(groups: Groups, sample: Sample) -> Tensor:
    """Least rests ``(Q, K)`` that are divided by: shorter ones are rounding errors of the keys."""
    size = groups.cells.level.size
    assert size is not None
    return size[groups.place[sample.cell], 0].clamp(min=SHORTEST) / LARGEST


def _products(groups: Groups, sample: Sample) -> Tensor:
    """Products of queries with the directions of the groups of their cells ``(Q, K)``."""
    group = groups.group[sample.cell]
    parts = [
        (query.unsqueeze(1) * groups.direction[own]).sum(dim=2)
        for query, own in zip(torch.split(sample.query, 64), torch.split(group, 64), strict=True)
    ]
    return torch.cat(parts)


def _longest(rows: KeyRows, chosen: Tensor) -> float:
    """Length of the longest key of rows ``(n,)``; 0 if there are none."""
    parts = (rows.keys[part] for part in torch.split(chosen, KEYS_AT_A_TIME))
    lengths = (torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in parts if len(part))
    return max((float(length.max()) for length in lengths), default=0.0)


def _queries(rows: KeyRows, seed: int) -> Tensor:
    """Queries ``(Q, D)`` of length 1, kind by kind; see ``KINDS``."""
    generator = torch.Generator().manual_seed(seed)
    live = rows.live()
    count = max(FEWEST_QUERIES, min(QUERIES, QUERIES * MANY_CELLS // len(live)))

    def drawn() -> Tensor:
        chosen = torch.randint(len(live), (count,), generator=generator, device=generator.device)
        return unit_rows(rows.keys[live[chosen.to(live.device)]].float())

    def noise() -> Tensor:
        shape, device = (count, rows.features), generator.device
        numbers = torch.randn(shape, generator=generator, dtype=torch.float32, device=device)
        return unit_rows(numbers.to(live.device))

    length = torch.tensor(NOISE, dtype=torch.float32, device=live.device).repeat(-(-count // len(NOISE)))
    near, key = drawn() + length[:count].unsqueeze(1) * noise(), drawn()
    kinds = [near, key, -near, -key, noise()]
    return torch.cat([unit_rows(kind) for kind in kinds])
