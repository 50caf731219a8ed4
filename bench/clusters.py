"""One cluster per 64 cells, with which some figures were measured; the default makes fewer for many cells."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn.index.clustering.sharing import ALONE, Sharing
from hmn.index.registry import STRUCTURES
from hmn.index.structures.cluster import ClusterIndex
from hmn.index.structures.cluster_levels import Clusters

CELLS_PER_CLUSTER = 64
"""Mean number of cells in a cluster."""
AT_EVERY_BUILD = "cluster (one per 64 cells)"
"""Text of ``ClustersOf64`` for ``make_index``."""


def clusters_of(cells: int) -> int:
    """Number of clusters for a number of cells."""
    return max(1, cells // CELLS_PER_CLUSTER)


def index_of(cells: int) -> str:
    """Text of an index with these clusters."""
    return f"cluster:num_clusters={clusters_of(cells)}"


class ClustersOf64(ClusterIndex):
    """Clusters for the cells of each build, for a memory that is built again as it grows."""

    def cluster(
        self, keys: Tensor, generator: torch.Generator, sharing: Sharing = ALONE
    ) -> tuple[Clusters, Tensor]:
        """See ``ClusterIndex.cluster``."""
        self.num_clusters = (clusters_of(len(keys)),)
        return super().cluster(keys, generator, sharing)


STRUCTURES[AT_EVERY_BUILD] = (__name__, ClustersOf64.__name__)
