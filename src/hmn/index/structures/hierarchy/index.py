"""A hierarchy that learns where queries go, and follows a memory that changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from hmn._native import kernels, search_levels
from hmn.errors import ConfigError, ShapeError
from hmn.index.checks import check_count, check_counts, check_query
from hmn.index.precision import own_arithmetic
from hmn.index.protocol import Tunable
from hmn.index.storage.coded_lists import CODES
from hmn.index.storage.key_rows import KeyRows
from hmn.index.structures.base import Structure
from hmn.index.structures.hierarchy import upkeep
from hmn.index.structures.hierarchy.build import build, counts_for
from hmn.index.structures.hierarchy.routing import learn_vectors, learn_widths
from hmn.index.structures.hierarchy.tree import Tree
from hmn.results import SearchResult

MOST_ENTERED = 1 << 16
"""Groups of a tier that one query may enter."""
SAMPLED_QUERIES = 4096
"""Queries that widths are learned from; more change little."""
MAX_REACH = 1000
"""Largest reach that makes a difference, in hundredths of a tier's width."""


class HierarchicalIndex(Structure[Tree], Tunable):
    """Groups of groups of leaves of cells, searched tier by tier as far as each query needs.

    A query enters the groups of a tier whose scores lie near the best of that tier: a question that one
    group answers by far enters few, a doubtful one many. All scores but those of the ``rescore`` best cells
    come from codes, which begin where the code of the group above ends: a group that is entered costs nothing
    but the codes in it. Those of groups have 4 bits a feature, those of cells one, with the step by which
    inner products are right on average (RaBitQ: Gao & Long, SIGMOD 2024, without its rotation).

    ``learn`` teaches the first tier which group holds the best cell of a query (as Vecchiato et al., SIGIR
    2024), and every tier how far below the best that group may lie.

    Cells that are added, removed or given other keys are filed anew at a cost that does not depend on N.
    A group that grows beyond three times its intended size is split; what is in one that shrinks below
    half of it goes to the nearest others (as LIRE does: Xu et al., SOSP 2023); means follow what is in their
    groups, and a group whose mean has moved is entered into the group above that is nearest then, by cosines.

    Args:
        num_groups: groups of each tier, from the widest to the leaves: ``(1000, 10000)`` or ``"1000x10000"``.
            If not given, a leaf for every 12 cells, a tenth as many groups above more than 1,500 leaves, and
            tiers of a third above those while they have more groups than ``FEW_TOP``, ``CELLS_A_TOP`` and
            ``MOST_TOP`` allow: 833 of 100,000 cells, 2,777 of a million, 27,777 of ten million.
        reach: how far below the best of its tier the score of a group may lie that is entered, in hundredths
            of the tier's width; None enters all. May be set later.
        codes: ``"int1"`` for cells in codes of one bit a feature, ``"int4"`` or ``"int8"``.
        rescore: cells scored in full for k results; ``12 * k + 24`` with codes of one bit, ``2 * k + 16``
            with others if not given. May be set later.
        storage: type in which keys are kept: float32, float16 or bfloat16; as they come if not given.
        seed: of all randomness.
        on_progress: called with the steps of a build done and their number, for a progress bar.

    Raises:
        ConfigError: a setting is out of its range.
    """

    kind = "hierarchy"
    checks_queries = True

    def __init__(
        self,
        num_groups: int | Sequence[int] | str | None = None,
        reach: int | None = 100,
        *,
        codes: str = "int1",
        rescore: int | None = None,
        storage: torch.dtype | None = None,
        seed: int = 0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__(storage)
        self.num_groups = None if num_groups is None else check_counts("num_groups", num_groups)
        self.reach = reach
        if codes not in CODES:
            raise ConfigError(f"codes is {codes!r}, expected one of {', '.join(CODES)}")
        self.codes = codes
        if rescore is not None:
            check_count("rescore", rescore)
        self.rescore, self.seed, self.on_progress = rescore, seed, on_progress

    @property
    def reach(self) -> int | None:
        """How far below the best of its tier the score of a group may lie that is entered."""
        return self._reach

    @reach.setter
    def reach(self, value: int | None) -> None:
        self._reach = None if value is None else check_count("reach", value)

    @property
    def tree(self) -> Tree:
        """The tiers and the cells; do not change them.

        Raises:
            NotFittedError: the index was not built.
        """
        return self._current()[1]

    @property
    def effort(self) -> int:
        """See ``Tunable.effort``: ``reach``."""
        return self.max_effort if self.reach is None else self.reach

    @effort.setter
    def effort(self, value: int) -> None:
        self.reach = check_count("effort", value)

    @property
    def max_effort(self) -> int:
        """See ``Tunable.max_effort``."""
        self._current()  # refuses an index that was not built
        return MAX_REACH

    @property
    def effort_name(self) -> str:
        """See ``Tunable.effort_name``."""
        return "reach"

    @own_arithmetic
    def learn(self, query: Tensor, cells: Tensor, *, vectors: bool = True) -> None:
        """Learn from queries where the best cells of such queries are.

        The vectors of the first tier become those under which a softmax over its groups gives most weight to
        the group of a query's cell, and the width of each tier what 99 of 100 queries need.

        Args:
            query: ``(Q, D)`` such as will be asked; some thousands, or several for each group.
            cells: ``(Q,)`` the cell that each is to find: the right one or the best.
            vectors: without them only the widths are learned: while keys move; see ``forget``.

        Raises:
            CellError: a cell is not there.
            ShapeError, NonFiniteError: bad queries, or not as many as cells.
        """
        with self._lock.writing:
            rows, tree = self._current()
            query = check_query(query, rows.features, 1).to(rows.keys.device)
            if len(query) != len(cells):
                got = f"there are {len(query)} queries for {len(cells)} cells"
                raise ShapeError(f"{got}, expected one cell each")
            distinct, which = torch.unique(cells, return_inverse=True)
            leaf = tree.cells.filing.parent[rows.rows_of(distinct)][which]  # (Q,)
            generator = torch.Generator().manual_seed(self.seed)
            if vectors:
                learn_vectors(tree, query, leaf, generator)
            sample = torch.randperm(len(query), generator=generator)[:SAMPLED_QUERIES].to(query.device)
            learn_widths(tree, query[sample], leaf[sample])

    @own_arithmetic
    def forget(self) -> None:
        """Forget the vectors that were learned: before keys move, with which they would soon be wrong."""
        with self._lock.writing:
            _, tree = self._current()
            first = tree.tiers[0]
            first.taught = torch.zeros_like(first.mean)
            tree.write_codes()

    def _make(self, rows: KeyRows) -> Tree:
        counts = counts_for(len(rows)) if self.num_groups is None else self.num_groups
        bits = CODES[self.codes]
        return build(rows, counts, code_bits=bits, seed=self.seed, on_progress=self.on_progress)

    def _insert(self, rows: KeyRows, tree: Tree, touched: Tensor) -> None:  # noqa: ARG002
        upkeep.add(tree, touched)

    def _discard(self, rows: KeyRows, tree: Tree, touched: Tensor) -> None:  # noqa: ARG002
        upkeep.remove(tree, touched)

    def _write(self, rows: KeyRows, tree: Tree, cells: Tensor, keys: Tensor) -> None:
        upkeep.update(tree, rows.write(cells, keys))

    def _search(self, rows: KeyRows, tree: Tree, query: Tensor, k: int) -> SearchResult:
        usual = 12 * k + 24 if self.codes == "int1" else 2 * k + 16
        rescored = max(k, min(len(rows), usual if self.rescore is None else self.rescore))
        entered = [max(1, min(len(tier), MOST_ENTERED)) for tier in tree.tiers]
        share = math.inf if self.reach is None else self.reach / 100
        below_best = [math.inf if self.reach is None else share * tier.width for tier in tree.tiers]
        directions = [None] * len(tree.tiers)
        return search_levels(query, tree.levels(), directions, entered, rows.keys, rescored, k, below_best)

    def _save(self, rows: KeyRows, tree: Tree) -> dict[str, Tensor]:  # noqa: ARG002
        return tree.state_dict()

    def _load(self, rows: KeyRows, state: Mapping[str, Tensor]) -> Tree:
        return Tree.from_state(state, rows, CODES[self.codes], self.seed)

    def _describe(self, rows: KeyRows, tree: Tree) -> dict[str, int | float | str]:
        return {
            "num_groups": "x".join(str(len(tier)) for tier in tree.tiers),
            "codes": self.codes,
            "reach": "all" if self.reach is None else self.reach,
            "largest_leaf": int(tree.cells.filing.lists.level.length.max()),
            "codes_mib": round(tree.code_bytes() / 2**20, 2),
            "groups_mib": round(tree.group_bytes() / 2**20, 2),
            "kernels": kernels(rows.keys.device),
        }
