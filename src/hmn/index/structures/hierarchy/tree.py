"""The data of a hierarchy: tiers of groups, and the cells that the last tier holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hmn._native.level import Level
from hmn.errors import ShapeError
from hmn.index.storage.coded_lists import Lists
from hmn.index.storage.key_rows import KeyRows
from hmn.index.structures.hierarchy.members import Cells, Filing
from hmn.index.structures.hierarchy.tier import GROUP_BITS, Tier

MATRICES = ("mean", "taught")
"""Names in the state of a tier's ``(room, D)`` tensors; only the first tier has ``taught``."""
COLUMNS = ("weight", "parent", "place")
"""Names in the state of a tier's ``(room,)`` tensors."""


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
    """

    tiers: list[Tier]
    cells: Cells
    bounds: tuple[int, ...]
    seed: int

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
        depth = sum(name.startswith("tier") and name.endswith(".width") for name in state)
        wanted = ["leaf", "place", "bounds", "tier0.width"]
        wanted += [f"tier{number}.{name}" for number in range(depth) for name in _saved(number)]
        missing = [name for name in wanted if name not in state]
        if missing:
            raise ShapeError(
                f"the state has no {missing[0]}, expected the state of a HierarchicalIndex: "
                "it is of another structure, or incomplete"
            )
        if len(state["bounds"]) != depth:
            raise ShapeError(f"bounds are {len(state['bounds'])}, expected {depth}: the state is not whole")
        tensors, filings = [], []
        groups_above = 1
        for number in range(depth):
            found = _tier_tensors(state, number, rows.features)
            filings.append(_tier_filing(state, number, found, rows.features, groups_above))
            tensors.append(found)
            groups_above = len(found["parent"])
        cells = Cells(rows, _cells_filing(state, rows, code_bits, groups_above))
        tiers: list[Tier] = []
        for number in reversed(range(depth)):
            tier = Tier(
                filing=filings[number],
                below=tiers[0] if tiers else cells,
                mean=tensors[number]["mean"],
                weight=tensors[number]["weight"],
                taught=tensors[number].get("taught"),
                width=float(state[f"tier{number}.width"]),
            )
            tiers.insert(0, tier)
        tree = cls(tiers, cells, tuple(int(bound) for bound in state["bounds"]), seed)
        for number, tier in enumerate(tiers):
            tier.decode(tier.live(), tree.anchor(number))
        return tree

    def _filings(self) -> list[Filing]:
        return [*(tier.filing for tier in self.tiers), self.cells.filing]


def _saved(number: int) -> tuple[str, ...]:
    """Names of the tensors that the state holds of a tier, besides those of its lists."""
    return (*MATRICES[: 1 if number else 2], *COLUMNS)


def _tier_tensors(state: Mapping[str, Tensor], number: int, features: int) -> dict[str, Tensor]:
    """Copies of a tier's tensors by name.

    Raises:
        ShapeError: they do not all have one row per group, or the features of the keys.
    """
    tensors = {name: state[f"tier{number}.{name}"].clone() for name in _saved(number)}
    room = len(tensors["parent"])
    shapes = {name: (room,) if name in COLUMNS else (room, features) for name in tensors}
    if any(tensors[name].shape != shape for name, shape in shapes.items()):
        raise ShapeError(f"the parts of tier {number} do not fit each other: the state is not whole")
    return tensors


def _tier_filing(
    state: Mapping[str, Tensor], number: int, tensors: Mapping[str, Tensor], features: int, groups_above: int
) -> Filing:
    """Where a tier's groups are filed.

    Raises:
        ShapeError: the lists are damaged, or fewer than the groups of the tier above.
    """
    lists = Lists.from_state(state, f"tier{number}.", features, GROUP_BITS, len(tensors["parent"]))
    if len(lists.level.length) < groups_above:
        raise ShapeError(f"the parts of tier {number} do not fit each other: the state is not whole")
    filing = Filing(lists, tensors["parent"], tensors["place"])
    filing.check(f"tier{number}.place")
    return filing


def _cells_filing(state: Mapping[str, Tensor], rows: KeyRows, code_bits: int, leaves: int) -> Filing:
    """Where the cells are filed.

    Raises:
        ShapeError: the lists are damaged, fewer than the leaves, or of other cells than the rows hold.
    """
    lists = Lists.from_state(state, "leaves.", rows.features, code_bits, rows.used)
    filing = Filing(lists, state["leaf"].clone(), state["place"].clone())
    if len(lists) != len(rows) or len(filing.parent) != rows.used or len(filing.place) != rows.used:
        raise ShapeError(
            f"the state files {len(lists)} cells, expected {len(rows)}: give the keys it was saved with"
        )
    if len(lists.level.length) < leaves:
        raise ShapeError("there are fewer leaves than their tier has: the state is not whole")
    filing.check("place")
    return filing
