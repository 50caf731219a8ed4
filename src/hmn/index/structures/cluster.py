"""Clusters of cells by direction, in one level or several."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import lt

import torch
from torch import Tensor

from hmn._native import kernels, search_levels
from hmn._native.level import Begin
from hmn._native.watch import LEVELS
from hmn.errors import CellError, ConfigError
from hmn.index.among import Filtered
from hmn.index.checks import as_ids, check_callable, check_count, check_counts
from hmn.index.clustering.reduction import Reduction, as_reduction
from hmn.index.clustering.sharing import ALONE, Sharing
from hmn.index.precision import own_arithmetic
from hmn.index.protocol import Tunable
from hmn.index.storage.key_rows import KeyRows
from hmn.index.structures.base import Structure
from hmn.index.structures.cluster_among import ClusterSearch
from hmn.index.structures.cluster_levels import (
    BITS,
    Clusters,
    Levels,
    file_cells,
    load_levels,
    make_clusters,
)
from hmn.index.watch import SEARCHES, search_seen
from hmn.results import SearchResult

CELLS_PER_CLUSTER = 64
"""Cells per cluster if the number of clusters is not given, up to ``CLUSTERS_PER_ROOT``."""
CLUSTERS_PER_ROOT = 2
"""Upper limit of these clusters, in multiples of the square root of the number of cells."""


class ClusterIndex(Structure[Levels], Tunable):
    """Spherical k-means clusters (Auvolat et al. 2015; Chandar et al. 2016), with cells in short codes.

    A query enters the clusters whose directions have the largest inner product with it. It scores their cells
    by codes of 4 or 8 bits per feature, and the best of these in full. Directions are compared by their codes
    as well. With several levels, wide clusters lead to narrower ones.

    Clusters without cells are passed over. A query whose clusters hold fewer than k cells searches again, in
    twice as many of them, and so on; its reads count all of these searches.

    The clusters stay those of the build, even if it had no cells: cells added later join the nearest ones.
    ``stats`` gives the size of the largest cluster, which shows when to build again.

    Args:
        num_clusters: clusters of each level, from the widest to the narrowest: ``1000``, ``(64, 4096)`` or
            ``"64x4096"``. None: one level, with one cluster per 64 cells, but at most
            ``2 * sqrt(N)`` for N cells.
        num_probes: clusters entered at each level: ``16``, ``(8, 32)`` or ``"8x32"``. Can be changed between
            searches.
        codes: codes of cells: ``"int4"`` or ``"int8"``, for 4 or 8 bits per feature. None scores every cell
            of the clusters entered in full, as the paper does.
        rescore: cells scored in full per query. None: ``2 * k + 16`` for k results. Can be changed between
            searches.
        reduction: transforms keys before they are filed in clusters; None leaves them as they are.
        storage: type in which keys are kept: float32, float16 or bfloat16; None keeps their own.
        iterations: rounds of k-means.
        seed: seed of k-means.
        on_progress: called with the number of rounds of k-means done and the number of all rounds.

    Attributes:
        given: clusters that a build files its cells in, where several indexes share them; None to make its
            own. Copies have none.
        is_refiled: whether a build has filed cells in these clusters, which were made for others.

    Raises:
        ConfigError: a setting is out of its range.
    """

    kind = "cluster"
    checks_queries = True
    given: Clusters | None = None
    is_refiled = False

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
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__(storage)
        self.num_clusters = None if num_clusters is None else check_counts("num_clusters", num_clusters)
        self.num_probes = num_probes
        if codes not in BITS:
            raise ConfigError(f"codes is {codes!r}, expected one of {', '.join(map(str, BITS))}")
        check_count("iterations", iterations, least=0)
        levels = 1 if self.num_clusters is None else len(self.num_clusters)
        if len(self._probes) not in (1, levels):
            raise ConfigError(
                f"num_probes is {num_probes!r}, expected one number or one for each of {levels} levels"
            )
        if rescore is not None:
            check_count("rescore", rescore)
        self.codes, self.rescore = codes, rescore
        self.reduction = as_reduction(reduction, "none")
        self.iterations, self.seed = iterations, check_count("seed", seed, least=0)
        check_callable("on_progress", on_progress)
        self.on_progress = on_progress

    @property
    def num_probes(self) -> int | tuple[int, ...]:
        """Clusters entered at each level."""
        return self._probes[0] if len(self._probes) == 1 else self._probes

    @num_probes.setter
    def num_probes(self, value: int | Sequence[int] | str) -> None:
        self._probes = check_counts("num_probes", value)

    def centroids(self) -> Tensor:
        """See ``Clustered.centroids``: the directions of the narrowest clusters."""
        with self._reading() as (_, levels):
            return levels.clusters.directions[-1]

    def cells_in(self, clusters: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Clustered.cells_in``."""
        with self._reading() as (rows, levels):
            clusters = as_ids(clusters, "clusters").to(rows.keys.device)
            count = levels.clusters.counts[-1]
            outside = clusters[(clusters < 0) | (clusters >= count)]
            if len(outside):
                expected = f"expected clusters from 0 to {count - 1}"
                raise CellError(f"there is no cluster {int(outside[0])}, {expected}")
            row, length = levels.leaves.level.children_of(clusters)
            return rows.cells_at(row), length

    @property
    def levels(self) -> Levels:
        """The clusters and their cells, for inspection.

        Raises:
            NotFittedError: the index was not built.
        """
        with self._reading() as (_, levels):
            return levels

    @property
    def effort(self) -> int:
        """See ``Tunable.effort``: clusters entered at the last level.

        If ``num_probes`` has a number for each level, assigning this sets the others in proportion.
        """
        return self._probes[-1]

    @effort.setter
    def effort(self, value: int) -> None:
        check_count("effort", value)
        if len(self._probes) == 1:
            self._probes = (value,)
            return
        counts = self._current()[1].clusters.counts
        # to enter a share s of the last level, enter about s ** (level / levels) of each level before it
        share = value / counts[-1]
        levels = len(counts)
        wider = [
            min(count, max(1, round(count * share ** ((level + 1) / levels))))
            for level, count in enumerate(counts[:-1])
        ]
        self._probes = (*wider, value)

    @property
    def max_effort(self) -> int:
        """See ``Tunable.max_effort``: all clusters of the last level."""
        return self._current()[1].clusters.counts[-1]

    @property
    def effort_name(self) -> str:
        """See ``Tunable.effort_name``."""
        return "num_probes"

    def _make(self, rows: KeyRows) -> Levels:
        clusters, cluster = self.given, None
        self.is_refiled = clusters is not None and len(rows) > 0
        if clusters is None:
            clusters, cluster = self.cluster(rows.keys[: rows.used], torch.Generator().manual_seed(self.seed))
        return file_cells(rows, clusters, cluster, BITS[self.codes])

    def cluster(
        self, keys: Tensor, generator: torch.Generator, sharing: Sharing = ALONE
    ) -> tuple[Clusters, Tensor]:
        """The clusters that a build on these keys makes, and the cluster ``(N,)`` of each key.

        Args:
            keys: ``(N, D)``; with ``sharing``, those of this process.
            generator: source of all randomness; each process has one of its own.
            sharing: the processes that hold the keys together.
        """
        n = int(sharing.total(torch.tensor([len(keys)], dtype=torch.int64, device="cpu")))
        counts = (default_clusters(n),) if self.num_clusters is None else self.num_clusters
        return make_clusters(
            keys,
            [max(1, min(count, n)) for count in counts],
            copy.copy(self.reduction),
            generator=generator,
            iterations=self.iterations,
            on_progress=self.on_progress,
            sharing=sharing,
        )

    def _search(self, rows: KeyRows, levels: Levels, query: Tensor, k: int) -> SearchResult:
        return self._look(rows, levels, query, k, self.probes)

    @property
    def probes(self) -> tuple[int, ...]:
        """Clusters to enter at each level."""
        probes, wanted = self._probes, len(self._current()[1].clusters.counts)
        probes = probes * wanted if len(probes) == 1 else probes
        if len(probes) != wanted:
            got = self.num_probes
            raise ConfigError(f"num_probes is {got}, expected one number or one for each of {wanted} levels")
        return probes

    def _look(
        self, rows: KeyRows, levels: Levels, query: Tensor, k: int, probes: tuple[int, ...]
    ) -> SearchResult:
        """Search with a number of probes for each level; with more where these find fewer than k rows."""
        rescored = max(k, min(len(rows), self.rescored(k)))
        wider = None
        if any(map(lt, probes, levels.clusters.counts)):
            wider = partial(self._look, rows, levels, k=k, probes=tuple(2 * number for number in probes))
        return search_levels(
            query,
            [lists.level for lists in (*levels.clusters.upper, levels.leaves)],
            levels.clusters.directions,
            tuple(map(min, probes, levels.clusters.counts)),
            rows.keys,
            rescored,
            k,
            held=levels.held,
            places=self._places(rows, k),
            wider=wider,
        )

    def _filtered(self, rows: KeyRows, levels: Levels, k: int) -> Filtered:
        rescored = max(k, min(len(rows), self.rescored(k)))
        among = ClusterSearch(rows, levels, self.probes, k, rescored, self._places(rows, k))
        return Filtered(max(k, among.few), among.search)

    def rescored(self, k: int) -> int:
        """Cells to score in full for ``k`` results; without codes all are, whatever this says."""
        if self.codes is None:
            return k
        return 2 * k + 16 if self.rescore is None else self.rescore

    @own_arithmetic
    def search_in(self, query: Tensor, begin: Begin, k: int, rescored: int) -> SearchResult:
        """Find the ``k`` best cells of clusters that were chosen elsewhere.

        Args:
            query: ``(B, D)`` float32.
            begin: the narrowest clusters to search, and the products of their directions with the queries.
            k: results per query.
            rescored: cells to score in full per query; places beyond them stay unused.
        """
        with self._reading() as (rows, levels):
            leaves, most = levels.leaves.level, max(1, min(len(rows), rescored))
            query, begin = query.to(rows.keys.device), Begin(*(part.to(rows.keys.device) for part in begin))
            self._check_room(rows, query, k)
            search = partial(search_levels, query, [leaves], [], [], rows.keys, most, k, begin=begin)
            seen = SEARCHES.notes
            if seen is None:
                found = search()
            else:
                with LEVELS.watching() as steps:
                    found = search()
                whole = levels.way_to(begin.lists, steps[-1].scored[-1])
                seen.append(search_seen(found, rows.live(), [whole]))
            return found._replace(cell=rows.cells_at(found.cell))

    def _insert(self, rows: KeyRows, levels: Levels, touched: Tensor) -> None:
        levels.file(rows.keys, touched)

    def _discard(self, rows: KeyRows, levels: Levels, touched: Tensor) -> None:  # noqa: ARG002
        levels.unfile(touched)

    def _save(self, rows: KeyRows, levels: Levels) -> dict[str, Tensor]:
        return levels.state_dict(rows.used)

    def _load(self, rows: KeyRows, state: Mapping[str, Tensor]) -> Levels:
        levels = 1 if self.num_clusters is None else len(self.num_clusters)
        self.is_refiled = False
        return load_levels(rows, state, levels, BITS[self.codes], copy.copy(self.reduction))

    def _describe(self, rows: KeyRows, levels: Levels) -> dict[str, int | float | str]:
        length = levels.leaves.level.length
        parts = (*levels.clusters.upper, levels.leaves)
        codes = sum(part.level.codes.nbytes + 12 * len(part.level.child) for part in parts)
        return {
            "num_clusters": "x".join(map(str, levels.clusters.counts)),
            "num_probes": "x".join(map(str, self._probes)),
            "codes": self.codes or "none",
            "reduction": levels.clusters.reduction.name,
            "largest_cluster": int(length.max()),
            "empty_clusters": int((length == 0).sum()),
            "codes_mib": round(codes / 2**20, 2),
            "kernels": kernels(rows.keys.device),
        }


def default_clusters(cells: int) -> int:
    """Number of clusters if none is given: one per 64 cells, but at most twice the square root of the cells.

    A search scores all centroids, and a build compares them with every cell. So of many cells, more lie in a
    cluster. Up to 16,384 cells, one cluster per 64 is fewer.
    """
    return max(1, min(cells // CELLS_PER_CLUSTER, math.isqrt(CLUSTERS_PER_ROOT**2 * cells)))
