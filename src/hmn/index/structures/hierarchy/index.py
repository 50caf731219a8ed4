"""A hierarchy that learns where queries go, and follows a memory that changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from hmn._native import kernels, search_levels
from hmn._native.finite import check_vectors
from hmn.errors import ConfigError, ShapeError
from hmn.index.checks import as_ids, check_callable, check_count, check_counts, check_query
from hmn.index.precision import own_arithmetic
from hmn.index.protocol import Tunable
from hmn.index.storage.coded_lists import CODES
from hmn.index.storage.key_rows import KeyRows
from hmn.index.structures.base import Structure
from hmn.index.structures.exact import search_all
from hmn.index.structures.hierarchy import upkeep
from hmn.index.structures.hierarchy.build import build, counts_for
from hmn.index.structures.hierarchy.calibration import calibrate, is_outdated, learn_widths
from hmn.index.structures.hierarchy.routing import learn_vectors
from hmn.index.structures.hierarchy.tier import anchor_rank
from hmn.index.structures.hierarchy.tree import Tree
from hmn.results import SearchResult

MOST_ENTERED = 1 << 16
"""Upper limit of groups per tier that a query enters."""
SAMPLED_QUERIES = 4096
"""Upper limit of queries that widths are learned from; more change little."""
MAX_REACH = 1000
"""Reach, in hundredths of a tier's width, from which on all cells are scored in full."""
MORE_SCORED = 2.5
"""Multiple of the usual reach from which on more cells are scored in full."""


