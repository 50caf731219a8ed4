"""Rows of a tensor that grow, and memories with gaps: cells that were removed and may come back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hmn.index.storage.saved import ANY, Saved
from hmn.nn.parts import CellMemory


class GrowingRows:
    """Makes tensors longer at a cost per row that does not depend on their length.

    What it returns is the beginning of a larger tensor, which the next call goes on with. A tensor that was
    replaced meanwhile is copied first.
    """

    def __init__(self) -> None:
        self._room: Tensor | None = None

    def grown(self, rows: Tensor, count: int) -> Tensor:
        """The same rows and, behind them, zeros: ``count`` rows in all."""
        room = self._room
        if room is None or room.data_ptr() != rows.data_ptr() or len(room) < count:
            with torch.inference_mode(False):  # else PyTorch would not count its changes
                room = rows.new_zeros(max(count, 2 * len(rows)), *rows.shape[1:])
            room[: len(rows)] = rows
            self._room = room
        return room[:count]


def gaps_of(memory: CellMemory) -> set[int]:
    """Cells of a memory that stand for nothing, so that no index holds them; mostly none."""
    gaps: set[int] = getattr(memory, "gaps", None) or set()
    return gaps


def num_held(memory: CellMemory) -> int:
    """Number of cells that an index of a memory holds."""
    return len(memory) - len(gaps_of(memory))


def held_cells(memory: CellMemory, device: torch.device) -> Tensor:
    """Cells that an index of a memory holds, ascending."""
    is_held = torch.ones(len(memory), dtype=torch.bool, device=device)
    gaps = gaps_of(memory)
    if gaps:
        is_held[torch.tensor(sorted(gaps), dtype=torch.int64, device=device)] = False
    return is_held.nonzero().squeeze(1)


def held_keys(memory: CellMemory, keys: Tensor) -> tuple[Tensor, ...]:
    """What an index of a memory is built on: its keys ``(N, D)``, or those of its cells and these cells."""
    if not gaps_of(memory):
        return (keys,)
    cells = held_cells(memory, keys.device)
    return keys[cells], cells


def keys_by_row(state: Mapping[str, Tensor], memory: CellMemory) -> Tensor:
    """The keys of a memory in the order of the rows of an index's state, which may be any.

    Raises:
        ShapeError: a cell of the state is not one of the memory.
    """
    keys = memory.snapshot()
    if "rows.cell" not in state:
        return keys
    cell = Saved(state, keys.device, "an index").whole("rows.cell", (ANY,), -1, len(keys))
    return keys[cell.clamp(min=0)]  # a row without a cell may hold any key
