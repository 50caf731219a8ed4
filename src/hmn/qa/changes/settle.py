"""A model whose facts have changed, as one whose table never did: to be saved, or trained again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.facts.changing import ChangingTable, Settled
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.storage.fingerprint import checksum_of, row_fingerprints
from hmn.nn.memory.over_ranks import is_remote
from hmn.nn.weights import weights_of
from hmn.qa.build import Network
from hmn.qa.cells import Cells, distinct_rows
from hmn.qa.changes.cells import ChangingCells

BY_RELATION = ("memory.encoder.own", "memory.encoder.sentences")
"""Weights with one row per relation."""
BY_CELL = ("memory.encoder.texts",)
"""Weights with one row per cell."""


class SettledModel(NamedTuple):
    """What is saved of a model.

    Attributes:
        facts: The table, in canonical order.
        weights: Weights by name.
        cells: The cells of the table.
        keys: ``(N, D)`` keys of the cells.
        structure: State of the index; None if it has no structure.
    """

    facts: FactTable
    weights: dict[str, Tensor]
    cells: Cells
    keys: Tensor
    structure: dict[str, Tensor] | None


def settled_model(facts: FactTable, network: Network) -> SettledModel:
    """What is saved of a model; the model itself is not changed.

    The numbers of a table that changed are replaced by those which the same facts have in a table that is
    read. Keys move with their cells, and the index keeps its structure.

    Over several ranks rank 0 gets the keys of all cells, and the others get none. The state of the index is
    left out: one machine has another.
    """
    encoder, index = network.memory.encoder, network.indexed.in_step()  # type: ignore[attr-defined]
    if is_remote(network.memory):
        keys = network.memory.gathered()  # type: ignore[attr-defined]
        return SettledModel(facts, weights_of(network), encoder.cells, keys, None)
    weights, keys = weights_of(network), network.memory.snapshot()
    state = index.state_dict(with_keys=False) if index.has_structure else None
    if not isinstance(facts, ChangingTable):
        return SettledModel(facts, weights, encoder.cells, keys, state)
    settled = facts.settled()
    cells = _cells(settled, encoder.cells)
    old_cell = torch.from_numpy(_old_cells(encoder.cells, cells, settled)).to(keys.device)
    old_relation = np.argsort(settled.relation)[(settled.relation < 0).sum() :]
    for names, rows in ((BY_RELATION, torch.from_numpy(old_relation)), (BY_CELL, old_cell)):
        for name in names:
            if name in weights:
                weights[name] = weights[name][rows.to(weights[name].device)]
    if state is not None:
        state = _renumbered(state, index.state_dict().get("rows.keys"), old_cell, len(keys))
    return SettledModel(settled.facts, weights, cells, keys[old_cell], state)


def settled_questions(
    facts: FactTable, cells: Cells, train: QuestionSet | None, valid: QuestionSet | None
) -> tuple[FactTable, Cells, QuestionSet | None, QuestionSet | None]:
    """A table, its cells and questions about it, as a training needs them: as they are if nothing changed."""
    if not isinstance(facts, ChangingTable):
        return facts, cells, train, valid
    settled = facts.settled()
    train, valid = (
        None if given is None else given.renumbered(settled.cell, settled.entity) for given in (train, valid)
    )
    return settled.facts, _cells(settled, cells), train, valid


def _cells(settled: Settled, cells: Cells) -> Cells:
    """The cells of a settled table, of the same kind as those of before."""
    objects = cells.object is not None
    return Cells.of(settled.facts, objects=objects, splitting=cells.splitting.name)


def _old_cells(cells: ChangingCells, now: Cells, settled: Settled) -> NDArray[np.int64]:
    """``(N,)`` the cell that each cell of a settled table was before: the one with the same text."""
    taken = cells.taken
    number = {name: number for number, name in enumerate(cells.names)}
    name = np.array([number[name] for name in now.names], np.int64)
    relation = np.argsort(settled.relation)[(settled.relation < 0).sum() :]
    columns = [
        np.concatenate([cells.subject[taken], name[now.subject]]),
        np.concatenate([cells.relation[taken], relation[now.relation]]),
    ]
    if cells.object is not None and now.object is not None:
        columns.append(np.concatenate([cells.object[taken], name[now.object]]))
    _, text = distinct_rows(columns)
    place = np.empty(len(taken), np.int64)
    place[text[: len(taken)]] = taken
    return place[text[len(taken) :]]


def _renumbered(
    state: dict[str, Tensor], keys: Tensor | None, old_cell: Tensor, cells: int
) -> dict[str, Tensor]:
    """The state of an index whose cells have other numbers.

    Args:
        state: The state, without keys.
        keys: ``(rows, D)`` the keys that the index holds.
        old_cell: ``(N,)`` the number that each cell has in the state.
        cells: Number of cells of before, gaps among them.
    """
    new = torch.full((cells,), -1, dtype=torch.int64)
    new[old_cell.cpu()] = torch.arange(len(old_cell))
    used = int(state["rows.used"])
    cell = state.get("rows.cell", torch.arange(used)).cpu()
    cell = torch.where(cell >= 0, new[cell.clamp(min=0)], -1)
    state = {**state, "rows.cell": cell}
    state.setdefault("rows.free", torch.zeros(0, dtype=torch.int64))
    if keys is not None:
        live = (cell >= 0).nonzero().squeeze(1)
        checksum = checksum_of(row_fingerprints(keys)[live.to(keys.device)].cpu(), cell[live])
        state["rows.checksum"] = torch.tensor(checksum, dtype=torch.int64)
    return state
