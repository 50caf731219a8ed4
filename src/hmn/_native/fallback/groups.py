"""Search through groups in PyTorch: the path on a GPU, and the reference in tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hmn._native.allowed.filter import Filter
from hmn._native.codes import codes_of
from hmn._native.fallback.buckets import best_of
from hmn._native.level import LANES
from hmn._native.watch import Steps
from hmn.results import SearchResult

if TYPE_CHECKING:
    from hmn._native.groups import GroupsView, Limits

PART_NUMBERS = 1 << 26
"""Floats computed at a time."""
BOUND_BYTES = 8
"""Bytes of the bound of a panel."""
LEAST = torch.finfo(torch.float32).tiny
"""Lower limit of what entered panels promise: a query of zeros enters no more than it begins with."""


class Panels(NamedTuple):
    """All panels of cells that hold any.

    Attributes:
        list: ``(P,)`` int64 group of each panel, ascending.
        panel: ``(P,)`` int64 its number.
        length: ``(P,)`` int64 entries in it.
        first: ``(P,)`` bool whether it is the first of its group.
    """

    list: Tensor
    panel: Tensor
    length: Tensor
    first: Tensor


class Estimates(NamedTuple):
    """Estimated scores of entries, for several queries: query, slot and score, each ``(n,)``."""

    query: Tensor
    slot: Tensor
    score: Tensor


def search_groups(
    query: Tensor,
    view: GroupsView,
    keys: Tensor,
    limits: Limits,
    k: int,
    allowed: Filter | None = None,
    *,
    steps: Steps | None = None,
) -> SearchResult:
    """See ``hmn._native.groups.search_groups``; entries are scored by their codes of 4 bits, as with tiles.

    Thresholds rise after each round only, so that a little more is entered than by the kernels.
    """
    panels = panels_of(view)
    size = max(1, PART_NUMBERS // max(1, len(panels.panel)))
    every = torch.split(torch.arange(len(query), device=query.device), size)
    parts = [
        _search(query[lines], view, panels, keys, limits, k, None if allowed is None else allowed.of(lines))
        for lines in every
    ]
    result = SearchResult(*(torch.cat(fields) for fields in zip(*(part for part, _ in parts), strict=True)))
    if steps is not None:
        entered = [each for _, each in parts]  # (b, P) each
        groups = view.routing.length.sum().expand(len(query))
        lists = panels.list[torch.stack([each.any(dim=0) for each in entered]).any(dim=0)]
        steps.note(groups, lists)
        steps.note(torch.cat([(each * panels.length).sum(dim=1) for each in entered]))
    return result


def directions(base: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """What groups promise by their directions: mean and standard deviation, each ``(b, 1)``.

    Args:
        base: ``(b, g)`` products with the directions of groups that have cells.
        along: ``(g,)`` A of the first panel of each; see ``Level.bound``.
    """
    promised = base * along
    mean = promised.mean(dim=1, keepdim=True)
    return mean, (promised - mean).square().mean(dim=1, keepdim=True).sqrt()


def panels_of(view: GroupsView) -> Panels:
    """All panels of the groups' lists."""
    length = view.cells.length.long()  # (L,)
    count = (length + LANES - 1) // LANES
    group = torch.arange(len(length), device=length.device).repeat_interleave(count)  # (P,)
    within = torch.arange(len(group), device=group.device) - (count.cumsum(0) - count)[group]
    left = length[group] - LANES * within
    return Panels(group, view.cells.first_panel[group] + within, left.clamp(max=LANES), within == 0)


