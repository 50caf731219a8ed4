"""Rows that change in place, with exact gradients through every change.

PyTorch would need a copy of all N rows per step to record writes to them: no tensor that a later step needs
may be changed in place. A tape records which few rows each step read or replaced, in order. The backward pass
goes through it from the end and undoes what each step did to the gradients of the rows. A read adds to them.
A write takes those of the rows it made, and leaves what its own change passes on to those before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

Numbers = NDArray[np.int64]
"""Numbers of rows."""


class Tape:
    """Keeps the order of reads and changes of rows, so that gradients flow from reads to earlier changes.

    What a step costs, forward and backward, in time and in memory, depends on the rows it touches alone.

    Args:
        rows: ``(R, W)`` float rows, which are changed in place.
        blank: whether they are all zero, so that ``reset`` needs no copy of what was written over.

    Attributes:
        rows: the rows as they are now.
    """

    def __init__(self, rows: Tensor, *, blank: bool = False) -> None:
        self.rows, self._blank = rows, blank
        # numbers of rows are kept in NumPy, whose calls on few numbers take the least time
        self._kept = np.zeros(len(rows), dtype=bool)  # written since the start
        self._written: list[Numbers] = []  # these rows, in the order of their first write
        self._before: list[Tensor] = []  # what they held before it
        self._slot = np.full(len(rows), -1)  # of their gradients
        self._slotted: list[Numbers] = []  # rows that have a slot
        self._constant: list[Numbers] = []  # rows written without gradients since the last recorded step
        self._begin_graph()

    def _begin_graph(self) -> None:
        self._token = torch.zeros((), dtype=torch.float32, device=self.rows.device, requires_grad=True)
        self._gradients = Gradients(self.rows)

    def cut(self) -> None:
        """Let no gradient pass from here on back: the rows stay as they are, as constants."""
        for rows in self._slotted:
            self._slot[rows] = -1
        self._slotted, self._constant = [], []
        self._begin_graph()

    def reset(self) -> None:
        """Put back what all rows held at the start, at the cost of those that were written."""
        if self._written:
            self.rows[self.written] = 0 if self._blank else torch.cat(self._before)
            for rows in self._written:
                self._kept[rows] = False
        self._written, self._before = [], []
        self.cut()

    @property
    def written(self) -> Tensor:
        """Rows ``(n,)`` that were written since the start, each once."""
        return self._on_device(np.concatenate([self._slot[:0], *self._written]))

    def _on_device(self, numbers: Numbers) -> Tensor:
        return torch.from_numpy(numbers).to(self.rows.device)

    def read(self, rows: Tensor) -> Tensor:
        """The rows ``(...)`` as they are now: ``(..., W)``. A row may be given several times."""
        if not torch.is_grad_enabled():
            return self.rows[rows]
        value: Tensor
        (value,) = self.apply(_Read, rows, self.rows[rows])
        return value

    def apply(self, step: type[torch.autograd.Function], rows: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        """Apply a step that reads or changes rows ``(...)``, and give it its place in the order of steps.

        The step gets the token of the order, the slots ``(n,)`` of the gradients of these rows, the gradients
        and the arguments. It returns what it computes and then a new token. Its backward pass adds to the
        gradients, or passes them on.
        """
        self._record_constants()
        made = _applied(step, self._token, self._slots(rows), self._gradients, *arguments)
        *results, self._token = made if isinstance(made, tuple) else (made,)
        return tuple(results)

    def keep(self, rows: Tensor) -> None:
        """Keep what rows ``(n,)`` hold, which are about to be changed. Distinct ones, or rows kept before."""
        numbers = rows.numpy(force=True)
        first = numbers[~self._kept[numbers]]
        if len(first):
            self._kept[first] = True
            self._written.append(first)
            if not self._blank:
                self._before.append(self.rows[self._on_device(first)])

    def end_gradients(self, rows: Tensor) -> None:
        """Let no gradient pass through rows ``(n,)``, which were replaced without one."""
        if self._token.grad_fn is not None:
            self._constant.append(rows.numpy(force=True))

    def _record_constants(self) -> None:
        """Let no gradient pass through rows that were written without gradients, to what they held before."""
        if self._constant:
            rows, self._constant = np.unique(np.concatenate(self._constant)), []
            self.apply(_Stop, self._on_device(rows))

    def _slots(self, rows: Tensor) -> Tensor:
        """Places ``(n,)`` of the gradients of rows ``(...)``."""
        numbers = rows.numpy(force=True).ravel()
        slots = self._slot[numbers]
        new, count = numbers[slots < 0], self._gradients.count
        if len(new):
            # a row that is given twice gets two slots, and keeps one of them
            self._slot[new] = np.arange(count, count + len(new))
            self._slotted.append(new)
            self._gradients.count += len(new)
            slots = self._slot[numbers]
        return self._on_device(slots)


def _applied(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """``function.apply``, which has no types."""
    return function.apply(*arguments)  # type: ignore[no-untyped-call]


class Gradients:
    """Gradients of the rows that were touched, during a backward pass.

    The steps of a graph share it. It knows nothing of the tape, which would keep itself alive otherwise.

    Attributes:
        count: rows that were touched.
        nothing: the gradient of a token.
    """

    def __init__(self, rows: Tensor) -> None:
        self.count = 0
        self.nothing = torch.zeros((), dtype=torch.float32, device=rows.device)
        self._empty = rows.new_empty(0, rows.shape[1])
        self._rows: Tensor | None = None  # (touched, W)
        self._pass = -1  # number of the backward pass they belong to

    def _current(self) -> Tensor:
        number = torch._C._current_graph_task_id()
        if self._rows is None or self._pass != number:
            self._rows = self._empty.new_zeros(self.count, self._empty.shape[1])
            self._pass = number
        return self._rows

    def add(self, slots: Tensor, gradient: Tensor) -> None:
        """Add ``(n, W)`` to the gradients at slots ``(n,)``, which may repeat."""
        rows = self._current()
        rows.index_add_(0, slots, gradient.to(rows.dtype))

    def pass_on(self, slots: Tensor, kept: Tensor, rounds: list[Tensor] | None) -> Tensor:
        """Gradients ``(n, W)`` of rows after a change; those before it are these times what was kept.

        Args:
            slots: ``(n,)``, distinct within each round.
            kept: ``(n, W)`` or ``(n, 1)``.
            rounds: entries in the order in which they were made, each round at once; None for one round.
        """
        rows = self._current()
        if rounds is None:
            after = rows[slots]
            rows[slots] = (kept * after).to(rows.dtype)
            return after
        after = rows.new_empty(len(slots), rows.shape[1])
        for part in reversed(rounds):
            after[part] = now = rows[slots[part]]
            rows[slots[part]] = (kept[part] * now).to(rows.dtype)
        return after

    def stop(self, slots: Tensor) -> None:
        """Forget the gradients at slots ``(n,)``."""
        self._current()[slots] = 0


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, token: Tensor, slots: Tensor, gradients: Gradients, value: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.slots, ctx.gradients = slots, gradients
        return value, token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, token: Tensor) -> tuple[Tensor | None, ...]:
        ctx.gradients.add(ctx.slots, gradient.reshape(len(ctx.slots), -1))
        return token, None, None, None


class _Stop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, token: Tensor, slots: Tensor, gradients: Gradients) -> Tensor:
        ctx.slots, ctx.gradients = slots, gradients
        return token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, token: Tensor) -> tuple[Tensor | None, ...]:
        ctx.gradients.stop(ctx.slots)
        return token, None, None
