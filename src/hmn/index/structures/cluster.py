"""Clustering: cells filed under the direction that they lie nearest to, in one level or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native import kernels, search_levels
from hmn._native.level import IN_FULL
from hmn.errors import ConfigError, ShapeError
from hmn.index.checks import check_count, check_counts, check_query
from hmn.index.clustering.kmeans import assign, kmeans
from hmn.index.clustering.reduction import NoReduction, Reduction
from hmn.index.precision import structure
from hmn.index.storage.coded_lists import CODES, Lists
from hmn.index.storage.key_rows import Rows, built
from hmn.results import SearchResult

BITS = {name: bits for name, bits in CODES.items() if bits > 1} | {None: IN_FULL}
CELLS_A_CLUSTER = 64
UPPER_BITS = 8


@dataclass
class _Hierarchy:
    """What was built over the rows.

    Attributes:
        centroid: ``(C, D')`` unit vectors in the reduced space, by which cells are filed.
        directions: ``(lists, D)`` vectors of the lists of each level but the first, by which queries look.
        upper: the levels that lead to the clusters.
        leaves: the clusters' cells, in codes if there are any.
        cluster: ``(capacity,)`` int64 cluster of each row.
        place: ``(capacity,)`` int64 place of each row in the leaves.
    """

    centroid: Tensor
    directions: list[Tensor]
    upper: list[Lists]
    leaves: Lists
    cluster: Tensor
    place: Tensor

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Lists of each level but the first: clusters, from the widest to the narrowest."""
        return tuple(map(len, self.directions))


@structure
class ClusterIndex:
    """Spherical k-means clusters (Auvolat et al. 2015; Chandar et al. 2016), with cells in short codes.

    A query looks at the clusters whose direction it agrees with most, scores their cells by codes of 4 or 8
    bits a feature, and the best of these in full. Directions are found by their codes as well, if there are
    several levels through fewer and wider clusters first.

    Cells added later go to the clusters that there are, whose number stays that of the build, even where it
    was of no cells at all: ``stats`` tells the size of the largest; build again when it is too large.

    Args:
        num_clusters: clusters of each level, from the widest to the narrowest: ``1000``, ``(64, 4096)`` or
            ``"64x4096"``; one level with a cluster for every 64 cells if not given.
        num_probes: clusters entered at each level: ``16``, ``(8, 32)`` or ``"8x32"``. May be set later.
        codes: ``"int4"``, ``"int8"``, or None to score these clusters' cells in full, as the paper does.
        rescore: cells scored in full for k results; ``2 * k + 16`` if not given. May be set later.
        reduction: decides where cells are filed; none if not given.
        storage: type in which keys are kept: float32, float16 or bfloat16; as they come if not given.
        iterations: of k-means.
        seed: of k-means.
        told: is called with the rounds of k-means done and their number, for a progress bar.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        num_clusters: int | Sequence[int] | str | None = None,
        num_probes: int | Sequence[int] | str = 16,
        *,
        codes: str | None = "int4",
        rescore: int | None = None,
        reduction: Reduction | None = None,
        storage: torch.dtype | None = None,
        iterations: int = 8,
        seed: int = 0,
        told: Callable[[int, int], None] | None = None,
    ) -> None:
        self.num_clusters = None if num_clusters is None else check_counts("num_clusters", num_clusters)
        self.num_probes = num_probes
        if codes not in BITS:
            raise ConfigError(f"codes is {codes!r}, expected one of {', '.join(map(str, BITS))}")
        if iterations < 0:
            raise ConfigError(f"iterations is {iterations}, expected 0 or more")
        levels = 1 if self.num_clusters is None else len(self.num_clusters)
        if len(self._probes) not in (1, levels):
            raise ConfigError(
                f"num_probes is {num_probes!r}, expected one number or one for each of {levels} levels"
            )
        if rescore is not None:
            check_count("rescore", rescore)
        self.codes, self.rescore, self.storage = codes, rescore, storage
        self.reduction: Reduction = NoReduction() if reduction is None else reduction
        self.iterations, self.seed, self.told = iterations, seed, told
        self._rows: Rows | None = None
        self._built: _Hierarchy | None = None

    @property
    def num_probes(self) -> int | tuple[int, ...]:
        """Clusters entered at each level."""
        return self._probes[0] if len(self._probes) == 1 else self._probes

    @num_probes.setter
    def num_probes(self, value: int | Sequence[int] | str) -> None:
        self._probes = check_counts("num_probes", value)

    def __len__(self) -> int:
        """Number of cells, N."""
        return 0 if self._rows is None else len(self._rows)

    def build(self, keys: Tensor, cells: Tensor | None = None) -> None:
        """See ``Index.build``."""
        rows = Rows(keys, cells, self.storage)
        generator = torch.Generator().manual_seed(self.seed)
        self.reduction.fit(rows.keys)
        n, features = len(rows), rows.features
        reduced = self.reduction.keys(rows.keys).float()
        counts = [max(1, min(count, n)) for count in self._counts_for(n)]
        centroids, filed = [], []
        points = reduced
        for count in reversed(counts):
            if n:
                found = kmeans(points, count, generator=generator, iterations=self.iterations, told=self.told)
            else:
                found = reduced.new_zeros(1, reduced.shape[1])
            centroids.append(found)
            filed.append(assign(points, found)[0])
            points = found
        # clusters of long keys must be looked at first: a direction is as long as its keys are, longer ones
        # counting more, since they are the ones that are asked for
        length = torch.linalg.vector_norm(rows.keys[: rows.used], dim=1, dtype=torch.float64)
        directions = []
        for centroid, nearest in zip(centroids, filed, strict=True):
            both = torch.stack([length, length * length], dim=1)
            total = both.new_zeros(len(centroid), 2).index_add_(0, nearest, both)
            length = total[:, 1] / torch.where(total[:, 0] > 0, total[:, 0], 1.0)
            directions.append((centroid[:, :features] * length.unsqueeze(1)).float())
        upper = []
        nothing = reduced.new_zeros(1, 1)
        for level in range(len(counts)):
            lists = Lists(features, UPPER_BITS, reduced.device)
            top = level == len(counts) - 1
            entries = torch.arange(len(directions[level]), device=reduced.device)
            into = torch.zeros_like(entries) if top else filed[level + 1]
            lists.build(into, entries, directions[level], nothing if top else directions[level + 1])
            upper.append(lists)
        leaves = Lists(features, BITS[self.codes], reduced.device)
        row = torch.arange(n, device=reduced.device)
        place = leaves.build(filed[0], row, rows.keys[: rows.used], directions[0])
        self._built = _Hierarchy(centroids[0], directions[::-1], upper[::-1], leaves, filed[0], place)
        self._rows = rows

    def add(self, cells: Tensor, keys: Tensor) -> None:
        """See ``Index.add``."""
        rows, made = built(self._rows), self._hierarchy
        self._file(made, rows.add(cells, keys))

    def remove(self, cells: Tensor) -> None:
        """See ``Index.remove``."""
        rows, made = built(self._rows), self._hierarchy
        self._unfile(made, rows.remove(cells))

    def update(self, cells: Tensor, keys: Tensor) -> None:
        """See ``Index.update``."""
        rows, made = built(self._rows), self._hierarchy
        touched = rows.write(cells, keys)
        self._unfile(made, touched)
        self._file(made, touched)

    def search(self, query: Tensor, k: int) -> SearchResult:
        """See ``Index.search``."""
        rows, made = built(self._rows), self._hierarchy
        query = check_query(query, rows.features, k, finite=False).to(rows.keys.device)
        probes = self._probes if len(self._probes) > 1 else self._probes * len(made.counts)
        if len(probes) != len(made.counts):
            got, wanted = self.num_probes, len(made.counts)
            raise ConfigError(f"num_probes is {got}, expected one number or one for each of {wanted} levels")
        probes = tuple(map(min, probes, made.counts))
        wanted = k
        if self.codes is not None:
            wanted = max(k, min(len(rows), 2 * k + 16 if self.rescore is None else self.rescore))
        levels = [lists.level for lists in (*made.upper, made.leaves)]
        found = search_levels(query, levels, made.directions, probes, rows.keys, wanted, k)
        return found._replace(cell=rows.cells_at(found.cell))

    def centroids(self) -> Tensor:
        """Directions ``(C, D)`` float32 of the narrowest clusters."""
        return self._hierarchy.directions[-1]

    def cells_in(self, clusters: Tensor) -> tuple[Tensor, Tensor]:
        """Ids of all cells of clusters ``(m,)``, cluster by cluster, and their numbers ``(m,)``."""
        rows, leaves = built(self._rows), self._hierarchy.leaves
        place, length = leaves.level.entries_of(clusters)
        return rows.cells_at(leaves.level.child[place].long()), length

    def state_dict(self, *, with_keys: bool = True) -> dict[str, Tensor]:
        """See ``Index.state_dict``."""
        rows, made = built(self._rows), self._hierarchy
        state = rows.state_dict(with_keys=with_keys)
        state |= {
            "centroid": made.centroid,
            "cluster": made.cluster[: rows.used],
            "place": made.place[: rows.used],
        }
        for number, (lists, direction) in enumerate(zip(made.upper, made.directions, strict=True)):
            state |= lists.state_dict(f"level{number}.")
            state[f"direction{number}"] = direction
        state |= {f"reduction.{name}": value for name, value in self.reduction.state_dict().items()}
        return state | made.leaves.state_dict("leaves.")

    def load_state_dict(self, state: Mapping[str, Tensor], keys: Tensor | None = None) -> None:
        """See ``Index.load_state_dict``."""
        rows = Rows.from_state(state, keys, self.storage)
        count = max(1, sum(name.startswith("direction") for name in state))
        names = ("centroid", "cluster", "place", *(f"direction{number}" for number in range(count)))
        missing = [name for name in names if name not in state]
        if missing:
            raise ShapeError(f"the state has no {missing[0]}: it is of another structure or not whole")
        directions = [state[f"direction{number}"].clone() for number in range(count)]
        upper = [
            Lists.from_state(state, f"level{number}.", rows.features, UPPER_BITS, len(directions[number]))
            for number in range(count)
        ]
        leaves = Lists.from_state(state, "leaves.", rows.features, BITS[self.codes], rows.used)
        lists = [len(one.level.length) for one in (*upper, leaves)]
        fitting = [(count, rows.features) for count in lists[1:]]
        if lists[0] != 1 or [tuple(one.shape) for one in directions] != fitting:
            raise ShapeError(f"directions do not fit the lists, expected {fitting}: the state is not whole")
        if any(one.dtype != torch.float32 for one in directions):
            raise ShapeError("directions are no float32: the state is damaged")
        if len(state["centroid"]) != lists[-1] or len(state["place"]) != len(state["cluster"]):
            raise ShapeError("centroid or place does not fit the clusters: the state is not whole")
        if len(state["cluster"]) != rows.used or len(leaves) != len(rows):
            raise ShapeError(
                f"the state files {len(leaves)} cells, expected {len(rows)}: give the keys it is of"
            )
        self.reduction.load_state_dict(
            {
                name.removeprefix("reduction."): value
                for name, value in state.items()
                if name.startswith("reduction.")
            }
        )
        self._built = _Hierarchy(
            state["centroid"].clone(),
            directions,
            upper,
            leaves,
            state["cluster"].clone(),
            state["place"].clone(),
        )
        self._rows = rows

    def stats(self) -> dict[str, int | float | str]:
        """See ``Index.stats``."""
        rows, made = built(self._rows), self._hierarchy
        length = made.leaves.level.length.float()
        parts = (*made.upper, made.leaves)
        codes = sum(one.level.codes.nbytes + 12 * len(one.level.child) for one in parts)
        return {
            "structure": "cluster",
            **rows.stats(),
            "num_clusters": "x".join(str(len(one)) for one in made.directions),
            "num_probes": "x".join(map(str, self._probes)),
            "codes": self.codes or "none",
            "reduction": self.reduction.name,
            "largest_cluster": int(length.max()),
            "empty_clusters": int((length == 0).sum()),
            "codes_mib": round(codes / 2**20, 2),
            "kernels": kernels(rows.keys.device),
        }

    def knob(self) -> tuple[str, int]:
        """See ``Tunable.knob``: ``num_probes``, or ``last_probes`` where it has a number for each level."""
        return "num_probes" if len(self._probes) == 1 else "last_probes", len(self._hierarchy.directions[-1])

    @property
    def last_probes(self) -> int:
        """Clusters entered at the last level; setting it sets the other levels in proportion."""
        return self._probes[-1]

    @last_probes.setter
    def last_probes(self, value: int) -> None:
        check_counts("last_probes", value)
        counts = [len(one) for one in self._hierarchy.directions]
        # entering a share s of the last level's clusters takes about s ** (1 / levels) of each level before
        share = value / counts[-1]
        levels = len(counts)
        wider = [
            min(count, max(1, round(count * share ** ((level + 1) / levels))))
            for level, count in enumerate(counts[:-1])
        ]
        self._probes = (*wider, value)

    @property
    def _hierarchy(self) -> _Hierarchy:
        built(self._rows)
        assert self._built is not None
        return self._built

    def _counts_for(self, n: int) -> tuple[int, ...]:
        if self.num_clusters is not None:
            return self.num_clusters
        return (max(1, n // CELLS_A_CLUSTER),)

    def _file(self, made: _Hierarchy, rows: Tensor) -> None:
        """Enter rows into the clusters whose centroid they lie nearest to."""
        keys = built(self._rows).keys[rows]
        cluster = assign(self.reduction.keys(keys).float(), made.centroid)[0]
        more = len(built(self._rows).keys) - len(made.place)
        if more > 0:
            made.place = F.pad(made.place, (0, more), value=-1)
            made.cluster = F.pad(made.cluster, (0, more), value=-1)
        made.leaves.add(cluster, rows, keys, made.directions[-1], made.place)
        made.cluster[rows] = cluster

    def _unfile(self, made: _Hierarchy, rows: Tensor) -> None:
        made.leaves.remove(made.cluster[rows], rows, made.place)
        made.cluster[rows] = -1
