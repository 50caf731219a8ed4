"""The levels of a ``ClusterIndex``: wide clusters lead to narrow ones, and these to their cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native.level import IN_FULL
from hmn.errors import ShapeError
from hmn.index.clustering.kmeans import Nearest, assign, kmeans
from hmn.index.clustering.reduction import Reduction
from hmn.index.storage.coded_lists import CODES, Lists
from hmn.index.storage.key_rows import KeyRows
from hmn.index.storage.saved import ANY, Saved, check_filed, refuse

BITS = {name: bits for name, bits in CODES.items() if bits > 1} | {None: IN_FULL}
"""Bits per feature of the codes of cells, by their name; None keeps no codes."""
UPPER_BITS = 8
"""Bits per feature of the codes of clusters."""


@dataclass
class Levels:
    """Clusters of each level, and the cells of the narrowest ones.

    Attributes:
        centroid: ``(C, D')`` unit vectors in the reduced space, by which cells are filed.
        directions: ``(lists, D)`` vectors of the lists of each level but the first, by which queries search.
        upper: the levels that lead to the clusters.
        leaves: the cells of the narrowest clusters, with their codes if there are any.
        cluster: ``(capacity,)`` int64 cluster of each row.
        place: ``(capacity,)`` int64 place of each row in the leaves.
        reduction: transforms keys before they are filed; fitted.
        wide: for each level but the last, the number of cells ``(clusters,)`` int32 in its clusters.
    """

    centroid: Tensor
    directions: list[Tensor]
    upper: list[Lists]
    leaves: Lists
    cluster: Tensor
    place: Tensor
    reduction: Reduction
    wide: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        """Count the cells of the wide clusters."""
        self._count()

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Clusters of each level, from the widest to the narrowest."""
        return tuple(map(len, self.directions))

    @cached_property
    def _above(self) -> list[Tensor]:
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

    @property
    def held(self) -> list[Tensor]:
        """Number of cells ``(clusters,)`` int32 in the clusters of each level."""
        return [*self.wide, self.leaves.level.length]

    def file(self, keys: Tensor, rows: Tensor) -> None:
        """File rows ``(n,)`` of the keys in the clusters with the nearest centroids."""
        vectors = keys[rows]  # (n, D)
        cluster = self._nearest(self.reduction.keys(vectors).float())[0]
        more = len(keys) - len(self.place)
        if more > 0:
            self.place = F.pad(self.place, (0, more), value=-1)
            self.cluster = F.pad(self.cluster, (0, more), value=-1)
        self.leaves.add(cluster, rows, vectors, self.directions[-1], self.place)
        self.cluster[rows] = cluster
        self._count()

    def unfile(self, rows: Tensor) -> None:
        """Take rows ``(n,)`` out of their clusters."""
        self.leaves.remove(self.cluster[rows], rows, self.place)
        self.cluster[rows] = -1
        self._count()

    def _count(self) -> None:
        """Count the cells of the wide clusters again."""
        self.wide, held = [], self.leaves.level.length
        for above, count in zip(reversed(self._above), reversed(self.counts[:-1]), strict=True):
            held = held.new_zeros(count).index_add_(0, above, held)
            self.wide.insert(0, held)

    def state_dict(self, used: int) -> dict[str, Tensor]:
        """The tensors by name, for the rows in use."""
        state = {"centroid": self.centroid, "cluster": self.cluster[:used], "place": self.place[:used]}
        for number, (lists, direction) in enumerate(zip(self.upper, self.directions, strict=True)):
            state |= lists.state_dict(f"level{number}.")
            state[f"direction{number}"] = direction
        state |= {f"reduction.{name}": value for name, value in self.reduction.state_dict().items()}
        return state | self.leaves.state_dict("leaves.")


def build_levels(
    rows: KeyRows,
    counts: Sequence[int],
    bits: int,
    reduction: Reduction,
    *,
    generator: torch.Generator,
    iterations: int,
    on_progress: Callable[[int, int], None] | None,
) -> Levels:
    """Cluster the keys, then the clusters, from the narrowest level to the widest.

    Args:
        rows: rows that were never changed.
        counts: clusters of each level, from the widest to the narrowest.
        bits: bits per feature of the codes of cells.
        reduction: transforms keys before they are filed; fitted here.
        generator: source of all randomness.
        iterations: rounds of k-means.
        on_progress: called with the rounds done and the number of all rounds, for each level.
    """
    keys = rows.keys[: rows.used]
    reduction.fit(keys)
    points = reduction.keys(keys).float()  # (N, D')
    centroids, filed = [], []
    for count in reversed(counts):
        if len(points):
            centroid = kmeans(
                points, count, generator=generator, iterations=iterations, on_progress=on_progress
            )
        else:
            centroid = points.new_zeros(1, points.shape[1])
        centroids.append(centroid)
        filed.append(assign(points, centroid)[0])
        points = centroid
    directions = _directions(keys, centroids, filed)
    leaves = Lists(rows.features, bits, keys.device)
    place = leaves.build(filed[0], torch.arange(len(keys), device=keys.device), keys, directions[0])
    upper = _upper_levels(directions, filed)
    return Levels(centroids[0], directions[::-1], upper[::-1], leaves, filed[0], place, reduction)


def _directions(keys: Tensor, centroids: list[Tensor], filed: list[Tensor]) -> list[Tensor]:
    """Vectors ``(C, D)`` of the clusters of each level, from the narrowest to the widest.

    Clusters of long keys must be entered first, since long keys have large inner products. So the length of a
    direction is the mean length of its keys, weighted by these lengths.
    """
    length = torch.linalg.vector_norm(keys, dim=1, dtype=torch.float64)  # (N,)
    directions = []
    for centroid, nearest in zip(centroids, filed, strict=True):
        both = torch.stack([length, length * length], dim=1)
        total = both.new_zeros(len(centroid), 2).index_add_(0, nearest, both)
        length = total[:, 1] / torch.where(total[:, 0] > 0, total[:, 0], 1.0)  # (C,)
        directions.append((centroid[:, : keys.shape[1]] * length.unsqueeze(1)).float())
    return directions


def _upper_levels(directions: list[Tensor], filed: list[Tensor]) -> list[Lists]:
    """The clusters of each level in lists, one for each cluster of the level above."""
    upper = []
    nothing = directions[0].new_zeros(1, 1)
    for level, direction in enumerate(directions):
        lists = Lists(direction.shape[1], UPPER_BITS, direction.device)
        top = level == len(directions) - 1
        entries = torch.arange(len(direction), device=direction.device)
        into = torch.zeros_like(entries) if top else filed[level + 1]
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
    return Levels(centroid, directions, upper, leaves, cluster, place, reduction)