class HierarchicalIndex(Structure[Tree], Tunable):
    """Groups of groups of cells, searched from the top, as widely as each query needs.

    A *tier* is one level of groups. Each group of the first tier holds groups of the second, and so on; the
    groups of the last tier are the *leaves* and hold cells. In each tier a query enters the groups whose
    scores lie near an *anchor*: the score of a rank that rises with the number of results, so that a few
    groups of very long keys do not keep out the others. A query that one group answers clearly enters few
    groups, an ambiguous one many.

    The build measures how far to look: ranks, widths and the number of cells to score in full are such that
    ``reach=100`` finds more than nine of ten best cells, for queries like the keys and for any others,
    however uneven the lengths of the keys. Adding cells measures again each time their number has doubled,
    or where a key is far longer than all before it.

    Scores come from short codes, except those of the ``rescore`` best cells. The code of a group or a cell is
    relative to what the code of the group above stands for, so that entering a group costs no more than
    reading the codes in it. Codes of groups have 4 bits per feature. Those of cells have 1, with a step that
    makes inner products right on average (RaBitQ: Gao & Long, SIGMOD 2024, without its rotation).

    ``learn`` teaches the first tier which group holds the best cell of a query (after Vecchiato et al., SIGIR
    2024), and measures again how far to look, by the queries that it is given.

    Cells that are added, removed or given other keys are filed at a cost that does not depend on N. A group
    that outgrows three times its intended size is split; one that shrinks below half of it is dropped, and
    its members go to the nearest others (after LIRE: Xu et al., SOSP 2023). Means follow the members, and a
    group whose mean has moved is filed again in the group above that is nearest by cosine.

    Args:
        num_groups: groups of each tier, from the first to the leaves: ``(1000, 10000)`` or ``"1000x10000"``.
            None: one leaf per 12 cells; one group per 10 leaves above them if there are more than 1,500
            leaves; then further tiers with a third as many groups, until the first tier has about one group
            per 300 cells: 833 for 100,000 cells, 2,777 for a million, 27,777 for ten million.
        reach: how far to look, in hundredths of what the build or ``learn`` measured: of the rank of the
            anchor, and of the distance below it at which a group is still entered. Beyond 250, more cells
            are scored in full, too. From 1000 on, or with None, all cells are: the search is exact. Can be
            changed between searches.
        codes: codes of cells: ``"int1"``, ``"int4"`` or ``"int8"``, for 1, 4 or 8 bits per feature.
        rescore: cells scored in full per query, unless the search is exact. None: ``12 * k + 24`` with codes
            of one bit, ``2 * k + 16`` with others, for k results, and more where these codes are too coarse
            to tell the best cells. Can be changed between searches.
        storage: type in which keys are kept: float32, float16 or bfloat16; None keeps their own.
        seed: seed of all randomness.
        on_progress: called with the number of build steps done and the number of all steps.

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
        self.rescore, self.seed = rescore, check_count("seed", seed, least=0)
        check_callable("on_progress", on_progress)
        self.on_progress = on_progress

    @property
    def reach(self) -> int | None:
        """How far below the best score of its tier a group that is entered may lie; see the class."""
        return self._reach

    @reach.setter
    def reach(self, value: int | None) -> None:
        self._reach = None if value is None else check_count("reach", value)

    @property
    def tree(self) -> Tree:
        """The tiers and the cells, for inspection.

        Raises:
            NotFittedError: the index was not built.
        """
        return self._current()[1]

    @property
    def effort(self) -> int:
        """See ``Tunable.effort``: ``reach``."""
        return self.max_effort if self.reach is None else min(self.reach, self.max_effort)

    @effort.setter
    def effort(self, value: int) -> None:
        check_count("effort", value)
        self.reach = None if value >= self.max_effort else value

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
        """Learn from sample queries where the best cells of queries like them are.

        Routing vectors of the first tier are fitted so that each query scores the group of its cell highest.
        Ranks and widths of the tiers are set so that 98 of 100 queries enter the groups of their cells at
        ``reach=100``, at the lowest cost.

        Args:
            query: ``(Q, D)`` queries like those that will be asked: some thousands, or several per group.
            cells: ``(Q,)`` cell that each query should find: the right one, or the best.
            vectors: False learns only the widths, as is right while keys still move; see ``forget``.

        Raises:
            CellError: a cell does not exist.
            ShapeError, NonFiniteError: queries do not fit the keys or the cells, or are not finite.
        """
        with self._changing() as (rows, tree):
            query, cells = check_query(query, rows.features, 1).to(rows.keys.device), as_ids(cells)
            if len(query) != len(cells):
                got = f"there are {len(query)} queries for {len(cells)} cells"
                raise ShapeError(f"{got}, expected one cell each")
            distinct, which = torch.unique(cells, return_inverse=True)
            row = rows.rows_of(distinct)[which]  # (Q,)
            generator = torch.Generator().manual_seed(self.seed)
            if vectors:
                learn_vectors(tree, query, tree.cells.filing.parent[row], generator)
            chosen = torch.randperm(len(query), generator=generator, device=generator.device)
            chosen = chosen[:SAMPLED_QUERIES].to(query.device)
            learn_widths(tree, query[chosen], row[chosen], partial(self._look, rows, tree, reach=100))

    @own_arithmetic
    def forget(self) -> None:
        """Forget the routing vectors, which are wrong once keys move; the widths are kept."""
        with self._changing() as (_, tree):
            first = tree.tiers[0]
            first.taught = torch.zeros_like(first.mean)
            tree.write_codes()

    def _make(self, rows: KeyRows) -> Tree:
        counts = counts_for(len(rows)) if self.num_groups is None else self.num_groups
        bits = CODES[self.codes]
        tree = build(rows, counts, code_bits=bits, seed=self.seed, on_progress=self.on_progress)
        self._calibrate(rows, tree)
        return tree

    def _calibrate(self, rows: KeyRows, tree: Tree) -> None:
        calibrate(tree, rows, partial(self._look, rows, tree, reach=100))

    def _insert(self, rows: KeyRows, tree: Tree, touched: Tensor) -> None:
        upkeep.add(tree, touched)
        if is_outdated(tree, rows, touched, added=True):
            self._calibrate(rows, tree)

    def _discard(self, rows: KeyRows, tree: Tree, touched: Tensor) -> None:  # noqa: ARG002
        upkeep.remove(tree, touched)

    def _write(self, rows: KeyRows, tree: Tree, touched: Tensor) -> None:
        upkeep.update(tree, touched)
        if is_outdated(tree, rows, touched, added=False):
            self._calibrate(rows, tree)

    def _search(self, rows: KeyRows, tree: Tree, query: Tensor, k: int) -> SearchResult:
        return self._look(rows, tree, query, k, self.reach)

    def _look(
        self, rows: KeyRows, tree: Tree, query: Tensor, k: int, reach: int | None, least: int = 1
    ) -> SearchResult:
        """Search within a reach, and in at least a number of groups per tier."""
        every = reach is None or reach >= MAX_REACH or (reach >= 100 and tree.spare >= len(rows))
        if reach is None or every or least > MOST_ENTERED:
            check_vectors(query, "query")
            return search_all(rows, query, k)
        tiers, times = tree.tiers, reach / 100
        wider = partial(self._look, rows, tree, k=k, reach=reach, least=k if least == 1 else MOST_ENTERED + 1)
        return search_levels(
            query,
            tree.levels(),
            [None] * len(tiers),
            [max(1, min(len(tier), MOST_ENTERED)) for tier in tiers],
            rows.keys,
            max(k, min(len(rows), self._rescored(tree, k, times))),
            k,
            [times * tier.width for tier in tiers],
            ranks=[max(least, anchor_rank(times * tier.rank, k)) for tier in tiers],
            places=self._places(rows, k),
            wider=wider,
        )

    def _rescored(self, tree: Tree, k: int, times: float) -> int:
        """Cells scored in full per query at a number of times the usual reach."""
        if self.rescore is not None:
            return self.rescore
        usual = 12 * k + 24 if self.codes == "int1" else 2 * k + 16  # one bit ranks less precisely
        return max(usual, int((usual + tree.spare) * max(1.0, times / MORE_SCORED) ** 2))

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
