"""A balanced binary tree that splits cells along their principal components."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hmn._native import filled
from hmn.index.checks import check_count
from hmn.index.clustering.reduction import Reduction, as_reduction
from hmn.index.protocol import Tunable
from hmn.index.storage.buckets import Buckets, search_buckets
from hmn.index.storage.key_rows import KeyRows
from hmn.index.storage.saved import ANY, Saved, filed_codes
from hmn.index.structures.base import Structure
from hmn.results import SearchResult

SHORTEST = 1e-300
"""Lower limit of the unit of lengths in a state, so that it is safe to divide by it."""
CHUNK_NUMBERS = 1 << 22
"""Numbers of reduced keys that are held at a time, to bound the memory they need."""


@dataclass
class _Tree:
    """The tree over the rows.

    Attributes:
        unit: root mean square length of the reduced keys.
        mean: ``(D',)`` mean of the reduced keys, in multiples of ``unit``.
        component: ``(depth, D')`` principal components.
        threshold: ``(2^depth - 1,)`` thresholds of the nodes, level by level.
        buckets: rows by leaf.
        reduction: transforms keys and queries before they are filed; fitted.
    """

    unit: float
    mean: Tensor
    component: Tensor
    threshold: Tensor
    buckets: Buckets
    reduction: Reduction

    def projections(self, rows: KeyRows, chosen: Tensor) -> Tensor:
        """Projections ``(n, depth)`` of the stored keys of rows ``(n,)`` on the components."""
        parts = [self.reduction.keys(rows.keys[part]) for part in torch.split(chosen, _part(rows))]
        return torch.cat([(part / self.unit - self.mean) @ self.component.T for part in parts])


class PCATreeIndex(Structure[_Tree], Tunable):
    """Scores the cells in the leaves of a binary tree that are nearest to the query.

    All nodes of level j split at the median of their cells' projections on the j-th principal component of
    the reduced keys, so that leaves hold equally many cells. A search visits the leaves of smallest margin:
    the sum, over the levels, of the squared distances to the planes that separate the query from the leaf.

    Cells added later descend to their leaf; the tree does not grow. ``stats`` gives the size of the largest
    leaf: build again when it is many times ``leaf_size``. There are at most D' levels, one per feature of the
    reduced keys. A query whose leaves hold fewer than k cells searches again, in twice as many leaves, and so
    on; its reads count all of these searches.

    Source: Bachrach et al., "Speeding up the Xbox recommender system using a Euclidean transformation for
    inner-product spaces", 2014. Differences: keys are divided by their root mean square length. Queries are
    scaled to length 1, which does not change their best cells. Leaves are ranked by margin.

    Args:
        leaf_size: upper limit of cells per leaf when the tree is built.
        num_leaves: leaves visited per query; may exceed their number. Can be changed between searches.
        reduction: transforms keys and queries before they are filed. None: ``OneColumnReduction``, as in the
            source; give ``NoReduction()`` for no reduction.
        storage: type in which keys are kept; None keeps their own.
        seed: not used, as nothing in the tree is random.

    Raises:
        ConfigError: a setting is out of its range.
    """

    kind = "pca-tree"

    def __init__(
        self,
        leaf_size: int = 64,
        num_leaves: int = 1,
        *,
        reduction: Reduction | None = None,
        storage: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(storage)
        self.leaf_size = check_count("leaf_size", leaf_size)
        self.num_leaves = check_count("num_leaves", num_leaves)
        self.seed = check_count("seed", seed, least=0)
        self._reduction = copy.copy(as_reduction(reduction, "one-column"))

    @property
    def effort(self) -> int:
        """See ``Tunable.effort``."""
        return self.num_leaves

    @effort.setter
    def effort(self, value: int) -> None:
        self.num_leaves = check_count("effort", value)

    @property
    def max_effort(self) -> int:
        """See ``Tunable.max_effort``: all leaves."""
        return len(self._current()[1].threshold) + 1

    @property
    def effort_name(self) -> str:
        """See ``Tunable.effort_name``."""
        return "num_leaves"

    def _make(self, rows: KeyRows) -> _Tree:
        reduction = copy.copy(self._reduction)
        reduction.fit(rows.keys[: rows.used])
        n, features = rows.used, reduction.features(rows.features)
        depth = 0
        while n > self.leaf_size << depth and depth < features:
            depth += 1
        unit, mean, component = _components(rows, reduction, depth)
        nothing = Buckets(mean.new_empty(0, 1, dtype=torch.int64))
        tree = _Tree(unit, mean, component, mean.new_empty(0), nothing, reduction)
        every = torch.arange(n, device=rows.keys.device)
        tree.threshold, leaf = grow(tree.projections(rows, every))
        tree.buckets = Buckets(leaf.unsqueeze(1))
        return tree

    def _search(self, rows: KeyRows, tree: _Tree, query: Tensor, k: int) -> SearchResult:
        """Search the leaves of smallest margin.

        Reads count the mean and the components, the thresholds of the nodes visited, and the keys scored. For
        each leaf they also count its number, where its list begins and ends, and the rows in the list.
        """
        return self._look(rows, tree, query, k, check_count("num_leaves", self.num_leaves))

    def _look(self, rows: KeyRows, tree: _Tree, query: Tensor, k: int, wanted: int) -> SearchResult:
        """Search a number of leaves; more where these hold fewer than k rows."""
        depth = len(tree.component)
        reduced = tree.reduction.queries(query)
        length = torch.linalg.vector_norm(reduced, dim=1, keepdim=True, dtype=torch.float64)
        reduced = (reduced.double() / length.clamp(min=torch.finfo(torch.float64).tiny)).float()
        leaf = nearest_leaves((reduced - tree.mean) @ tree.component.T, tree.threshold, wanted)
        visited = sum(min(wanted, 1 << level) for level in range(depth))
        more = 4.0 * (visited + (depth + 1) * len(tree.mean) * (depth > 0))
        result = search_buckets(query, rows, k, tree.buckets.find(leaf), lambda every: every, more)
        if wanted > len(tree.threshold):  # all leaves
            return result
        wider = partial(self._look, rows, tree, k=k, wanted=2 * wanted)
        return filled(result, query, self._places(rows, k), wider)

    def _is_settled(self, rows: KeyRows, tree: _Tree) -> bool:  # noqa: ARG002
        return tree.buckets.is_listed()

    def _settle(self, rows: KeyRows, tree: _Tree) -> None:  # noqa: ARG002
        tree.buckets.list_late()

    def _insert(self, rows: KeyRows, tree: _Tree, touched: Tensor) -> None:
        tree.buckets.file(touched, nearest_leaves(tree.projections(rows, touched), tree.threshold, 1))

    def _discard(self, rows: KeyRows, tree: _Tree, touched: Tensor) -> None:  # noqa: ARG002
        tree.buckets.drop(touched)

    def _write(self, rows: KeyRows, tree: _Tree, touched: Tensor) -> None:
        self._insert(rows, tree, touched)

    def _save(self, rows: KeyRows, tree: _Tree) -> dict[str, Tensor]:  # noqa: ARG002
        tree.buckets.settle()
        return {
            **tree.reduction.state_dict(),
            "tree.unit": torch.tensor(tree.unit, dtype=torch.float64, device="cpu"),
            "tree.mean": tree.mean,
            "tree.component": tree.component,
            "tree.threshold": tree.threshold,
            "tree.leaf": tree.buckets.code[:, 0],
        }

    def _load(self, rows: KeyRows, state: Mapping[str, Tensor]) -> _Tree:
        reduction = copy.copy(self._reduction)
        saved = Saved(state, rows.keys.device, "a PCATreeIndex")
        features = reduction.features(rows.features)
        component = saved.vectors("tree.component", (ANY, features))
        leaves = 1 << len(component)
        threshold = saved.floats("tree.threshold", (leaves - 1,))
        mean, unit = saved.floats("tree.mean", (features,)), saved.real("tree.unit", SHORTEST)
        leaf = saved.whole("tree.leaf", (rows.used,), -1, leaves)
        buckets = Buckets(filed_codes(rows.live(), leaf.unsqueeze(1), "tree.leaf"))
        reduction.load_state_dict(state)
        return _Tree(unit, mean, component, threshold, buckets, reduction)

    def _describe(self, rows: KeyRows, tree: _Tree) -> dict[str, int | float | str]:  # noqa: ARG002
        sizes = tree.buckets.sizes()
        return {
            "leaf_size": self.leaf_size,
            "num_leaves": self.num_leaves,
            "reduction": tree.reduction.name,
            "depth": len(tree.component),
            "leaves": len(tree.threshold) + 1,
            "largest_leaf": int(sizes.max()) if len(sizes) else 0,
        }


def _part(rows: KeyRows) -> int:
    """Number of keys that are reduced at a time."""
    return max(1, CHUNK_NUMBERS // max(1, rows.features))


def _components(rows: KeyRows, reduction: Reduction, depth: int) -> tuple[float, Tensor, Tensor]:
    """Unit, mean ``(D',)`` and the first principal components ``(depth, D')`` of the reduced keys."""
    features = reduction.features(rows.features)
    if not depth:
        mean = rows.keys.new_zeros(features, dtype=torch.float32)
        return 1.0, mean, mean.new_zeros(0, features)
    total = rows.keys.new_zeros(features, dtype=torch.float64)
    product = rows.keys.new_zeros(features, features, dtype=torch.float64)
    for part in torch.split(rows.keys[: rows.used], _part(rows)):
        reduced = reduction.keys(part).double()
        total += reduced.sum(dim=0)
        product += reduced.T @ reduced
    squared, mean = float(product.trace()) / rows.used or 1.0, total / rows.used
    covariance = (product / rows.used - torch.outer(mean, mean)) / squared
    axis = torch.linalg.eigh(covariance).eigenvectors.T.flip(0)[:depth]  # largest variance first
    # the sign of an axis is arbitrary: make its largest entry positive, so that all machines agree
    largest = axis.gather(1, axis.abs().argmax(dim=1, keepdim=True))
    component = (axis * torch.where(largest < 0, -1.0, 1.0)).float()
    unit = squared**0.5
    return unit, (mean / unit).float(), component


def grow(projection: Tensor) -> tuple[Tensor, Tensor]:
    """Split rows in halves, level by level; halves differ by at most one row, even among equal projections.

    Args:
        projection: ``(n, depth)`` projection of each row on each level's component; if n is 0, so is depth.

    Returns:
        Thresholds ``(2^depth - 1,)`` of the nodes, level by level, and the leaf ``(n,)`` of each row. A row
        lies to the left of a threshold if its projection is smaller, to the right if larger.
    """
    n, depth = projection.shape
    thresholds = [projection.new_empty(0)]
    node = torch.arange(n, device=projection.device).unsqueeze(0)  # (nodes, rows of a node), -1 at the end
    for level in range(depth):
        size = (node >= 0).sum(dim=1, keepdim=True)
        value = projection[:, level][node.clamp(min=0)].masked_fill(node < 0, torch.inf)
        value, order = value.sort(dim=1, stable=True)
        node, half = node.gather(1, order), size // 2
        low = value.gather(1, (half - 1).clamp(min=0))
        high = value.gather(1, half.clamp(max=value.shape[1] - 1))
        thresholds.append(((low + high) / 2).masked_fill(size == 0, 0.0).squeeze(1))
        width = (node.shape[1] + 1) // 2
        place = torch.arange(width, device=node.device)
        left = node[:, :width].masked_fill(place >= half, -1)
        right = node.gather(1, (half + place).clamp(max=node.shape[1] - 1)).masked_fill(
            half + place >= size, -1
        )
        node = torch.stack([left, right], dim=1).flatten(0, 1)
    leaf = torch.empty(n, dtype=torch.int64, device=projection.device)
    numbers = torch.arange(len(node), device=node.device).unsqueeze(1).expand_as(node)
    leaf[node[node >= 0]] = numbers[node >= 0]
    return torch.cat(thresholds), leaf


def nearest_leaves(projection: Tensor, threshold: Tensor, count: int) -> Tensor:
    """The ``count`` leaves of smallest margin, in order, for queries with projections ``(B, depth)``.

    All leaves are returned if there are fewer. The margin of a node is the sum of squared distances to those
    thresholds on its path where the query lies on the other side.

    It is enough to keep the ``count`` nodes of smallest margin on every level. The margin never falls on the
    way down, and the nearer child has the margin of its parent. So for a node that is dropped, ``count``
    other nodes have no larger margin, and each of them leads to a leaf of its own margin.
    """
    depth = projection.shape[1]
    node = torch.zeros(len(projection), 1, dtype=torch.int64, device=projection.device)
    margin = projection.new_zeros(len(projection), 1)
    for level in range(depth):
        first = (1 << level) - 1
        offset = projection[:, level : level + 1] - threshold[first + node]
        right = (offset >= 0).long()
        node = torch.cat([2 * node + right, 2 * node + 1 - right], dim=1)
        margin = torch.cat([margin, margin + offset.square()], dim=1)
        margin, kept = margin.sort(dim=1, stable=True)
        node, margin = node.gather(1, kept[:, :count]), margin[:, :count]
    return node
