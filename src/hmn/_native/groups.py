"""Search through groups of cells, whose panels say how much their cells can score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hmn._native.allowed.filter import Filter
from hmn._native.arguments import key_rows
from hmn._native.backend import kernels_for
from hmn._native.fallback import groups as pytorch
from hmn._native.finite import check_vectors
from hmn._native.level import Level
from hmn._native.search import filled
from hmn._native.watch import LEVELS, Steps
from hmn.errors import ShapeError
from hmn.results import SearchResult

NO_ROWS = torch.empty(0, dtype=torch.int64, device="cpu")
"""Prototype of results on the CPU: making tensors like it is faster than naming the type."""
ALL_RESULTS = 1 << 30
"""Value of ``Limits.wanted`` with which all results are."""


class Limits(NamedTuple):
    """How far a search looks.

    Attributes:
        reach: one number per round, ascending. A query of length |q| enters the panels whose ``A * (q . d) +
            reach * S * |q|`` is at least the lowest wanted estimate so far; see ``Level.bound``.
        slack: what short codes may lose, in ``step * |q|``.
        first: entries looked at first, for an estimate of the lowest wanted score.
        kept: rows scored in full, at least k.
        wanted: results, from the best on, that the search must find; more than k for all. The others are the
            best of those that it meets on the way.
        own: weight of that estimate in what panels must promise, from 0 to 1. The other weight is that of
            what groups promise by their directions: the mean of ``A * (q . d)``, and ``spread`` standard
            deviations. A panel that promises the estimate by its direction alone is entered anyway.
        spread: see ``own``.
    """

    reach: tuple[float, ...]
    slack: float
    first: int
    kept: int
    wanted: int = ALL_RESULTS
    own: float = 1.0
    spread: float = 0.0


@dataclass
class GroupsView:
    """The tensors of a structure of groups, for the kernels.

    Attributes:
        routing: one list, whose children are the groups: lists of ``cells``.
        cells: lists of cells with short codes; their children are rows of the keys.
        basis: what queries are routed by: ``(m,)`` int32 features, or ``(m, D)`` float32 vectors whose inner
            products with the query are taken; None for all features.
        direction: ``(lists, D)`` float32 what the codes of ``routing`` stand for.
        centroid: ``(n, w, 16)`` float32 of the short codes.
        order: ``(n * w,)`` int32 feature at each place of the short codes' parts, -1 for none; or None.
        rotation: ``(n * w, D)`` float32 vector whose inner product with the query is at each place; or None.
        front: ``(2, 16 * P)`` float32 by slot of ``routing``: ``Level.bound`` of each group's first panel;
            0 and -1 where there is none.
    """

    routing: Level
    cells: Level
    basis: Tensor | None
    direction: Tensor
    centroid: Tensor
    order: Tensor | None
    rotation: Tensor | None
    front: Tensor


class Searcher:
    """Searches groups as they are now. Make another one once their tensors or the keys are other ones.

    Args:
        view: the groups.
        keys: ``(rows, D)`` float32, float16 or bfloat16.
    """

    def __init__(self, view: GroupsView, keys: Tensor) -> None:
        self.view, self.keys, self.features = view, keys, keys.shape[1]
        self._kernels, self._groups = kernels_for(keys), None
        if self._kernels is None:
            return
        basis, chosen = view.basis, None
        if basis is not None and basis.dim() == 1:
            basis, chosen = None, basis
        self._groups = self._kernels.groups(
            *(view.routing.compiled(self._kernels), view.cells.compiled(self._kernels)),
            *(chosen, basis, view.order, view.rotation, view.centroid, view.front),
            *key_rows(keys, self.features),
            self.features,
        )

    def search(
        self,
        query: Tensor,
        limits: Limits,
        k: int,
        *,
        tiles: bool = False,
        allowed: Filter | None = None,
        places: int = 0,
        wider: Callable[[Tensor], SearchResult] | None = None,
    ) -> SearchResult:
        """Find the best rows through groups; see ``hmn.index.structures.hierarchy``.

        Args:
            query: ``(B, D)`` float32.
            limits: how far to look.
            k: results per query.
            tiles: whether all entries of the panels that are entered are scored by their codes of 4 bits, as
                is fast for many queries; otherwise only those that pass by their short codes, as reads least.
            allowed: rows that each query may find; None for all.
            places: results that a query should have: ``k``, or the number of all rows if that is less.
            wider: a search that looks further, for the queries that have fewer results; see ``filled``.

        Returns:
            The best ``k`` rows per query; ``cell`` holds rows.

        Raises:
            ShapeError: queries have another type or other features, or the groups are damaged.
            NonFiniteError: a query holds NaN or infinity, or is too long.
        """
        shape, seen = query.shape, LEVELS.notes
        if query.dtype is not torch.float32 or len(shape) != 2 or shape[1] != self.features:
            got = f"{tuple(shape)} of {query.dtype}"
            raise ShapeError(f"queries are {got}, expected (B, {self.features}) of float32")
        if self._kernels is None or seen is not None:
            result = self._search_in_pytorch(query, limits, k, allowed, seen)
            if self._kernels is None:
                return result if wider is None else filled(result, query, places, wider)
            # the kernels do not say where they looked, but they alone say what they read
        query, count = query.contiguous(), shape[0]
        score, row = query.new_empty(count, k), NO_ROWS.new_empty(count, k)
        reads, scored = query.new_empty(count), NO_ROWS.new_empty(count)
        unfilled = self._kernels.search_groups(
            *(query.data_ptr(), count, self._groups, [] if allowed is None else allowed.parts()),
            *limits,
            *(places, tiles, k),
            *(score.data_ptr(), row.data_ptr(), reads.data_ptr(), scored.data_ptr()),
            torch.get_num_threads(),
        )
        if unfilled < 0:
            check_vectors(query, "query")
        result = SearchResult(score, row, reads, scored)
        return filled(result, query, places, wider) if unfilled > 0 and wider is not None else result

    def _search_in_pytorch(
        self, query: Tensor, limits: Limits, k: int, allowed: Filter | None, seen: list[Steps] | None
    ) -> SearchResult:
        """The same in PyTorch; ``seen``, if given, takes down what is looked at."""
        check_vectors(query, "query", 1.5)  # as the kernels do: rounding makes vectors a little longer
        steps = None if seen is None else Steps([self.view.routing, self.view.cells])
        result = pytorch.search_groups(query, self.view, self.keys, limits, k, allowed, steps=steps)
        if seen is not None and steps is not None:
            seen.append(steps)
        return result
