"""Measures how far a hierarchy must look, by queries drawn from its own keys and queries from anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hmn.index.clustering.kmeans import unit_rows
from hmn.index.storage.key_rows import KeyRows
from hmn.index.structures.exact import search_all
from hmn.index.structures.hierarchy.tier import Tier, anchor_rank
from hmn.index.structures.hierarchy.tree import Tree
from hmn.results import SearchResult

Search = Callable[[Tensor, int], SearchResult]
"""Type of a search: queries ``(Q, D)`` and k."""
FEW_CELLS = 64
"""Number of cells up to which all of them are scored."""
LONGER = 2.0
"""Factor by which a key must exceed the longest one for widths to be measured again."""
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
COUNTS = (1, 10, 50)
"""Numbers of results per query that are asked for."""
FOUND = 0.95
"""Share of the best cells that a search should find, for each kind of queries and each number of results."""
RANKS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Ranks of the anchor that are tried, in multiples of the root of the number of results."""
LEARNED = 0.98
"""Share of the queries that widths are learned from which enter the groups of their cells."""
FEW_QUERIES = 512
"""Upper limit of queries from which it is learned how many cells to score in full."""
SHARES = (1.0, 0.998, 0.995, 0.99, 0.985, 0.98, 0.97, 0.96, 0.95)
"""Shares of the best cells that lie in the groups which are entered, from wide to narrow."""
LEAST_SPARE = 24
"""Cells scored in full beyond the usual number at the first attempt; then about twice as many each time."""
MOST_SPARE = 1 << 11
"""Limit of the cells that are scored in full beyond the usual number; at most twice this number."""
WORTH = 0.005
"""Gain of the share found for which it is worth while to score twice as many cells in full."""
WIDER = 1.25
"""Factor of ranks and widths where too little is found."""
ATTEMPTS = 8
"""Upper limit of the times that a search is made wider."""
NEAR = 32
"""Number of queries near keys by which costs are estimated."""
SAME = 1e-5
"""Relative difference of scores that count as equal."""
KEYS_AT_A_TIME = 1 << 16
"""Keys that are measured at a time."""
SCORES_AT_A_TIME = 1 << 24
"""Scores of groups that are computed at a time."""


@dataclass
class Sample:
    """Queries whose best cells are known.

    Attributes:
        query: ``(Q, D)`` queries of length 1, in equal parts of different kinds.
        cell: ``(Q, K)`` rows of their best cells, best first.
        counts: numbers of results that are asked for, at most K.
        kinds: number of kinds.
    """

    query: Tensor
    cell: Tensor
    counts: tuple[int, ...]
    kinds: int

    def lowest(self, found: Tensor, number: int) -> float:
        """Lowest share, over all kinds, of the best ``counts[number]`` cells that are found ``(Q, K)``."""
        shares = found[:, : self.counts[number]].double().mean(dim=1).view(self.kinds, -1).mean(dim=1)
        return float(shares.min())

    def quantile(self, gap: Tensor, number: int, share: float) -> float:
        """Limit of a share of the gaps ``(Q, K)`` of the best ``counts[number]`` cells, of every kind."""
        kinds = gap[:, : self.counts[number]].reshape(self.kinds, -1)
        return float(kinds.double().quantile(share, dim=1).max())


@dataclass
class _Gaps:
    """What is known of one tier.

    Attributes:
        gap: ``(ranks, counts, Q, K)`` by how much the group of each best cell lies below the anchor.
        width: width for each rank and each of ``SHARES``.
        cost: bytes that a query of the first kind reads in the groups it enters, likewise.
    """

    gap: Tensor
    width: list[list[float]]
    cost: list[list[float]]

    @property
    def rank(self) -> int:
        """The number of the rank that costs least."""
        middle = len(SHARES) // 2
        return min(range(len(RANKS)), key=lambda rank: self.cost[rank][middle])


