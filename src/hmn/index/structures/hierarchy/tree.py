"""The data of a hierarchy: tiers of groups, and the cells that the last tier holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hmn._native.finite import LONGEST
from hmn._native.level import Level
from hmn.errors import ShapeError
from hmn.index.storage.coded_lists import Lists
from hmn.index.storage.key_rows import KeyRows
from hmn.index.storage.saved import ANY, Saved, check_filed, refuse
from hmn.index.structures.hierarchy.members import Cells, Filing
from hmn.index.structures.hierarchy.tier import GROUP_BITS, Tier

LEAST_BOUND = 2
"""Lower limit of members per group that a state may set; a group of one could be split for ever."""


MOST_COUNTED = 2**40
"""Upper limit of ranks and numbers of cells in a state."""


@dataclass
class Tree:
    """Tiers of groups above the cells.

    A tier is one level of groups. The first tier has the fewest groups; each holds groups of the second
    tier, and so on down to the last tier, whose groups are the leaves and hold cells. Functions here and in
    ``upkeep`` take the ``number`` of a tier, from 0.

    Attributes:
        tiers: all tiers; each is ``below`` of the one before it.
        cells: what the last tier holds.
        bounds: upper limit of members per group, for each tier.
        seed: seed of the k-means that splits groups.
        spare: cells scored in full per query at ``reach=100``, beyond the usual number.
        added: cells added since ``calibrate`` set ranks, widths and ``spare``; -1 if it did not set them.
        longest: length of the longest key that there was then.
    """

    tiers: list[Tier]
    cells: Cells
    bounds: tuple[int, ...]
    seed: int
    spare: int = 0
    added: int = -1
    longest: float = 0.0

    def anchor(self, number: int) -> Tensor:
        """Anchors of a tier's groups: ``coded`` of the tier above, ``(1, 1)`` zeros for the first tier."""
        return self.tiers[number - 1].coded if number else self.tiers[0].mean.new_zeros(1, 1)

    def levels(self) -> list[Level]:
        """Lists that a search goes through, from those of the first tier to those of the leaves."""
        return [level.lists.level for level in self._filings()]

    def write_codes(self) -> None:
        """Rebuild all lists and codes, tier by tier, since codes are relative to those of the tier above."""
        for number, tier in enumerate(self.tiers):
            tier.build(self.anchor(number))
        self.cells.build(self.tiers[-1].coded)

    def recode(self, number: int, groups: Tensor) -> None:
        """Write the codes of groups ``(n,)`` of a tier again, and those of what they hold."""
        if len(groups):
            self.tiers[number].encode(groups, self.anchor(number))
            self.tiers[number].encode_below(groups)

    def code_bytes(self) -> int:
        """Bytes of the codes of all groups and cells."""
        return sum(level.codes.nbytes + 12 * len(level.child) for level in self.levels())

    def group_bytes(self) -> int:
        """Bytes of the vectors of all groups."""
        return sum(tier.mean.nbytes + tier.coded.nbytes for tier in self.tiers)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors from which ``from_state`` restores the tree, given the rows of keys."""
        used, cells = self.cells.rows.used, self.cells.filing
        state = {"leaf": cells.parent[:used], "place": cells.place[:used]}
        state["bounds"] = torch.tensor(self.bounds, dtype=torch.int64, device="cpu")
        for number, tier in enumerate(self.tiers):
            prefix = f"tier{number}."
            state |= tier.filing.lists.state_dict(prefix)
            state[f"{prefix}mean"] = tier.mean
            if tier.taught is not None:
                state[f"{prefix}taught"] = tier.taught
            state[f"{prefix}weight"] = tier.weight
            state[f"{prefix}parent"] = tier.filing.parent
            state[f"{prefix}place"] = tier.filing.place
            state[f"{prefix}width"] = torch.tensor(tier.width, dtype=torch.float64, device="cpu")
        ranks = [tier.rank for tier in self.tiers]
        measured = [*ranks, self.spare, self.added, self.longest]
        if measured != [*(0.0 for _ in ranks), 0, -1, 0.0]:  # as in states of version 0.1
            state["measured"] = torch.tensor(measured, dtype=torch.float64, device="cpu")
        return state | cells.lists.state_dict("leaves.")

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], rows: KeyRows, code_bits: int, seed: int) -> Tree:
        """The tree as it was when ``state_dict`` was called.

        Args:
            state: tensors by name; they are copied.
            rows: rows of keys.
            code_bits: bits per feature of the codes of cells.
            seed: see ``Tree``.

        Raises:
            ShapeError: a tensor is missing or does not fit the others.
        """
        saved = Saved(state, rows.keys.device, "a HierarchicalIndex")
        depth = max(1, saved.numbered("tier", ".width"))
        bounds = saved.whole("bounds", (depth,), LEAST_BOUND, torch.iinfo(torch.int32).max)
        tensors, filings = [], []
        for number in range(depth):
            found = _tier_tensors(saved, number, rows.features)
            filings.append(_tier_filing(saved, number, found, rows.features))
            tensors.append(found)
        filings.append(_cells_filing(saved, rows, code_bits))
        for number in range(depth + 1):
            _check_groups(filings[number], filings[number - 1] if number else None, number, depth)
        cells = Cells(rows, filings[-1])
        tiers: list[Tier] = []
        for number in reversed(range(depth)):
            tier = Tier(
                filing=filings[number],
                below=tiers[0] if tiers else cells,
                mean=tensors[number]["mean"],
                weight=tensors[number]["weight"],
                taught=tensors[number].get("taught"),
                width=saved.real(f"tier{number}.width", 0.0),
            )
            tiers.insert(0, tier)
        tree = cls(tiers, cells, tuple(bounds.tolist()), seed)
        tree._take_measured(saved)
        for number, tier in enumerate(tiers):
            tier.decode(tier.live(), tree.anchor(number))
        return tree

    def _take_measured(self, saved: Saved) -> None:
        """Take from a state how far to look; states of version 0.1 have nothing of it but the widths."""
        if "measured" not in saved:
            return
        measured = saved.tensor("measured", torch.float64, (len(self.tiers) + 3,)).tolist()
        *ranks, spare, added, longest = measured
        counts = all(0 <= number <= MOST_COUNTED for number in (*ranks, spare, added + 1))
        if not counts or not 0 <= longest <= LONGEST:
            refuse("measured", f"{measured}", "ranks, numbers of cells and a length")
        for tier, rank in zip(self.tiers, ranks, strict=True):
            tier.rank = rank
        self.spare, self.added, self.longest = int(spare), int(added), longest

    def _filings(self) -> list[Filing]:
        return [*(tier.filing for tier in self.tiers), self.cells.filing]


def _tier_tensors(saved: Saved, number: int, features: int) -> dict[str, Tensor]:
    """Copies of a tier's tensors by name; each has one row per group, or room for one."""
    prefix, most = f"tier{number}.", torch.iinfo(torch.int32).max
    parent = saved.whole(f"{prefix}parent", (ANY,), -1, most)
    room = (len(parent),)
    tensors = {
        "parent": parent,
        "place": saved.whole(f"{prefix}place", room, -1, torch.iinfo(torch.int64).max),
        "weight": saved.floats(f"{prefix}weight", room, least=0.0),
        "mean": saved.vectors(f"{prefix}mean", (*room, features)),
    }
    if not number:
        tensors["taught"] = saved.vectors(f"{prefix}taught", (*room, features))
    return tensors


