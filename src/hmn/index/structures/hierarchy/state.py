"""Groups as tensors in a state, and groups from a state whose tensors fit each other."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hmn._native.finite import LONGEST
from hmn.errors import ShapeError
from hmn.index.storage.coded_lists import Lists
from hmn.index.storage.key_rows import KeyRows
from hmn.index.storage.saved import ANY, Saved, check_filed, refuse
from hmn.index.structures.hierarchy.groups import (
    CELL_BITS,
    ROUTING_BITS,
    SCORE_ALONE,
    Groups,
    Measured,
    Point,
    Promise,
)

LEAST_BOUND = 2
"""Lower limit of cells per group that a state may set; a group of one could be split for ever."""
MOST_COUNTED = 2**40
"""Upper limit of numbers of cells in a state."""
MOST_SPREAD = 1e6
"""Upper limit of standard deviations in a state."""
OLDER = [0.0, 0.0, *SCORE_ALONE]
"""Numbers that older states lack of those that were measured."""
ALIKE = 1e-3
"""Upper limit of inner products of different rows of a basis, and of how far its rows are from length 1."""


def state_of(groups: Groups) -> dict[str, Tensor]:
    """Tensors from which ``from_state`` restores groups, given the rows of keys."""
    used, measured = groups.rows.used, groups.measured
    numbers = [
        *measured.usual,
        *measured.most,
        measured.added,
        measured.longest,
        measured.written,
        measured.turns,
        *measured.promise,
    ]
    state = {
        "group": groups.group[:used],
        "place": groups.place[:used],
        "slot": groups.slot,
        "mean": groups.mean,
        "changed": groups.changed,
        "bound": torch.tensor(groups.bound, dtype=torch.int64, device="cpu"),
        "measured": torch.tensor(numbers, dtype=torch.float64, device="cpu"),
    }
    if groups.basis is not None:
        state["features" if groups.basis.dim() == 1 else "basis"] = groups.basis
    return state | groups.routing.state_dict("routing.") | groups.cells.state_dict("cells.")


def is_of_tiers(state: Mapping[str, Tensor]) -> bool:
    """Whether a state is of several tiers of groups above leaves, as hierarchies were at first."""
    return "tier0.mean" in state


def from_state(state: Mapping[str, Tensor], rows: KeyRows, seed: int) -> Groups:
    """Groups as they were when ``state_of`` was called.

    Args:
        state: tensors by name; they are copied.
        rows: rows of keys.
        seed: see ``Groups``.

    Raises:
        ShapeError: a tensor is missing or does not fit the others.
    """
    saved = Saved(state, rows.keys.device, "a HierarchicalIndex")
    basis = _basis(saved, rows.features)
    coordinates = rows.features if basis is None else len(basis)
    slot = saved.whole("slot", (ANY,), -1, torch.iinfo(torch.int64).max)
    routing = Lists.from_state(saved, "routing.", coordinates, ROUTING_BITS)
    if len(routing.level.length) != 1 or not len(routing):
        refuse("routing.length", f"of {len(routing)} groups", "one list of at least one group")
    in_list = torch.where(slot >= 0, 0, -1)
    routing.check_filed("routing.", in_list, slot, ("slot", "slot"))
    cells = _cells(saved, rows, len(slot))
    group = saved.whole("group", (rows.used,), -1, len(slot))
    place = saved.whole("place", (rows.used,), -1, torch.iinfo(torch.int64).max)
    cells.check_filed("cells.", group, place, ("group", "place"))
    check_filed(rows.live(), group >= 0, "group")
    if bool((slot[group[group >= 0]] < 0).any()):
        refuse("group", "of groups without a direction", "groups that slot has")
    groups = Groups(
        rows=rows,
        basis=basis,
        routing=routing,
        slot=slot,
        mean=saved.vectors("mean", (len(slot), coordinates)),
        cells=cells,
        group=group,
        place=place,
        bound=saved.number("bound", LEAST_BOUND, torch.iinfo(torch.int32).max),
        seed=seed,
        measured=_measured(saved),
    )
    groups.changed = saved.whole("changed", (len(slot),), 0, MOST_COUNTED)
    return groups


def _basis(saved: Saved, features: int) -> Tensor | None:
    """What directions live in."""
    if "features" in saved:
        basis = saved.whole("features", (ANY,), 0, features, torch.int32)
        if not len(basis) or bool((basis[1:] <= basis[:-1]).any()):
            refuse("features", f"{basis.tolist()}", "numbers of features, ascending")
        return basis
    if "basis" not in saved:
        return None
    basis = saved.vectors("basis", (ANY, features))
    if not 0 < len(basis) <= features:
        refuse("basis", f"of {len(basis)} rows", f"from 1 to {features}")
    apart = basis @ basis.T - torch.eye(len(basis), dtype=torch.float32, device=basis.device)
    if not float(apart.abs().max()) <= ALIKE:
        refuse("basis", "of other vectors", "orthogonal rows of length 1")
    return basis


def _cells(saved: Saved, rows: KeyRows, groups: int) -> Lists:
    """Lists of all cells, one for each group."""
    cells = Lists.from_state(saved, "cells.", rows.features, CELL_BITS, short=True)
    if len(cells) != len(rows):
        raise ShapeError(
            f"the state files {len(cells)} cells, expected {len(rows)}: give the keys it was saved with"
        )
    if len(cells.level.length) != groups:
        refuse("cells.length", f"of {len(cells.level.length)} lists", f"one for each of {groups} of slot")
    return cells


def _measured(saved: Saved) -> Measured:
    """How far to look."""
    numbers = saved.tensor("measured", torch.float64, (ANY,)).tolist()
    if len(numbers) not in (8, 10, 12):
        refuse("measured", f"{len(numbers)} numbers", "12 of them, or 8 or 10 as in older states")
    numbers += OLDER[len(numbers) - 8 :]
    *points, added, longest, written, turns, own, spread = numbers
    fits = all(0 <= number <= LONGEST for number in (*points, longest)) and -1 <= added <= MOST_COUNTED
    fits &= all(0 <= count <= MOST_COUNTED for count in (written, turns))
    fits &= 0 <= own <= 1 and 0 <= spread <= MOST_SPREAD
    if not fits or points[0] > points[3]:
        refuse(
            "measured", f"{numbers}", "two points, a number of cells, a length, two numbers, and a promise"
        )
    usual, most, promise = Point(*points[:3]), Point(*points[3:]), Promise(own, spread)
    return Measured(usual, most, int(added), longest, int(written), int(turns), promise)
