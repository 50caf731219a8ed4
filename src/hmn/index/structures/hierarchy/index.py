"""One tier of groups of cells, each in the order in which the cells can score most."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from hmn._native import kernels, replaced
from hmn._native.allowed.filter import Filter
from hmn._native.fallback.groups import BOUND_BYTES
from hmn._native.finite import check_vectors
from hmn._native.groups import Limits
from hmn._native.level import LANES
from hmn.errors import ConfigError, ShapeError
from hmn.index.among import Filtered, score_allowed
from hmn.index.checks import as_ids, as_tensor, check_callable, check_count, check_counts, check_query
from hmn.index.precision import own_arithmetic
from hmn.index.protocol import Tunable
from hmn.index.storage.coded_lists import CODES
from hmn.index.storage.key_rows import KeyRows
from hmn.index.storage.short_codes import PARTS
from hmn.index.structures.base import Structure
from hmn.index.structures.exact import search_all
from hmn.index.structures.hierarchy import upkeep
from hmn.index.structures.hierarchy.build import build, least_bound_for, renew
from hmn.index.structures.hierarchy.calibration import Due, calibrate, due, learn_limits
from hmn.index.structures.hierarchy.groups import Groups, Measured
from hmn.index.structures.hierarchy.state import from_state, is_of_tiers, state_of
from hmn.results import SearchResult

ROUNDS = (0.4, 0.7, 1.0)
"""Reach of each round of a search, as shares of that of the last."""
ROUNDS_FOR_ONE = tuple(step / 20 for step in range(4, 21))
"""The same for one result: once it is found, few panels are left that could score more."""
LEAST_FIRST = 64
"""Lower limit of cells that are looked at first."""
FIRST_PER_RESULT = 3
"""Lower limit of cells that are looked at first, per result."""
LEAST_SPARE = 8
"""Cells scored in full per query beyond the wanted results, besides those that were measured to pay."""
MAX_REACH = 1000
"""Reach, in hundredths of what was measured, from which on all cells are scored in full."""
FEW = 2048
"""Allowed cells up to which all are scored in full."""
FEW_SHARE = 32
"""Divisor of the number of cells; no more than the quotient are few."""
SCREENED = 4
"""Cells whose codes a search among few cells reads, as a rule, in multiples of those looked at first."""
MOST_SCREENED = 12
"""The same where the codes of a cell take more bytes than its key."""
TILED = "int4"
"""Value of ``codes`` with which many queries skip the short codes."""
FEW_QUERIES = 8
"""Number of queries from which on they do so."""
SAMPLED_QUERIES = 4096
"""Upper limit of queries that limits are learned from; more change little."""


def pays(limits: Limits, rows: KeyRows, groups: Groups) -> bool:
    """Whether to look at groups first, rather than score all cells in full.

    That reads the codes of all groups, those of a few times as many cells as are looked at first, and the
    keys of the best of these.
    """
    key = rows.keys.shape[1] * rows.keys.element_size()
    screened = groups.cells.level.entry_bytes + BOUND_BYTES / LANES
    times = SCREENED if screened < key else MOST_SCREENED
    least = (
        len(groups) * groups.routing.level.entry_bytes + times * limits.first * screened + limits.kept * key
    )
    return limits.kept < len(rows) and least < len(rows) * key


class HierarchicalIndex(Structure[Groups], Tunable):
    """Groups of cells by direction, each searched from its longest keys on until the others are too short.

    A group has a direction: the mean of its keys, all scaled to length 1, in a code of 4 bits per feature. A
    key is its part along the direction of its group, and a rest. In a group, cells lie by falling length in
    panels of 16, and each panel has a bound: what the parts along the direction score at most, and how much
    the rests may add. A search keeps the lowest estimate that it wants so far, the k-th best unless
    ``wanted`` says otherwise, and goes on in a group until a panel's bound is below a mean of that estimate
    and of what groups usually promise. So queries read few cells even where keys are of very uneven length,
    or where all groups promise more than the best cells score.

    In the panels that it enters, short codes of the rests (a few times 4 bits) say which cells may be good
    enough; codes of 4 bits per feature rank these, and the best are scored in full.

    Directions live on the fewest features that tell the groups apart, on principal components of them, or on
    all features where neither suffices.

    The build measures how far to look, so that ``reach=100`` finds more than nine of ten best cells. Adding
    cells measures again each time their number has doubled, or where a key is far longer than all before it;
    so do changes, once as many cells were written as there are. After N, 2 N, 4 N writes, and so on, the
    groups are made again.

    Cells that are added, removed or given other keys are filed at a cost that hardly depends on N. A group
    that outgrows three times its intended size is split. Where there are four times as many groups as
    intended, one that shrinks below half of its size is dropped, and its cells go to the nearest others
    (after LIRE: Xu et al., SOSP 2023). Directions follow the cells, and cells are put in order again where
    that makes the bounds much tighter.

    Args:
        num_groups: number of groups. None: two per square root of the number of cells, but at most one per
            16 cells and at least one per 1,024; fewer where few keys are long. There is one tier of groups;
            of numbers for several, as in ``(1000, 10000)`` or ``"1000x10000"``, the first is taken.
        reach: how far to look, in hundredths of what the build or ``learn`` measured. From 1000 on, or with
            None, all cells are scored in full: the search is exact. Can be changed between searches.
        codes: ``"int1"`` for short codes, however many queries there are. With ``"int4"``, eight queries or
            more skip them: all cells in the panels that they enter are scored by codes of 4 bits, for several
            queries at once. That reads several times as much, and is faster where short codes say little.
            ``"int8"`` is accepted, so that saved settings load, and means ``"int1"``.
        rescore: cells scored in full per query, unless the search is exact. None: as measured. Can be changed
            between searches.
        wanted: number of results, from the best on, that a search is after. It stops where no others can be
            among them; results beyond are the best of those that it met on the way. None: all that are asked
            for. A question that one cell answers needs 1, and reads far less so. Can be changed between
            searches.
        parts: parts of the short codes: 8, 16, 24 or 32. None: 16 up to 64 features, 24 up to 160, then 32.
        storage: type in which keys are kept: float32, float16 or bfloat16; None keeps their own.
        seed: seed of all randomness.
        on_progress: called with the number of build steps done and the number of all steps.

    Raises:
        ConfigError: a setting is out of its range.
    """

    kind = "hierarchy"
    checks_queries = True
    adapts = True

    def __init__(
        self,
        num_groups: int | Sequence[int] | str | None = None,
        reach: int | None = 100,
        *,
        codes: str = "int1",
        rescore: int | None = None,
        wanted: int | None = None,
        parts: int | None = None,
        storage: torch.dtype | None = None,
        seed: int = 0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__(storage)
        self.num_groups = None if num_groups is None else check_counts("num_groups", num_groups)[0]
        self.reach = reach
        if codes not in CODES:
            raise ConfigError(f"codes is {codes!r}, expected one of {', '.join(CODES)}")
        self.codes = codes
        if rescore is not None:
            check_count("rescore", rescore)
        if wanted is not None:
            check_count("wanted", wanted)
        if parts is not None and parts not in PARTS:
            raise ConfigError(f"parts is {parts!r}, expected one of {', '.join(map(str, PARTS))}, or None")
        self.rescore, self.wanted, self.parts = rescore, wanted, parts
        self.seed = check_count("seed", seed, least=0)
        check_callable("on_progress", on_progress)
        self.on_progress = on_progress

    @property
    def reach(self) -> int | None:
        """How far to look; see the class."""
        return self._reach

    @reach.setter
    def reach(self, value: int | None) -> None:
        self._reach = None if value is None else check_count("reach", value)

    @property
    def groups(self) -> Groups:
        """The groups and their cells, for inspection.

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
    def learn(self, query: Tensor, cells: Tensor, *, vectors: bool = True) -> None:  # noqa: ARG002
        """Learn from sample queries how far to look for the best cells of queries like them.

        Args:
            query: ``(Q, D)`` queries like those that will be asked: some thousands. Fewer than 50 say
                too little, and change nothing.
            cells: ``(Q,)`` cell that each query should find, the right one or the best; or ``(Q, K)`` the K
                cells that a search for K results should find.
            vectors: no effect: directions are always those of the cells.

        Raises:
            CellError: a cell does not exist.
            ShapeError, NonFiniteError: queries do not fit the keys or the cells, or are not finite.
        """
        with self._changing() as (rows, groups):
            query = check_query(query, rows.features, 1).to(rows.keys.device)
            cells = as_tensor(cells, "cells")
            each = as_ids(cells.flatten() if cells.dim() == 2 else cells)
            cells = each.view(cells.shape if cells.dim() == 2 else (-1, 1))  # (Q, K)
            if len(query) != len(cells):
                got = f"there are {len(query)} queries for {len(cells)} cells"
                raise ShapeError(f"{got}, expected one cell each, or a row of K cells each")
            if not 1 <= cells.shape[1] <= max(1, len(rows)):
                got = f"there are {cells.shape[1]} cells per query"
                raise ShapeError(f"{got}, expected at least 1 and at most the {len(rows)} that the index has")
            distinct, which = torch.unique(cells, return_inverse=True)
            row = rows.rows_of(distinct)[which]  # (Q, K)
            generator = torch.Generator().manual_seed(self.seed)
            chosen = torch.randperm(len(query), generator=generator, device=generator.device)
            chosen = chosen[:SAMPLED_QUERIES].to(query.device)
            look = partial(self._look, rows, groups, reach=100, wanted=None)
            learn_limits(groups, rows, query[chosen], row[chosen], look)

    @own_arithmetic
    def forget(self) -> None:
        """Do nothing: there are no learned vectors that could be wrong; what limits were learned is kept."""
        self._current()  # refuses an index that was not built

    def _make(self, rows: KeyRows) -> Groups:
        groups = build(rows, self.num_groups, parts=self.parts, seed=self.seed, on_progress=self.on_progress)
        self._calibrate(rows, groups)
        return groups

    def _calibrate(self, rows: KeyRows, groups: Groups) -> None:
        calibrate(groups, rows, partial(self._look, rows, groups, reach=100, wanted=None))

    def _insert(self, rows: KeyRows, groups: Groups, touched: Tensor) -> None:
        if self.num_groups is None:
            groups.bound = max(groups.bound, least_bound_for(len(rows)))
        self._keep_up(rows, groups, touched, upkeep.add, added=True)

    def _discard(self, rows: KeyRows, groups: Groups, touched: Tensor) -> None:  # noqa: ARG002
        upkeep.remove(groups, touched)

    def _write(self, rows: KeyRows, groups: Groups, touched: Tensor) -> None:
        self._keep_up(rows, groups, touched, upkeep.update, added=False)

    def _keep_up(
        self,
        rows: KeyRows,
        groups: Groups,
        touched: Tensor,
        file: Callable[[Groups, Tensor], None],
        *,
        added: bool,
    ) -> None:
        """File rows ``(n,)`` that were written, and do what else is due."""
        what = due(groups, rows, touched, added=added)
        if what is Due.GROUPS:
            self._parts = self._made_again(rows, groups.measured)
            return
        file(groups, touched)
        if what is Due.LIMITS:
            renew(groups)
            self._calibrate(rows, groups)

    def _made_again(self, rows: KeyRows, measured: Measured) -> Groups:
        """Other groups of the same cells; what limits were learned is kept."""
        groups = build(rows, self.num_groups, parts=self.parts, seed=self.seed)
        groups.measured = replace(measured, last=None)
        if measured.added >= 0:
            self._calibrate(rows, groups)
        return groups

    def _search(self, rows: KeyRows, groups: Groups, query: Tensor, k: int) -> SearchResult:
        tiles = self.codes == TILED and len(query) >= FEW_QUERIES
        return self._look(rows, groups, query, k, self.reach, self.wanted, tiles=tiles)

    def _filtered(self, rows: KeyRows, groups: Groups, k: int) -> Filtered | None:
        limits = self._limits(rows, groups, k, self.reach, k if self.wanted is None else min(k, self.wanted))
        if limits is None:
            return None

        def search(query: Tensor, allowed: Filter, share: Tensor) -> SearchResult:  # noqa: ARG001
            tiles = self.codes == TILED and len(query) >= FEW_QUERIES
            found = groups.searcher().search(query, limits, k, tiles=tiles, allowed=allowed)
            places = self._places(rows, k)
            lines = (found.cell[:, places - 1] < 0).nonzero().squeeze(1)
            if not places or not len(lines):
                return found
            return replaced(found, lines, score_allowed(rows, query[lines], k, allowed.of(lines)))

        return Filtered(max(k, min(FEW, len(rows) // FEW_SHARE)), search)

    def _look(
        self,
        rows: KeyRows,
        groups: Groups,
        query: Tensor,
        k: int,
        reach: int | None,
        wanted: int | None,
        *,
        tiles: bool = False,
    ) -> SearchResult:
        """Search within a reach; one of None scores all cells."""
        limits = self._limits(rows, groups, k, reach, k if wanted is None else min(k, wanted))
        if limits is None:
            check_vectors(query, "query")
            return search_all(rows, query, k)
        return groups.searcher().search(
            query,
            limits,
            k,
            tiles=tiles,
            places=self._places(rows, k),
            wider=partial(search_all, rows, k=k),
        )

    def _limits(self, rows: KeyRows, groups: Groups, k: int, reach: int | None, wanted: int) -> Limits | None:
        """How far to look for k results; None to score all cells."""
        if reach is None or reach >= MAX_REACH:
            return None
        measured = groups.measured
        settings = k, wanted, reach, self.rescore, len(rows), measured.usual, measured.most, measured.promise
        if measured.last is not None and measured.last[0] == settings:
            return measured.last[1]
        point = measured.at(reach / 100)
        spare = LEAST_SPARE + int(point.spare * wanted)
        limits = Limits(
            reach=tuple(part * point.reach for part in (ROUNDS if wanted > 1 else ROUNDS_FOR_ONE)),
            slack=point.slack,
            first=max(FIRST_PER_RESULT * k, LEAST_FIRST),
            kept=max(k, wanted + spare if self.rescore is None else self.rescore),
            wanted=wanted,
            own=measured.promise.own,
            spread=measured.promise.spread,
        )
        chosen = limits if pays(limits, rows, groups) else None
        measured.last = settings, chosen
        return chosen

    def _save(self, rows: KeyRows, groups: Groups) -> dict[str, Tensor]:  # noqa: ARG002
        return state_of(groups)

    def _load(self, rows: KeyRows, state: Mapping[str, Tensor]) -> Groups:
        if is_of_tiers(state):
            warnings.warn(
                "the state is of a hierarchy of several tiers, as hmn made before version 0.2: groups of its "
                f"{len(rows):,} cells are made again; save the index again, and it loads at once",
                stacklevel=4,
            )
            return self._make(rows)
        return from_state(state, rows, self.seed)

    def _describe(self, rows: KeyRows, groups: Groups) -> dict[str, int | float | str]:
        return {
            "num_groups": len(groups),
            "reach": "all" if self.reach is None else self.reach,
            "parts": groups.short.parts,
            "largest_group": int(groups.cells.level.length.max()),
            "codes_mib": round(groups.code_bytes() / 2**20, 2),
            "groups_mib": round((groups.direction.nbytes + groups.unit.nbytes) / 2**20, 2),
            "kernels": kernels(rows.keys.device),
        }