def _tier_filing(saved: Saved, number: int, tensors: Mapping[str, Tensor], features: int) -> Filing:
    """Where a tier's groups are filed."""
    prefix = f"tier{number}."
    lists = Lists.from_state(saved, prefix, features, GROUP_BITS)
    names = (f"{prefix}parent", f"{prefix}place")
    lists.check_filed(prefix, tensors["parent"], tensors["place"], names)
    if not len(lists):
        refuse(names[0], "of no group", "at least one group")
    return Filing(lists, tensors["parent"], tensors["place"])


def _cells_filing(saved: Saved, rows: KeyRows, code_bits: int) -> Filing:
    """Where the cells are filed."""
    lists = Lists.from_state(saved, "leaves.", rows.features, code_bits)
    if len(lists) != len(rows):
        raise ShapeError(
            f"the state files {len(lists)} cells, expected {len(rows)}: give the keys it was saved with"
        )
    leaf = saved.whole("leaf", (rows.used,), -1, torch.iinfo(torch.int32).max)
    place = saved.whole("place", (rows.used,), -1, torch.iinfo(torch.int64).max)
    lists.check_filed("leaves.", leaf, place, ("leaf", "place"))
    check_filed(rows.live(), leaf >= 0, "leaf")
    return Filing(lists, leaf, place)


def _check_groups(members: Filing, above: Filing | None, number: int, depth: int) -> None:
    """Refuse members in groups that the tier above does not have."""
    name = f"tier{number}.parent" if number < depth else "leaf"
    lists = len(members.lists.level.length)
    if lists < (len(above.parent) if above else 1):
        refuse(name, f"of {lists} lists", "a list for each group of the tier above")
    group = members.parent[members.live()]
    if above is None:
        wrong = group > 0
    else:
        wrong = group >= len(above.parent)
        wrong |= above.parent[group.clamp(max=len(above.parent) - 1)] < 0
    if bool(wrong.any()):
        refuse(name, f"group {int(group[wrong][0])}", "groups that the tier above has")
