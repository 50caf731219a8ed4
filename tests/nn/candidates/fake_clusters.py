"""An index of known clusters, for the strategies."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn.index.structures.exact import ExactIndex

CLUSTERS, CELLS, FEATURES, QUERIES = 8, 60, 4, 3


class FakeClusters(ExactIndex):
    """Exact search that also knows clusters: each cell lies in the one of nearest direction."""

    def __init__(self, keys: Tensor, centroids: Tensor) -> None:
        super().__init__(keys)
        self._centroids = centroids
        self.owner = (keys @ centroids.T).argmax(dim=1)
        self._lists = [(self.owner == cluster).nonzero().squeeze(1) for cluster in range(len(centroids))]

    def centroids(self) -> Tensor:
        return self._centroids

    def cells_in(self, clusters: Tensor) -> tuple[Tensor, Tensor]:
        lists = [self._lists[cluster] for cluster in clusters.tolist()]
        return torch.cat([*lists, torch.empty(0, dtype=torch.int64)]), torch.tensor(
            [len(cells) for cells in lists], dtype=torch.int64
        )


def made(seed: int = 0, cells: int = CELLS, clusters: int = CLUSTERS) -> tuple[FakeClusters, Tensor, Tensor]:
    """An index, its keys, and queries."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(cells, FEATURES, generator=generator)
    centroids = torch.nn.functional.normalize(torch.randn(clusters, FEATURES, generator=generator), dim=1)
    return FakeClusters(keys, centroids), keys, torch.randn(QUERIES, FEATURES, generator=generator)