def calibrate(tree: Tree, rows: KeyRows, search: Search) -> None:
    """Set ranks, widths and ``spare`` so that ``reach=100`` finds ``FOUND`` of the best cells.

    Args:
        tree: changed.
        rows: the keys.
        search: searches the tree as it is now, at ``reach=100``.
    """
    # 1. Draw queries and find their best cells exactly.
    # 2. Choose the ranks and widths that let enough of these cells in at the lowest cost.
    # 3. Search. Score more cells in full while that finds more, then look wider while too little is found.
    tree.spare, tree.added, tree.longest = 0, 0, _longest(rows, rows.live())
    if len(rows) <= FEW_CELLS:
        tree.spare = 2 * len(rows)  # by when there are more, widths are measured
        return
    query = _queries(rows, tree.seed)  # (Q, D)
    best = search_all(rows, query, min(COUNTS[-1], len(rows)))
    sample = Sample(query, best.cell, COUNTS, KINDS)
    set_widths(tree, sample, (1 + FOUND) / 2)

    def found() -> float:
        return min(
            sample.lowest(_found(best, search(query, count)), number) for number, count in enumerate(COUNTS)
        )

    share = find_spare(tree, FOUND, found)
    for _ in range(ATTEMPTS):
        if share >= FOUND:
            break
        before = [(tier.rank, tier.width) for tier in tree.tiers]
        for tier in tree.tiers:
            tier.rank, tier.width = WIDER * tier.rank, WIDER * tier.width
        wider = found()
        if wider < share + WORTH:
            for tier, (rank, width) in zip(tree.tiers, before, strict=True):
                tier.rank, tier.width = rank, width
            break
        share = wider
    if float(search(query, 10).reads.mean()) > float(best.reads[0]):
        tree.spare = 2 * len(rows)  # it is cheaper to score all cells


def learn_widths(tree: Tree, query: Tensor, row: Tensor, search: Search) -> None:
    """Set ranks, widths and ``spare`` so that ``LEARNED`` of queries ``(Q, D)`` find their rows ``(Q,)``.

    Args:
        tree: changed.
        query: in random order.
        row: row of the cell that each query should find.
        search: searches the tree as it is now, at ``reach=100``.
    """
    if not len(query):
        return
    sample = Sample(unit_rows(query), row.unsqueeze(1), (1,), 1)
    set_widths(tree, sample, LEARNED)
    few, tree.added = sample.query[:FEW_QUERIES], -1
    find_spare(tree, FOUND, lambda: float((search(few, 1).cell == sample.cell[:FEW_QUERIES]).float().mean()))


def set_widths(tree: Tree, sample: Sample, enough: float) -> None:
    """Choose rank and width of each tier so that enough of the best cells are in groups that are entered."""
    # 1. For each tier, measure how far below the anchor the groups of the best cells lie; choose the rank.
    # 2. Begin with widths that let all of them in. Again and again, make narrower the tier where that saves
    #    most, as long as enough are let in by all tiers together.
    group, gaps = tree.cells.filing.parent[sample.cell], list[_Gaps]()
    for tier in reversed(tree.tiers):
        gaps.insert(0, _gaps(tier, sample, group))
        group = tier.filing.parent[group]
    shares = [0] * len(gaps)
    while True:
        saved = []
        for number, gap in enumerate(gaps):
            narrower = [share + (number == each) for each, share in enumerate(shares)]
            if narrower[number] < len(SHARES) and _let_in(sample, gaps, narrower) >= enough:
                cost = gap.cost[gap.rank]
                saved.append((cost[shares[number]] - cost[narrower[number]], narrower))
        if not saved:
            break
        shares = max(saved)[1]
    for tier, gap, share in zip(tree.tiers, gaps, shares, strict=True):
        tier.rank, tier.width = RANKS[gap.rank], gap.width[gap.rank][share]


