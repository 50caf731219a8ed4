"""A hierarchy that learns where questions go, and follows a memory that changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native import kernels, means, search_levels, write_entries
from hmn._native.fallback.lists import means_of
from hmn._native.level import LANES
from hmn.errors import ConfigError, ShapeError
from hmn.index.checks import check_count, check_counts, check_query
from hmn.index.clustering.kmeans import assign, kmeans, unit_rows
from hmn.index.clustering.split_kmeans import divide
from hmn.index.precision import structure
from hmn.index.storage.coded_lists import CODES, Lists
from hmn.index.storage.key_rows import Rows, built
from hmn.index.structures.hierarchy.routing import taught
from hmn.index.structures.hierarchy.tier import COLUMNS, Tier, check_places, saved
from hmn.results import SearchResult

GROUP_BITS = 4
LEAF_SIZE, FAN, UPPER_FAN = 12, 10, 3
"""Of a hierarchy that is laid out by itself: cells a leaf, leaves a group, groups a group above them."""
MOST = 3
"""Times as many make a group be split."""
SMALL = 2
"""A group with less than this part of the intended size is dropped, what is in it goes elsewhere."""
FEW_HELD = 2
"""Where so many would already be too few only empty groups are: of groups of three, half hold one or two."""
FEW_TOP, CELLS_A_TOP, MOST_TOP = 1500, 300, 9.0
"""Groups of the first tier: these are few enough; so are they with so many cells each, up to so many times
the square root of N. Fewer tell less of where a query's cells are: among a million cells of 2,000 clusters a
query reads 719 cells through 833 groups, 579 through 2,500; among ten million 48,000 through 833, 4,300
through 27,777."""
ROUNDS = 5
MOST_ENTERED = 1 << 16
DRIFT = 0.03
"""Share of its length by which a mean may be off."""
PART = 1 << 14
SAMPLED, NEARLY_ALL = 4096, 0.99
"""Queries by which widths are set (cells, before there are any); the share that must find their groups."""
WIDTH = 0.3
"""Of a tier's mean radius: its width until queries have said better."""
FILED_THROUGH, FILED_AMONG = 8, 8
"""The leaf of a cell is looked for in so many groups of each tier, and among so many leaves in full."""


