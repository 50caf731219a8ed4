"""Shows people what a search looks at: tiers of groups, those it enters, and the cells it scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hmn._native.level import Level
from hmn._native.watch import Steps, Watch
from hmn.results import SearchResult


@dataclass
class TierSeen:
    """One tier of groups that a search went through.

    Attributes:
        groups: number of groups in the tier.
        scored: number of groups that were compared with the query.
        entered: ``(m, 2)`` int64 cells that each group entered holds: where they begin in the order of
            ``SearchSeen``, and how many there are.
    """

    groups: int
    scored: int
    entered: Tensor


@dataclass
class SearchSeen:
    """What one call of ``search`` looked at, for all of its queries together.

    Cells have an order here in which those of a group lie side by side, from 0 to N - 1.

    Attributes:
        queries: number of queries.
        cells: number of cells, N.
        tiers: the tiers of groups, from the top; none where a structure has no groups, or shows none.
        coded: number of cells that were compared with the query by their codes.
        scored: number of cells that were scored in full.
        reads: what was read, in units of one key in single precision.
        places: ``(m,)`` int64 where the cells that were found lie in the order, query by query, best first.
    """

    queries: int
    cells: int
    tiers: list[TierSeen] = field(default_factory=list)
    coded: int = 0
    scored: int = 0
    reads: float = 0.0
    places: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64, device="cpu"))


SEARCHES: Watch[SearchSeen] = Watch("searches")
"""Watch of the searches of all structures."""


def watching() -> AbstractContextManager[list[SearchSeen]]:
    """Watch the searches of this thread within the block.

    >>> with watching() as searches:
    ...     index.search(query, 10)
    >>> searches[0].reads

    Results are those of any search, but for rounding. A watched search is slower: it goes through PyTorch,
    and it lays out all cells. In a hierarchy, PyTorch enters a little more than the kernels do; the reads are
    those of the kernels.
    """
    return SEARCHES.watching()


def search_seen(result: SearchResult, rows: Tensor, steps: Sequence[Steps]) -> SearchSeen:
    """What a search looked at.

    Args:
        result: what it found, as rows.
        rows: ``(N,)`` all rows that hold cells, ascending.
        steps: what it did; of a search that went on further, its last part is shown.
    """
    found = result.cell[result.cell >= 0]
    seen = SearchSeen(len(result.cell), len(rows))
    seen.scored, seen.reads = int(result.cells_scored.sum()), float(result.reads.double().sum())
    if steps:
        seen.tiers, rows = _laid_out(steps[-1])
        seen.coded = steps[-1].scored[-1]
        seen.places = _places(rows)[found]
    else:
        seen.places = torch.searchsorted(rows, found)
    return seen


def _laid_out(steps: Steps) -> tuple[list[TierSeen], Tensor]:
    """The tiers that a search went through, and all rows in the order in which their groups lie."""
    members, sizes = _order(steps.levels)
    tiers = []
    for number, (entered, scored) in enumerate(zip(steps.entered, steps.scored, strict=False)):
        size = sizes[number]
        place = _places(members[number])[entered]
        begin = size.cumsum(0) - size
        tiers.append(TierSeen(len(size), scored, torch.stack([begin[place], size[place]], dim=1)))
    return tiers, members[-1]


def _order(levels: Sequence[Level]) -> tuple[list[Tensor], list[Tensor]]:
    """The children of each level from left to right, and the number of cells in each group among them."""
    members, lengths = [], []
    lists = levels[0].child.new_zeros(1, dtype=torch.int64)
    for level in levels:
        lists, length = level.children_of(lists)
        members.append(lists)
        lengths.append(length)
    sizes = [lengths[-1]]
    for length in reversed(lengths[1:-1]):
        ends = torch.cat([length.new_zeros(1), length.cumsum(0)])
        total = torch.cat([length.new_zeros(1), sizes[0].cumsum(0)])[ends]
        sizes.insert(0, total.diff())
    return members, sizes


def _places(members: Tensor) -> Tensor:
    """Where each member ``(n,)`` lies, by its number."""
    most = int(members.max()) + 1 if len(members) else 0
    return members.new_zeros(most).index_copy_(0, members, torch.arange(len(members), device=members.device))