def find_spare(tree: Tree, enough: float, found: Callable[[], float]) -> float:
    """Set ``spare`` to what is worth while, and say what share is found with it.

    Args:
        tree: changed.
        enough: share to be found.
        found: the share that is found with the present ``spare``.
    """
    tree.spare, tried = 0, list[tuple[float, int]]()
    most = min(len(tree.cells.filing.lists) // 2, MOST_SPARE)
    while True:
        tried.append((found(), tree.spare))
        if tried[-1][0] >= enough or tree.spare >= most:
            break
        tree.spare = 2 * tree.spare + LEAST_SPARE
    share, tree.spare = next(each for each in tried if each[0] >= max(tried)[0] - WORTH)
    return share


def is_outdated(tree: Tree, rows: KeyRows, written: Tensor, *, added: bool) -> bool:
    """Whether rows ``(n,)`` that were written make it necessary to calibrate again.

    That is so where a key is far longer than all were, or where half of the cells are new. What was learned
    from queries is kept.
    """
    if tree.added < 0 or not len(written):
        return False
    tree.added += len(written) if added else 0
    new = max(tree.added, len(written))
    return 2 * new >= len(rows) or _longest(rows, written) > LONGER * tree.longest


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


def _found(best: SearchResult, result: SearchResult) -> Tensor:
    """Which of the results ``(Q, k)`` are among the best k, or score the same."""
    last = best.score[:, result.score.shape[1] - 1].unsqueeze(1)
    return result.score >= last - SAME * last.abs()


def _let_in(sample: Sample, gaps: list[_Gaps], shares: list[int]) -> float:
    """The lowest share of the best cells that tiers with these numbers of ``SHARES`` let in together."""
    inside = [
        gap.gap[gap.rank] <= gap.width[gap.rank][share] for gap, share in zip(gaps, shares, strict=True)
    ]
    every = torch.stack(inside).all(dim=0)  # (counts, Q, K)
    return min(sample.lowest(every[number], number) for number in range(len(sample.counts)))


def _gaps(tier: Tier, sample: Sample, group: Tensor) -> _Gaps:
    """Measure a tier, in whose groups ``(Q, K)`` the best cells are."""
    anchor, own, near = _scores(tier, sample, group)  # (ranks, counts, Q), (Q, K), (near, G)
    gap = anchor.unsqueeze(3) - own  # (ranks, counts, Q, K)
    below, middle = tier.below.filing.lists, len(sample.counts) // 2
    dearness = below.level.entry_bytes * len(below) / near.shape[1]
    widths, costs = [], []
    for rank in range(len(RANKS)):
        width = [
            max(
                1e-6, *(sample.quantile(gap[rank, number], number, share) for number in range(len(gap[rank])))
            )
            for share in SHARES
        ]
        least = anchor[rank, middle, : len(near)].unsqueeze(1)  # (near, 1)
        costs.append([dearness * float((near >= least - each).sum(dim=1).float().mean()) for each in width])
        widths.append(width)
    return _Gaps(gap, widths, costs)


def _scores(tier: Tier, sample: Sample, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of a tier's groups.

    Returns:
        The scores of each of ``RANKS`` for each number of results ``(ranks, counts, Q)``; those of the groups
        ``(Q, K)`` that hold the best cells; and those of all groups for the first queries ``(near, G)``.
    """
    live = tier.live()
    ranks = [min(len(live), anchor_rank(rank, count)) for rank in RANKS for count in sample.counts]
    place = torch.tensor(ranks, dtype=torch.int64, device=live.device) - 1
    coded = tier.coded[live]
    anchors, own, near = [], [], coded.new_empty(0, len(live))
    part = max(
        1, min(SCORES_AT_A_TIME // len(live), SCORES_AT_A_TIME // max(1, group.shape[1] * coded.shape[1]))
    )
    for query, wanted in zip(torch.split(sample.query, part), torch.split(group, part), strict=True):
        score = query @ coded.T  # (q, G)
        anchors.append(score.topk(max(ranks), dim=1).values[:, place])  # (q, ranks * counts)
        own.append((query.unsqueeze(1) * tier.coded[wanted]).sum(dim=2))  # (q, K)
        near = torch.cat([near, score[: NEAR - len(near)]])
    anchor = torch.cat(anchors).T.reshape(len(RANKS), len(sample.counts), -1)
    return anchor, torch.cat(own), near
