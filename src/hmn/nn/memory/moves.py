"""Which cells training has moved, and which of them are filed after its next step."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hmn.index.storage.fingerprint import row_fingerprints
from hmn.nn.parts import CellMemory

STEPS_TOGETHER = 16
"""Number of training steps whose moved cells are filed together where ``refiled`` limits their number."""
TURNS = 64
"""Number of steps within which every cell is filed again while gradients are dense."""


class Moves(NamedTuple):
    """Cells to file after a step.

    Attributes:
        cells: ``(n,)`` distinct cells.
        complete: whether no other cell can have moved.
    """

    cells: Tensor
    complete: bool


class MovedCells:
    """Keeps account of the cells that training reads, and chooses those to file after a step.

    Args:
        refiled: upper limit of cells per step, drawn among those that moved; None for all.
        seed: seed of that draw.
    """

    def __init__(self, refiled: int | None, seed: int) -> None:
        self.refiled = refiled
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._next = 0  # cell that is next in turn
        self.forget()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of: no tensors, since a spawned process loses those that are short-lived."""
        return {**vars(self), "_generator": self._generator.get_state().numpy().tobytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become the copy, which draws as the original would."""
        numbers = torch.frombuffer(bytearray(state["_generator"]), dtype=torch.uint8)
        generator = torch.Generator("cpu")
        vars(self).update({**state, "_generator": generator.set_state(numbers)})

    @property
    def are_read(self) -> bool:
        """Whether training has read cells since the last choice."""
        return bool(self._read)

    def forget(self) -> None:
        """Start over: no cell is waiting."""
        self._read: list[Tensor] = []  # cells read in training since the last choice
        self._due: list[Tensor] = []  # moved cells that wait to be filed together

    def mark(self, cells: Tensor) -> None:
        """Note that the cells ``(n,)`` were read in training: their keys may move with the next step."""
        self._read.append(cells.flatten())
        if len(self._read) > STEPS_TOGETHER:  # a loop that never asks
            self._read = [torch.unique(torch.cat(self._read))]

    def choose(self, memory: CellMemory, fingerprint: Tensor | None) -> Moves | None:
        """Cells to file after a step; None where the memory does not know which cells have gradients.

        Args:
            memory: the memory, with the gradients of the step.
            fingerprint: ``(N,)`` of the keys that the index holds, if known.
        """
        touched = getattr(memory, "touched", None)
        if touched is None:
            return None
        read, self._read = self._read, []
        gradient = getattr(getattr(memory, "keys", None), "grad", None)
        dense = gradient is not None and not gradient.is_sparse
        # rows may repeat here; finding the distinct ones takes longer than anything else, so it is done once
        rows = touched() if gradient is None or dense else gradient._indices()[0]
        moved = [rows] if len(read) == 1 and torch.equal(rows, read[0]) else [rows, *read]
        if dense:  # momentum and weight decay move cells without a gradient
            moved.append(self._in_turn(memory.snapshot(), fingerprint))
        cells: Tensor = torch.unique(torch.cat(moved))
        return Moves(self._limited(cells), self.refiled is None and not dense)

    def _in_turn(self, keys: Tensor, fingerprint: Tensor | None) -> Tensor:
        """The next cells ``(n,)`` in order, without those whose keys are as the index holds them."""
        count = len(keys)
        share = -(-count // TURNS)
        cells = (self._next + torch.arange(share, device=keys.device)) % max(1, count)
        self._next = (self._next + share) % max(1, count)
        if fingerprint is None:
            return cells
        held = fingerprint[cells.to(fingerprint.device)].to(keys.device)
        return cells[held != row_fingerprints(keys[cells])]

    def _limited(self, cells: Tensor) -> Tensor:
        """Cells to file now: all of them, or the draws of several steps once enough steps have passed."""
        if self.refiled is None:
            return cells
        generator = self._generator
        drawn = torch.randperm(len(cells), generator=generator, device=generator.device)[: self.refiled]
        self._due.append(cells[drawn.to(cells.device)])
        if len(self._due) < STEPS_TOGETHER:
            return cells[:0]
        cells, self._due = torch.unique(torch.cat(self._due)), []
        return cells
