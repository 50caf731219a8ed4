"""The levels of a ``ClusterIndex``: wide clusters lead to narrow ones, and these to their cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native import search_levels
from hmn._native.level import IN_FULL
from hmn._native.watch import Steps
from hmn.errors import ShapeError
from hmn.index.clustering.kmeans import Nearest, assign, kmeans
from hmn.index.clustering.reduction import Reduction
from hmn.index.clustering.sharing import ALONE, Sharing
from hmn.index.storage.coded_lists import CODES, Lists
from hmn.index.storage.key_rows import KeyRows
from hmn.index.storage.saved import ANY, Saved, check_filed, refuse
from hmn.results import SearchResult

BITS = {name: bits for name, bits in CODES.items() if bits > 1} | {None: IN_FULL}
"""Bits per feature of the codes of cells, by their name; None keeps no codes."""
UPPER_BITS = 8
"""Bits per feature of the codes of clusters."""


@dataclass
class Clusters:
    """Clusters of each level, without the cells. They never change.

    Attributes:
        centroid: ``(C, D')`` unit vectors in the reduced space, by which cells are filed.
        directions: ``(lists, D)`` vectors of the lists of each level but the first, by which queries search.
        upper: the levels that lead to the clusters.
        reduction: transforms keys before they are filed; fitted.
    """

    centroid: Tensor
    directions: list[Tensor]
    upper: list[Lists]
    reduction: Reduction

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Clusters of each level, from the widest to the narrowest."""
        return tuple(map(len, self.directions))

    def held(self, cells: Tensor) -> list[Tensor]:
        """Number of cells ``(clusters,)`` int32 in the clusters of each level, from that of the narrowest."""
        held = [cells]
        for above, count in zip(reversed(self.above), reversed(self.counts[:-1]), strict=True):
            held.insert(0, cells.new_zeros(count).index_add_(0, above, held[0]))
        return held

    def nearest(self, keys: Tensor) -> Tensor:
        """The narrowest cluster ``(n,)`` for each of keys ``(n, D)``."""
        return self._nearest(self.reduction.keys(keys).float())[0]

    def search(self, query: Tensor, probes: Sequence[int], held: list[Tensor]) -> SearchResult:
        """Find the narrowest clusters to enter, as a search of cells does.

        Args:
            query: ``(B, D)`` float32.
            probes: clusters to enter at each level.
            held: number of cells in the clusters of each level; empty ones are passed over.

        Returns:
            Clusters in place of cells, with the products of their directions; their reads are those of the
            way to them.
        """
        probes = tuple(map(min, probes, self.counts))
        levels, directions = [lists.level for lists in self.upper], self.directions
        return search_levels(
            *(query, levels, directions[:-1], probes[:-1], directions[-1], probes[-1], probes[-1]), held=held
        )

    @cached_property
    def above(self) -> list[Tensor]:
        """For each level but the first, the wider cluster ``(clusters,)`` that leads to each."""
        above = []
        for lists, count in zip(self.upper[1:], self.counts[1:], strict=True):
            number = torch.arange(len(lists.level.length), device=lists.level.length.device)
            child, length = lists.level.children_of(number)
            above.append(child.new_zeros(count).index_copy_(0, child, number.repeat_interleave(length)))
        return above

    @cached_property
    def _nearest(self) -> Nearest:
        """Finds the cluster of a key; made at the first change."""
        return Nearest(self.centroid)


@dataclass
class Levels:
    """Clusters of each level, and the cells of the narrowest ones.

    Attributes:
        clusters: the clusters.
        leaves: the cells of the narrowest clusters, with their codes if there are any.
        cluster: ``(capacity,)`` int64 cluster of each row.
        place: ``(capacity,)`` int64 place of each row in the leaves.
        changes: number of changes of the cells since the build.
    """

    clusters: Clusters
    leaves: Lists
    cluster: Tensor
    place: Tensor
    changes: int = 0
    _held: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        """Count the cells of the clusters."""
        self._count()

    @property
    def held(self) -> list[Tensor]:
        """Number of cells ``(clusters,)`` int32 in the clusters of each level."""
        return self._held

    def way_to(self, lists: Tensor, scored: int) -> Steps:
        """What there is to see of a search that begins in narrowest clusters ``(B, P)``, -1 for none.

        Args:
            lists: the clusters.
            scored: number of cells that it scored by their codes.
        """
        clusters = self.clusters
        entered = [torch.unique(lists[lists >= 0])]
        for above in reversed(clusters.above):
            entered.insert(0, torch.unique(above[entered[0]]))
        counts = [len(lists) * clusters.counts[0]]
        for upper, wide in zip(clusters.upper[1:], entered[:-1], strict=True):
            counts.append(int(upper.level.length[wide].sum()))
        levels = [part.level for part in (*clusters.upper, self.leaves)]
        return Steps(levels, entered, [*counts, scored])

    def file(self, keys: Tensor, rows: Tensor) -> None:
        """File rows ``(n,)`` of the keys in the clusters with the nearest centroids."""
        vectors = keys[rows]  # (n, D)
        cluster = self.clusters.nearest(vectors)
        more = len(keys) - len(self.place)
        if more > 0:
            self.place = F.pad(self.place, (0, more), value=-1)
            self.cluster = F.pad(self.cluster, (0, more), value=-1)
        self.leaves.add(cluster, rows, vectors, self.clusters.directions[-1], self.place)
        self.cluster[rows] = cluster
        self.changes += 1
        self._count()

    def unfile(self, rows: Tensor) -> None:
        """Take rows ``(n,)`` out of their clusters."""
        self.leaves.remove(self.cluster[rows], rows, self.place)
        self.cluster[rows] = -1
        self.changes += 1
        self._count()

    def _count(self) -> None:
        self._held = self.clusters.held(self.leaves.level.length)

    def state_dict(self, used: int) -> dict[str, Tensor]:
        """The tensors by name, for the rows in use."""
        clusters = self.clusters
        state = {"centroid": clusters.centroid, "cluster": self.cluster[:used], "place": self.place[:used]}
        for number, (lists, direction) in enumerate(zip(clusters.upper, clusters.directions, strict=True)):
            state |= lists.state_dict(f"level{number}.")
            state[f"direction{number}"] = direction
        state |= {f"reduction.{name}": value for name, value in clusters.reduction.state_dict().items()}
        return state | self.leaves.state_dict("leaves.")


def make_clusters(
    keys: Tensor,
    counts: Sequence[int],
    reduction: Reduction,
    *,
    generator: torch.Generator,
    iterations: int,
    on_progress: Callable[[int, int], None] | None,
    sharing: Sharing = ALONE,
) -> tuple[Clusters, Tensor]:
    """Cluster the keys, then the clusters, from the narrowest level to the widest.

    Args:
        keys: ``(N, D)``; with ``sharing``, those of this process.
        counts: clusters of each level, from the widest to the narrowest.
        reduction: transforms keys before they are filed; fitted here.
        generator: source of all randomness; each process has one of its own.
        iterations: rounds of k-means.
        on_progress: called with the rounds done and the number of all rounds, for each level.
        sharing: the processes that hold the keys together, all of which get the same clusters.

    Returns:
        The clusters, and the narrowest one ``(N,)`` for each key.
    """
    reduction.fit(keys if sharing.alone else sharing.gathered(_longest(keys)))
    settings: Any = {"generator": generator, "iterations": iterations, "on_progress": on_progress}
    points = reduction.keys(keys).float()  # (N, D')
    if int(sharing.total(torch.tensor([len(points)], dtype=torch.int64, device="cpu"))):
        centroid = kmeans(points, counts[-1], **settings, sharing=sharing)
    else:
        centroid = points.new_zeros(1, points.shape[1])
    cluster = assign(points, centroid)[0]

    def wider() -> list[Tensor]:
        centroids, filed = [centroid], []
        for count in reversed(counts[:-1]):
            centroids.append(kmeans(centroids[-1], count, **settings))
            filed.append(assign(centroids[-2], centroids[-1])[0])
        return [*centroids, *filed]

    made = sharing.of_first(wider)
    centroids, filed = made[: len(counts)], made[len(counts) :]
    directions = _directions(keys, centroids, [cluster, *filed], sharing)
    upper = _upper_levels(directions, filed)
    return Clusters(centroids[0], directions[::-1], upper[::-1], reduction), cluster


def file_cells(rows: KeyRows, clusters: Clusters, cluster: Tensor | None, bits: int) -> Levels:
    """File rows that were never changed.

    Args:
        rows: rows of keys.
        clusters: the clusters.
        cluster: ``(N,)`` narrowest cluster for each row; the nearest if None.
        bits: bits per feature of the codes of cells.
    """
    keys = rows.keys[: rows.used]
    cluster = clusters.nearest(keys) if cluster is None else cluster
    leaves = Lists(rows.features, bits, keys.device)
    number = torch.arange(len(keys), device=keys.device)
    place = leaves.build(cluster, number, keys, clusters.directions[-1])
    return Levels(clusters, leaves, cluster, place)


def _longest(keys: Tensor) -> Tensor:
    """The longest of keys ``(n, D)``, or none if there is none."""
    if not len(keys):
        return keys
    return keys[torch.linalg.vector_norm(keys, dim=1, dtype=torch.float64).argmax()].unsqueeze(0)


def _directions(keys: Tensor, centroids: list[Tensor], filed: list[Tensor], sharing: Sharing) -> list[Tensor]:
    """Vectors ``(C, D)`` of the clusters of each level, from the narrowest to the widest.

    Clusters of long keys must be entered first, since long keys have large inner products. So the length of a
    direction is the mean length of its keys, weighted by these lengths.
    """
    length = torch.linalg.vector_norm(keys, dim=1, dtype=torch.float64)  # (N,)
    directions: list[Tensor] = []
    for centroid, nearest in zip(centroids, filed, strict=True):
        both = torch.stack([length, length * length], dim=1)
        total = both.new_zeros(len(centroid), 2).index_add_(0, nearest, both)
        total = total if directions else sharing.total(total)  # all processes have the same clusters
        length = total[:, 1] / torch.where(total[:, 0] > 0, total[:, 0], 1.0)  # (C,)
        directions.append((centroid[:, : keys.shape[1]] * length.unsqueeze(1)).float())
    return directions


def _upper_levels(directions: list[Tensor], filed: list[Tensor]) -> list[Lists]:
    """The clusters of each level in lists, one for each cluster of the level above, which is ``filed``."""
    upper = []
    nothing = directions[0].new_zeros(1, 1)
    for level, direction in enumerate(directions):
        lists = Lists(direction.shape[1], UPPER_BITS, direction.device)
        top = level == len(directions) - 1
        entries = torch.arange(len(direction), device=direction.device)
        into = torch.zeros_like(entries) if top else filed[level]
        lists.build(into, entries, direction, nothing if top else directions[level + 1])
        upper.append(lists)
    return upper


def load_levels(
    rows: KeyRows, state: Mapping[str, Tensor], levels: int, bits: int, reduction: Reduction
) -> Levels:
    """Make the levels from a copy of a state.

    Args:
        rows: rows of keys.
        state: tensors by name.
        levels: number of levels that there should be.
        bits: bits per feature of the codes of cells.
        reduction: as the index was made with; its numbers are loaded.

    Raises:
        ShapeError: a tensor is missing or does not fit.
    """
    saved = Saved(state, rows.keys.device, "a ClusterIndex")
    count = saved.numbered("direction")
    if count not in (0, levels):
        raise ShapeError(
            f"the state has {count} levels of clusters, expected {levels}: "
            "make the index with the num_clusters that it was saved with"
        )
    reduction.load_state_dict(
        {
            name.removeprefix("reduction."): value
            for name, value in state.items()
            if isinstance(name, str) and name.startswith("reduction.")
        }
    )
    centroid = saved.vectors("centroid", (ANY, reduction.features(rows.features)))
    directions = [saved.vectors(f"direction{number}", (ANY, rows.features)) for number in range(levels)]
    upper, lists_before = [], 1
    for number, direction in enumerate(directions):
        lists = Lists.from_state(saved, f"level{number}.", rows.features, UPPER_BITS)
        lists.check_children(f"level{number}.", len(direction))
        if len(lists.level.length) != lists_before:
            refuse(f"level{number}.length", f"of {len(lists.level.length)} lists", f"{lists_before}")
        lists_before = len(direction)
        upper.append(lists)
    leaves = Lists.from_state(saved, "leaves.", rows.features, bits)
    for name, got in (("centroid", len(centroid)), ("leaves.length", len(leaves.level.length))):
        if got != lists_before or not got:
            refuse(name, f"of {got} clusters", f"{max(1, lists_before)}")
    if len(leaves) != len(rows):
        raise ShapeError(
            f"the state files {len(leaves)} cells, expected {len(rows)}: give the keys it was saved with"
        )
    cluster = saved.whole("cluster", (rows.used,), -1, len(centroid))
    place = saved.whole("place", (rows.used,), -1, len(leaves.level.child))
    leaves.check_filed("leaves.", cluster, place, ("cluster", "place"))
    check_filed(rows.live(), cluster >= 0, "cluster")
    return Levels(Clusters(centroid, directions, upper, reduction), leaves, cluster, place)