def _search(
    query: Tensor,
    view: GroupsView,
    panels: Panels,
    keys: Tensor,
    limits: Limits,
    k: int,
    allowed: Filter | None,
) -> tuple[SearchResult, Tensor]:
    """The results of queries ``(b, D)``, and which panels ``(b, P)`` each entered."""
    # 1. products with the directions of all groups, and a first estimate of the lowest wanted score, from
    #    the panels that promise most
    # 2. in each round, the panels that promise more than that
    # 3. the best entries in full
    cells, bound = view.cells, view.cells.bound
    assert bound is not None
    norm = torch.linalg.vector_norm(query, dim=1, keepdim=True, dtype=torch.float64).float()  # (b, 1)
    base = (query @ view.direction.T)[:, panels.list]  # (b, P)
    mean, deviation = directions(base[:, panels.first], bound[panels.panel[panels.first], 0])
    usual = mean + limits.spread * deviation  # (b, 1)
    along, width = bound[panels.panel].unbind(dim=1)

    def lowest_wanted(score: Tensor) -> Tensor:
        """The lowest wanted of the best scores ``(b, >= k)``, as ``(b, 1)``; -inf where there are not k."""
        last = min(k, limits.wanted) - 1
        return score[:, last : last + 1].masked_fill(score[:, k - 1 : k] == -torch.inf, -torch.inf)

    def promise(reach: float) -> Tensor:
        """What panels may score ``(b, P)``."""
        return torch.addcmul(along * base, norm, width, value=reach)

    first = promise(limits.reach[0]).masked_fill(~panels.first, -torch.inf)
    count = limits.first // LANES + 1
    while True:
        best = first.topk(min(count, first.shape[1]), dim=1)
        entered = torch.zeros_like(first, dtype=torch.bool).scatter_(
            1, best.indices, best.values > -torch.inf
        )
        seen = _estimates(query, view, panels, base, entered, allowed)
        kept, score = _best(seen, len(query), max(k, limits.kept))
        if bool((lowest_wanted(score) >= 0).all()) or count >= first.shape[1]:
            break
        count *= 4
    for reach in limits.reach:
        tau = lowest_wanted(score)
        # bounds that a negative product with a direction makes negative rise along a list, so none ends it
        least = (limits.own * tau + (1 - limits.own) * usual).clamp(min=LEAST)
        more = (promise(reach) >= least) | (along * base >= tau.clamp(min=LEAST)) | (tau < 0)
        more &= ~entered
        entered |= more
        found = _estimates(query, view, panels, base, more, allowed)
        seen = Estimates(*(torch.cat(pair) for pair in zip(seen, found, strict=True)))
        kept, score = _best(seen, len(query), max(k, limits.kept))
    kept = kept[:, : limits.kept]
    candidate, there = torch.full_like(kept, -1), kept >= 0
    candidate[there] = cells.child[kept[there]].long()
    score, row = best_of(query, keys, candidate, k)
    scored = (candidate >= 0).sum(dim=1)
    spent = entered.sum(dim=1) * (LANES * cells.entry_bytes + BOUND_BYTES)
    spent += int(view.routing.length.sum()) * (view.routing.entry_bytes + BOUND_BYTES)
    spent += scored * (keys.shape[1] * keys.element_size() + cells.child.element_size())
    return SearchResult(score, row, spent.float() / (4 * max(1, keys.shape[1])), scored), entered


def _estimates(
    query: Tensor,
    view: GroupsView,
    panels: Panels,
    base: Tensor,
    entered: Tensor,
    allowed: Filter | None,
) -> Estimates:
    """Scores by codes of 4 bits of all allowed entries in the panels that queries enter ``(b, P)``."""
    cells, lane = view.cells, torch.arange(LANES, device=query.device)
    row, panel = entered.nonzero(as_tuple=True)  # (m,), (m,)
    parts: list[Estimates] = []
    size = max(1, PART_NUMBERS // (4 * LANES * max(1, query.shape[1])))
    for r, p in zip(torch.split(row, size), torch.split(panel, size), strict=True):
        slot = LANES * panels.panel[p].unsqueeze(1) + lane  # (m, 16)
        code = codes_of(cells, slot, query.shape[1]) - cells.zero  # (m, 16, D)
        product = torch.bmm(code, query[r].unsqueeze(2)).squeeze(2)  # (m, 16)
        score = cells.along[slot] * base[r, p].unsqueeze(1) + cells.step[slot] * product
        valid = lane < panels.length[p].unsqueeze(1)
        if allowed is not None:
            valid &= allowed.of(r).allows(cells.child[slot].long())
        parts.append(Estimates(r.unsqueeze(1).expand_as(slot)[valid], slot[valid], score[valid]))
    return Estimates(*(torch.cat(fields) for fields in zip(*parts, strict=True)))


def _best(seen: Estimates, queries: int, count: int) -> tuple[Tensor, Tensor]:
    """The slots and scores ``(b, count)`` of the best entries of each query; -1 and -inf for none."""
    order = seen.score.argsort(descending=True)
    order = order[seen.query[order].argsort(stable=True)]
    row = seen.query[order]
    held = torch.bincount(row, minlength=queries)
    rank = torch.arange(len(row), device=row.device) - (held.cumsum(0) - held)[row]
    chosen = rank < count
    place = row[chosen], rank[chosen]
    slot = row.new_full((queries, count), -1).index_put_(place, seen.slot[order[chosen]])
    score = seen.score.new_full((queries, count), -torch.inf).index_put_(place, seen.score[order[chosen]])
    return slot, score
