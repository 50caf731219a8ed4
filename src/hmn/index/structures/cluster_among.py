"""Search among allowed cells in clusters: more clusters are entered where they hold few of them."""

from __future__ import annotations

from dataclasses import dataclass
from operator import lt

import torch
from torch import Tensor

from hmn._native import count_allowed, replaced, search_levels
from hmn._native.allowed.filter import Enough, Filter
from hmn.index.storage.key_rows import KeyRows
from hmn.index.structures.cluster_levels import Levels
from hmn.results import SearchResult

FEW = 1.25
"""Allowed cells up to which all are scored in full, as a share of those that a search looks at."""
MORE = 1.0
"""Allowed cells that a search looks at beyond their share, in multiples of it, where few are allowed."""
LOOKED = 32
"""Cells of a cluster by which the number of allowed ones is estimated."""
WIDE = 3
"""Clusters among which those with enough allowed cells are looked for, in multiples of those to enter."""
WIDER = 4
"""Factor of these clusters where they hold too few."""
COUNTED = 16
"""Queries with the same allowed cells from which on these are counted in every cluster."""
LEAST_SHARE = 1e-3
"""Lower limit of the share of allowed cells that this goes by."""
SURELY_SEEN = 6.0
"""Allowed cells that would be expected among those of a cluster that are looked at in vain."""


@dataclass
class ClusterSearch:
    """How a search of clusters goes among allowed cells.

    A query enters as many clusters as without a filter: the best of those that hold allowed cells. It enters
    more until they hold as great a share of the allowed cells as these hold of all cells, and somewhat more:
    the best allowed cells lie farther from each other than the best of all.

    Attributes:
        rows: the keys.
        levels: the clusters.
        probes: clusters to enter at each level, without a filter.
        k: results per query.
        rescored: cells to score in full per query.
        places: results that a query must have not to look further.
    """

    rows: KeyRows
    levels: Levels
    probes: tuple[int, ...]
    k: int
    rescored: int
    places: int

    @property
    def looked(self) -> float:
        """Cells that a search of all cells looks at, as a rule."""
        return len(self.rows) * min(1.0, self.probes[-1] / self.levels.clusters.counts[-1])

    @property
    def few(self) -> int:
        """Allowed cells up to which all are scored in full."""
        return int(FEW * self.looked)

    def search(self, query: Tensor, allowed: Filter, share: Tensor) -> SearchResult:
        """Search queries ``(B, D)`` that may find a share ``(B,)`` of the rows; see ``Filtered``."""
        wide = tuple(WIDE * number for number in self.probes)
        entries = share * (1 + MORE * (1 - share)) * self.looked
        if allowed.is_shared and len(query) >= COUNTED:
            return self._by_set(query, *allowed.sets(len(query)), entries, wide)
        most = max(LOOKED, int(SURELY_SEEN / max(float(share.min()), LEAST_SHARE)))
        return self._look(query, allowed, entries, wide, most)

    def _look(
        self,
        query: Tensor,
        allowed: Filter,
        entries: Tensor,
        wide: tuple[int, ...],
        most: int,
        held: list[Tensor] | None = None,
    ) -> SearchResult:
        """Search, and choose the clusters to enter among ``wide`` ones of each level.

        Args:
            query: ``(B, D)`` float32.
            allowed: rows that each query may find.
            entries: ``(B,)`` allowed cells that the clusters of each query hold together.
            wide: clusters to choose from; more where these hold too few allowed cells.
            most: cells of a cluster to look at before it counts as one without allowed cells.
            held: allowed cells in the clusters of each level, where all queries have one set; None if they
                were not counted.
        """
        # 1. Enter clusters until these hold enough allowed cells.
        # 2. Queries that lack some, or k results, choose among more clusters: where many of them ask for the
        #    same cells, among those only that hold any.
        # 3. Queries that lack k results want more cells, until all clusters are entered.
        levels, counts = self.levels, self.levels.clusters.counts
        most = most if any(map(lt, wide, counts)) else len(self.rows)  # the last chance: miss none
        lists, lacking = self.probes[-1], torch.zeros(len(query), dtype=torch.bool, device=query.device)
        if held is not None:
            lists = min(lists, int((held[-1] > 0).sum()))
        found = search_levels(
            query,
            [part.level for part in (*levels.clusters.upper, levels.leaves)],
            levels.clusters.directions,
            tuple(map(min, wide, counts)),
            self.rows.keys,
            self.rescored,
            self.k,
            held=levels.held if held is None else held,
            allowed=allowed,
            enough=Enough(lists, entries, LOOKED, most, lacking),
        )
        short = found.cell[:, self.places - 1] < 0 if self.places else torch.zeros_like(lacking)
        short &= entries < len(self.rows)
        if any(map(lt, wide, counts)):
            short |= lacking
        lines = short.nonzero().squeeze(1)
        if not len(lines):
            return found
        lacks = found.cell[lines, self.places - 1] < 0 if self.places else torch.zeros_like(lacking[lines])
        some, own = query[lines], allowed.of(lines)
        wanted = torch.where(lacks, WIDER * entries[lines].clamp(min=self.k), entries[lines])
        most = len(self.rows) if bool(lacks.any()) else most
        sets, which = own.sets(len(lines))
        if held is None and len(sets) * COUNTED <= len(lines):
            return replaced(found, lines, self._by_set(some, sets, which, wanted, wide))
        further = tuple(WIDER * number for number in wide)
        return replaced(found, lines, self._look(some, own, wanted, further, most, held))

    def _by_set(
        self, query: Tensor, sets: list[Filter], which: Tensor, entries: Tensor, wide: tuple[int, ...]
    ) -> SearchResult:
        """Search for the queries of each set, and pass over clusters that hold none of its cells."""
        parts, lines = list[SearchResult](), list[Tensor]()
        for number, allowed in enumerate(sets):
            chosen = (which == number).nonzero().squeeze(1)
            count = count_allowed(self.levels.leaves.level, allowed, len(self.rows.keys))
            held, wanted = self.levels.clusters.held(count), entries[chosen].clamp(max=float(count.sum()))
            parts.append(self._look(query[chosen], allowed, wanted, wide, len(self.rows), held))
            lines.append(chosen)
        order = torch.cat(lines).argsort()
        return SearchResult(*(torch.cat(column)[order] for column in zip(*parts, strict=True)))