@structure
class HierarchicalIndex:
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
        told: is called with the steps of a build done and their number, for a progress bar.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        num_groups: int | Sequence[int] | str | None = None,
        reach: int | None = 100,
        *,
        codes: str = "int1",
        rescore: int | None = None,
        storage: torch.dtype | None = None,
        seed: int = 0,
        told: Callable[[int, int], None] | None = None,
    ) -> None:
        self.num_groups = None if num_groups is None else check_counts("num_groups", num_groups)
        self.reach = reach
        if codes not in CODES:
            raise ConfigError(f"codes is {codes!r}, expected one of {', '.join(CODES)}")
        self.codes = codes
        if rescore is not None:
            check_count("rescore", rescore)
        self.rescore, self.storage, self.seed, self.told = rescore, storage, seed, told
        self._rows: Rows | None = None
        self._tiers: list[Tier] = []
        self._leaves = Lists(0, CODES[codes], torch.device("cpu"))
        self._leaf = self._place = torch.zeros(0, dtype=torch.int64)
        self._bounds: tuple[int, ...] = ()

    @property
    def reach(self) -> int | None:
        """How far below the best the score of a group that is entered may lie."""
        return self._reach

    @reach.setter
    def reach(self, value: int | None) -> None:
        self._reach = None if value is None else check_count("reach", value)

    def __len__(self) -> int:
        """Number of cells, N."""
        return 0 if self._rows is None else len(self._rows)

    def build(self, keys: Tensor, cells: Tensor | None = None) -> None:
        """See ``Index.build``."""
        rows = Rows(keys, cells, self.storage)
        n, device = len(rows), rows.keys.device
        generator = torch.Generator().manual_seed(self.seed)
        points = rows.keys[:n]
        counts = [max(1, min(count, n)) for count in self._counts_for(n)]
        self._bounds = _bounds(n, counts)
        group = torch.zeros(n, dtype=torch.int64, device=device)
        parents, members = [], []
        for number, count in enumerate(counts):
            self._say(number, len(counts) + 1)
            above = group
            if n and number == 0:
                centroid = kmeans(points, count, generator=generator, iterations=ROUNDS)
                group = assign(points, centroid)[0]
            elif n:
                held = torch.bincount(group)
                pieces = torch.minimum((held * (count / n)).round().long().clamp(min=1), held)
                group = divide(points, group, pieces, generator=generator, rounds=ROUNDS)
            group = torch.unique(group, return_inverse=True)[1]
            groups = int(group.max()) + 1 if n else 1
            parents.append(torch.zeros(groups, dtype=torch.int64, device=device).index_copy_(0, group, above))
            members.append(group)
        self._rows = rows
        self._leaf = F.pad(group, (0, len(rows.keys) - n), value=-1)
        self._tiers = []
        some = torch.arange(0, n, max(1, n // SAMPLED), device=device)
        for parent, group in zip(parents, members, strict=True):
            mean, weight = means_of(points, None, group, len(parent))
            off = torch.linalg.vector_norm(points[some] - mean[group[some]], dim=1)
            radius = off.mean() if n else 0.0
            self._tiers.append(
                Tier(
                    Lists(rows.features, GROUP_BITS, device),
                    mean=mean,
                    taught=None if self._tiers else torch.zeros_like(mean),
                    weight=weight,
                    coded=torch.zeros_like(mean),
                    inverse=torch.ones_like(weight),
                    parent=parent,
                    place=torch.zeros_like(parent),
                    width=WIDTH * float(radius),
                )
            )
        self._lay_out()
        for number in reversed(range(len(counts))):
            self._split_grown(number, self._tiers[number].live())
        self._say(len(counts) + 1, len(counts) + 1)

    def add(self, cells: Tensor, keys: Tensor) -> None:
        """See ``Index.add``."""
        rows = built(self._rows)
        added = rows.add(cells, keys)
        more = len(rows.keys) - len(self._leaf)
        self._leaf, self._place = (F.pad(one, (0, more), value=-1) for one in (self._leaf, self._place))
        leaf = self._nearest(rows.keys[added], len(self._tiers) - 1)
        self._file(added, leaf)
        self._follow(leaf)

    def remove(self, cells: Tensor) -> None:
        """See ``Index.remove``."""
        removed = built(self._rows).remove(cells)
        leaf = self._leaf[removed]
        self._unfile(removed)
        self._follow(leaf)

    def update(self, cells: Tensor, keys: Tensor) -> None:
        """See ``Index.update``."""
        rows = built(self._rows)
        touched = rows.write(cells, keys)
        leaf, before = self._nearest(rows.keys[touched], len(self._tiers) - 1), self._leaf[touched]
        moves = leaf != before
        self._encode(touched[~moves])
        # where all cells of a leaf are written one by one its mean is looked at once: for its first cell
        first = self._place[touched] == self._leaves.level.first_panel[before] * LANES
        stirred = before[moves | first]
        self._unfile(touched[moves])
        self._file(touched[moves], leaf[moves])
        self._follow(torch.cat([leaf[moves], stirred]))

    def search(self, query: Tensor, k: int) -> SearchResult:
        """See ``Index.search``."""
        rows = built(self._rows)
        query = check_query(query, rows.features, k, finite=False).to(rows.keys.device)
        usual = 12 * k + 24 if self.codes == "int1" else 2 * k + 16
        wanted = max(k, min(len(rows), usual if self.rescore is None else self.rescore))
        reach = math.inf if self.reach is None else self.reach / 100
        found = search_levels(
            query,
            [*(tier.lists.level for tier in self._tiers), self._leaves.level],
            [None] * len(self._tiers),
            [max(1, min(len(tier), MOST_ENTERED)) for tier in self._tiers],
            rows.keys,
            wanted,
            k,
            [math.inf if reach == math.inf else reach * tier.width for tier in self._tiers],
        )
        return found._replace(cell=rows.cells_at(found.cell))

    def state_dict(self, *, with_keys: bool = True) -> dict[str, Tensor]:
        """See ``Index.state_dict``."""
        rows = built(self._rows)
        state = rows.state_dict(with_keys=with_keys)
        state |= {"leaf": self._leaf[: rows.used], "place": self._place[: rows.used]}
        state["bounds"] = torch.tensor(self._bounds)
        for number, tier in enumerate(self._tiers):
            state |= tier.lists.state_dict(f"tier{number}.")
            state |= {f"tier{number}.{name}": getattr(tier, name) for name in saved(number)}
            state[f"tier{number}.width"] = torch.tensor(tier.width, dtype=torch.float64)
        return state | self._leaves.state_dict("leaves.")

    def load_state_dict(self, state: Mapping[str, Tensor], keys: Tensor | None = None) -> None:
        """See ``Index.load_state_dict``."""
        rows = Rows.from_state(state, keys, self.storage)
        depth = sum(name.startswith("tier") and name.endswith(".width") for name in state)
        wanted = ["leaf", "place", "bounds", "tier0.width"]
        wanted += [f"tier{number}.{name}" for number in range(depth) for name in saved(number)]
        missing = [name for name in wanted if name not in state]
        if missing:
            raise ShapeError(f"the state has no {missing[0]}: it is of another structure or not whole")
        if len(state["bounds"]) != depth:
            raise ShapeError(f"bounds are {len(state['bounds'])}, expected {depth}: the state is not whole")
        tiers: list[Tier] = []
        above = 1
        for number in range(depth):
            name = f"tier{number}."
            parts = {each: state[name + each].clone() for each in saved(number)}
            room = len(parts["parent"])
            lists = Lists.from_state(state, name, rows.features, GROUP_BITS, room)
            matrix, column = (room, rows.features), (room,)
            shapes = {each: column if each in COLUMNS else matrix for each in parts}
            if len(lists.level.length) < above or any(parts[x].shape != shapes[x] for x in parts):
                raise ShapeError(f"the parts of tier {number} do not fit each other: the state is not whole")
            tier = Tier(
                lists,
                mean=parts["mean"],
                taught=parts.get("taught"),
                weight=parts["weight"],
                coded=torch.zeros_like(parts["mean"]),
                inverse=torch.ones_like(parts["weight"]),
                parent=parts["parent"],
                place=parts["place"],
                width=float(state[name + "width"]),
            )
            check_places(tier.parent, tier.place, lists, f"tier{number}.place")
            tiers.append(tier)
            above = room
        leaves = Lists.from_state(state, "leaves.", rows.features, CODES[self.codes], rows.used)
        leaf, place = state["leaf"].clone(), state["place"].clone()
        if len(leaves) != len(rows) or len(leaf) != rows.used or len(place) != rows.used:
            raise ShapeError(
                f"the state files {len(leaves)} cells, expected {len(rows)}: give the keys it is of"
            )
        if len(leaves.level.length) < above:
            raise ShapeError("there are fewer leaves than their tier has: the state is not whole")
        check_places(leaf, place, leaves, "place")
        self._rows, self._tiers, self._leaves = rows, tiers, leaves
        self._leaf, self._place = leaf, place
        self._bounds = tuple(int(one) for one in state["bounds"])
        for number in range(depth):
            self._decode(number, tiers[number].live())

    def stats(self) -> dict[str, int | float | str]:
        """See ``Index.stats``."""
        rows = built(self._rows)
        length = self._leaves.level.length
        parts = (*(tier.lists for tier in self._tiers), self._leaves)
        codes = sum(one.level.codes.nbytes + 12 * len(one.level.child) for one in parts)
        vectors = sum(tier.mean.nbytes + tier.coded.nbytes for tier in self._tiers)
        return {
            "structure": "hierarchy",
            **rows.stats(),
            "num_groups": "x".join(str(len(tier)) for tier in self._tiers),
            "codes": self.codes,
            "reach": "all" if self.reach is None else self.reach,
            "largest_leaf": int(length.max()),
            "codes_mib": round(codes / 2**20, 2),
            "groups_mib": round(vectors / 2**20, 2),
            "kernels": kernels(rows.keys.device),
        }

    def knob(self) -> tuple[str, int]:
        """See ``Tunable.knob``: ``reach``."""
        built(self._rows)
        return "reach", 1000

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
        rows = built(self._rows)
        query = check_query(query, rows.features, 1).to(rows.keys.device)
        if len(query) != len(cells):
            raise ShapeError(f"there are {len(query)} queries for {len(cells)} cells, expected one cell each")
        distinct, which = torch.unique(cells, return_inverse=True)
        leaf = self._leaf[rows.rows_of(distinct)][which]
        generator = torch.Generator().manual_seed(self.seed)
        if vectors:
            self._learn_vectors(query, leaf, generator)
        sample = torch.randperm(len(query), generator=generator)[:SAMPLED].to(query.device)
        self._widen(query[sample], leaf[sample])

    def forget(self) -> None:
        """Forget the vectors that were learned: before keys move, with which they would soon be wrong."""
        built(self._rows)
        top = self._tiers[0]
        top.taught = torch.zeros_like(top.mean)
        self._lay_out()

    def _learn_vectors(self, query: Tensor, group: Tensor, generator: torch.Generator) -> None:
        """Learn the vectors of the first tier from queries and their leaves ``(Q,)``."""
        for tier in reversed(self._tiers[1:]):
            group = tier.parent[group]
        top = self._tiers[0]
        live = top.live()
        at = torch.arange(len(live), device=live.device)
        number = torch.full_like(top.parent, -1).index_copy_(0, live, at)
        learned = taught(top.vectors(live), query, number[group], generator) - top.mean[live]
        top.taught = torch.zeros_like(top.mean).index_copy_(0, live, learned)
        self._lay_out()

    def _widen(self, query: Tensor, group: Tensor) -> None:
        """Set each tier's width to what nearly all queries need to find their leaves ``(Q,)``."""
        norm = torch.linalg.vector_norm(query, dim=1)
        for tier in reversed(self._tiers):
            live = tier.live()
            best = query.new_full((len(query),), -math.inf)
            for part in torch.split(live, PART):
                best = torch.maximum(best, (query @ tier.coded[part].T).amax(dim=1))
            gap = (best - (query * tier.coded[group]).sum(dim=1)) / norm.clamp(min=1e-30)
            tier.width = max(float(gap.quantile(NEARLY_ALL)), 1e-6)
            group = tier.parent[group]

    def _counts_for(self, n: int) -> tuple[int, ...]:
        if self.num_groups is not None:
            return self.num_groups
        counts = [max(1, n // LEAF_SIZE)]
        enough = max(FEW_TOP, min(n // CELLS_A_TOP, int(MOST_TOP * n**0.5)))
        while counts[0] > enough:
            counts.insert(0, counts[0] // (FAN if len(counts) == 1 else UPPER_FAN))
        return tuple(counts)

    def _say(self, done: int, steps: int) -> None:
        if self.told is not None:
            self.told(done, steps)

    def _below(self, number: int) -> Lists:
        """The lists whose entries are in the groups of a tier."""
        return self._tiers[number + 1].lists if number + 1 < len(self._tiers) else self._leaves

    def _above(self, number: int) -> Tensor:
        """What the codes of the groups above a tier stand for."""
        if number:
            return self._tiers[number - 1].coded
        return self._tiers[0].mean.new_zeros(1, 1)

    def _lay_out(self) -> None:
        """Write all codes anew, tier by tier."""
        for number, tier in enumerate(self._tiers):
            live = tier.live()
            vectors = tier.mean if tier.taught is None else tier.mean + tier.taught
            tier.place[live] = tier.lists.build(tier.parent[live], live, vectors, self._above(number))
            self._decode(number, live)
        rows = built(self._rows)
        row = rows.live()
        self._leaves = Lists(rows.features, CODES[self.codes], rows.keys.device)
        self._place = torch.full_like(self._leaf, -1)
        self._place[row] = self._leaves.build(self._leaf[row], row, rows.keys, self._tiers[-1].coded)

    def _decode(self, number: int, groups: Tensor) -> None:
        if not len(groups):
            return
        tier = self._tiers[number]
        coded = tier.lists.vectors_at(tier.place[groups], tier.parent[groups], self._above(number))
        tier.coded[groups] = coded
        tier.inverse[groups] = 1.0 / torch.linalg.vector_norm(coded, dim=1).clamp(min=1e-30)

    def _nearest(self, keys: Tensor, number: int) -> Tensor:
        """The group ``(n,)`` of a tier in whose direction keys ``(n, D)`` lie."""
        tiers = self._tiers[: number + 1]
        last = tiers[-1]
        levels = [tier.lists.level for tier in tiers]
        through = [min(len(tier), FILED_THROUGH) for tier in tiers[:-1]]
        among = min(len(last), FILED_AMONG)
        found = search_levels(
            unit_rows(keys.float()),
            levels,
            [None] * len(through),
            through,
            last.mean,
            among,
            among,
            weights=[tier.inverse for tier in tiers],
        )
        group = found.cell.clamp(min=0)
        cosine = found.score / last.length[group]
        best = cosine.masked_fill(found.cell < 0, -math.inf).argmax(dim=1, keepdim=True)
        return group.gather(1, best).squeeze(1)

    def _file(self, rows: Tensor, leaf: Tensor) -> None:
        """Enter rows ``(n,)`` into leaves ``(n,)``."""
        if not len(rows):
            return
        self._leaves.add(leaf, rows, built(self._rows).keys[rows], self._tiers[-1].coded, self._place)
        self._leaf[rows] = leaf

    def _unfile(self, rows: Tensor) -> None:
        self._leaves.remove(self._leaf[rows], rows, self._place)
        self._leaf[rows] = -1

    def _encode(self, rows: Tensor) -> None:
        """Write the codes of rows anew where they are."""
        if not len(rows):
            return
        keys, coded = built(self._rows).keys, self._tiers[-1].coded
        write_entries(self._leaves.level, self._place[rows], keys, rows, self._leaf[rows], coded)

    def _follow(self, leaves: Tensor) -> None:
        """Keep the groups in order after these leaves have changed, tier by tier from below.

        What is empty goes, what is too large is split, means follow what is in their groups, and a group
        whose mean has moved is entered into the group above that is nearest to it then.
        """
        groups = leaves
        for number in reversed(range(len(self._tiers))):
            tier = self._tiers[number]
            groups = torch.unique(groups)
            groups, emptied = self._drop_small(number, groups[tier.parent[groups] >= 0])
            groups = self._split_grown(number, groups)
            mean, weight = self._group_means(number, groups)
            off = torch.linalg.vector_norm(mean - tier.mean[groups], dim=1)
            tier.weight[groups] = weight
            moved = (off > DRIFT * tier.length[groups]).nonzero().squeeze(1)
            far = groups[moved]
            tier.follow(far, mean[moved])
            changed = [emptied, tier.parent[groups]]
            if number:
                changed.append(self._move(number, far))
            elif tier.taught is not None:
                tier.taught[far] = 0.0
            self._recode(number, far)
            groups = torch.cat(changed)

    def _take(self, number: int, count: int) -> Tensor:
        """Numbers for so many new groups of a tier, with lists for what will be in them."""
        tier, below = self._tiers[number], self._below(number)
        taken = tier.take(count)
        more = len(tier.parent) - len(below.level.length)
        if more > 0:
            below.more(more)
        return taken

    def _move(self, number: int, groups: Tensor) -> Tensor:
        """Enter groups of a tier into those above that are nearest now; gives those that take one in."""
        tier = self._tiers[number]
        if not len(groups):
            return groups
        above, before = self._nearest(tier.mean[groups], number - 1), tier.parent[groups]
        moves = above != before
        groups, above = groups[moves], above[moves]
        self._leave(number - 1, groups)
        self._enter(number - 1, groups, above)
        return above

    def _group_means(self, number: int, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``(n, D)`` and cells ``(n,)`` of groups ``(n,)`` of a tier, from what is right below them."""
        if number + 1 == len(self._tiers):
            return means(self._leaves.level, groups, built(self._rows).keys, None)
        lower = self._tiers[number + 1]
        return means(lower.lists.level, groups, lower.mean, lower.weight)

    def _drop_small(self, number: int, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Drop those of these groups of a tier that hold little; what they held goes to the nearest others.

        Returns:
            The groups that are left, with those which took something in, and what the dropped ones were in.
        """
        tier, below = self._tiers[number], self._below(number)
        few = self._bounds[number] // (MOST * SMALL)
        small = below.level.length[groups] <= (few if few > FEW_HELD else 0)
        kept, groups = groups[~small], groups[small]
        if not len(groups):
            return kept, groups
        if len(groups) == len(tier):
            kept, groups = groups[:1], groups[1:]  # what is added later is filed under the one that is left
        member, _ = below.level.children_of(groups)
        self._leave(number, member)
        parent = tier.parent[groups]
        tier.lists.remove(parent, groups, tier.place)
        tier.drop(groups)
        if not len(member):
            return kept, parent
        last = number + 1 == len(self._tiers)
        vector = built(self._rows).keys[member] if last else self._tiers[number + 1].mean[member]
        into = self._nearest(vector, number)
        self._enter(number, member, into)
        if not last:
            self._recode(number + 1, member)
        return torch.unique(torch.cat([kept, into])), parent

    def _leave(self, number: int, members: Tensor) -> None:
        """Take groups of the tier below, or rows, out of the groups of a tier that they are in."""
        if number + 1 == len(self._tiers):
            self._unfile(members)
            return
        lower = self._tiers[number + 1]
        lower.lists.remove(lower.parent[members], members, lower.place)

    def _enter(self, number: int, members: Tensor, groups: Tensor) -> None:
        """Enter groups of the tier below, or rows, into groups of a tier; they were taken out of others."""
        if number + 1 == len(self._tiers):
            self._file(members, groups)
            return
        lower = self._tiers[number + 1]
        vectors, above = lower.vectors(members), self._tiers[number].coded
        lower.lists.add(groups, members, vectors, above, lower.place)
        lower.parent[members] = groups

    def _split_grown(self, number: int, groups: Tensor) -> Tensor:
        """Split those of these groups of a tier that are beyond their bound; gives all and the parts."""
        length, bound = self._below(number).level.length, self._bounds[number]
        parts = [groups]
        while len(large := groups[length[groups] > bound]):
            groups = self._split(number, large)
            length = self._below(number).level.length
            parts.append(groups)
        every: Tensor = torch.unique(torch.cat(parts))
        return every

    def _split(self, number: int, groups: Tensor) -> Tensor:
        """Divide groups of a tier, each into as many as have half the allowed size; gives the parts."""
        tier, below, last = self._tiers[number], self._below(number), number + 1 == len(self._tiers)
        member, length = below.level.children_of(groups)
        part = torch.repeat_interleave(torch.arange(len(groups), device=groups.device), length)
        vector = built(self._rows).keys[member].float() if last else self._tiers[number + 1].mean[member]
        pieces = (length + self._bounds[number] // 2) // max(1, self._bounds[number] // 2)
        generator = torch.Generator().manual_seed(self.seed)
        piece = divide(vector, part, pieces, generator=generator, rounds=ROUNDS)
        first = pieces.cumsum(0) - pieces
        # members that no direction tells apart are dealt out in turn
        most = torch.zeros_like(first).scatter_reduce_(0, part, piece, "amax", include_self=False)
        least = torch.zeros_like(first).scatter_reduce_(0, part, piece, "amin", include_self=False)
        within = torch.arange(len(member), device=piece.device) - (length.cumsum(0) - length)[part]
        piece = torch.where((most == least)[part], first[part] + within % pieces[part], piece)
        used, piece = torch.unique(piece, return_inverse=True)
        source = part.new_zeros(len(used)).index_copy_(0, piece, part)  # of each piece
        keeps = torch.ones(len(used), dtype=torch.bool, device=used.device)
        keeps[1:] = source[1:] != source[:-1]
        target = torch.empty_like(used)
        target[keeps] = groups
        target[~keeps] = self._take(number, int((~keeps).sum()))
        weight = None if last else self._tiers[number + 1].weight[member]
        mean, tier.weight[target] = means_of(vector, weight, piece, len(used))
        tier.follow(target, mean)
        fresh, origin = target[~keeps], groups[source[~keeps]]
        if tier.taught is not None:
            tier.taught[fresh] = tier.taught[origin]
        parent = tier.parent[origin]
        tier.lists.add(parent, fresh, tier.vectors(fresh), self._above(number), tier.place)
        tier.parent[fresh] = parent
        moves = ~keeps[piece]
        going, into = member[moves], target[piece][moves]
        self._leave(number, going)
        self._enter(number, going, into)
        self._recode(number, target)
        return target

    def _recode(self, number: int, groups: Tensor) -> None:
        """Write the codes of groups of a tier, and of what is right below them, anew where they are.

        The codes further below stay: they begin where groups ended whose vectors have not changed, but for
        the rounding of their codes.
        """
        if not len(groups):
            return
        self._encode_groups(number, groups)
        member, _ = self._below(number).level.children_of(groups)
        if number + 1 < len(self._tiers):
            self._encode_groups(number + 1, member)
        else:
            self._encode(member)

    def _encode_groups(self, number: int, groups: Tensor) -> None:
        """Write the codes of groups of a tier anew where they are."""
        tier = self._tiers[number]
        parent, above = tier.parent[groups], self._above(number)
        if tier.taught is None:
            vectors, which = tier.mean, groups
        else:
            vectors, which = tier.vectors(groups), torch.arange(len(groups), device=groups.device)
        write_entries(tier.lists.level, tier.place[groups], vectors, which, parent, above)
        self._decode(number, groups)


def _bounds(n: int, counts: Sequence[int]) -> tuple[int, ...]:
    """How many entries a group of each tier may have."""
    below = [*counts[1:], n]
    return tuple(int(MOST * max(2, -(-one // count))) for one, count in zip(below, counts, strict=True))
