"""Rows that change in place: gradients against copies of all rows."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import torch
from torch import Tensor

from hmn.nn.writing import tape as tapes
from hmn.nn.writing.tape import Gradients

R, W = 6, 3


class Replace(torch.autograd.Function):
    """The simplest change: rows become other rows, and keep nothing."""

    @staticmethod
    def forward(
        ctx: Any,
        token: Tensor,
        slots: Tensor,
        gradients: Gradients,
        held: Tensor,
        rows: Tensor,
        value: Tensor,
    ) -> Tensor:
        ctx.slots, ctx.gradients, ctx.dtype = slots, gradients, value.dtype
        held[rows] = value.to(held.dtype)
        return token.clone()

    @staticmethod
    def backward(ctx: Any, token: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        kept = torch.zeros(len(ctx.slots), 1)
        after = ctx.gradients.pass_on(ctx.slots, kept, None)
        return token, None, None, None, None, after.to(ctx.dtype)


class Tape(tapes.Tape):
    """A tape that replaces rows."""

    def write(self, rows: Tensor, value: Tensor) -> None:
        self.keep(rows)
        self.apply(Replace, rows, self.rows, rows, value)


class Copied:
    """The same calls with a copy of all rows per write."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def read(self, rows: Tensor) -> Tensor:
        return self.rows[rows]

    def write(self, rows: Tensor, value: Tensor) -> None:
        self.rows = self.rows.index_copy(0, rows, value)

    def cut(self) -> None:
        self.rows = self.rows.detach()


def random_run(memory: Copied | Tape, weights: Tensor, seed: int) -> Tensor:
    """Thirty random reads and writes, each write made of weights and of what was read."""
    generator = torch.Generator().manual_seed(seed)
    read = memory.read(torch.tensor([0, 1]))
    total = read.sum()
    for step in range(30):
        rows = torch.randperm(R, generator=generator)[: 1 + step % 3]
        if step % 2:
            memory.write(
                rows, torch.tanh(read.mean(dim=0) * weights[step % len(weights)]).expand(len(rows), -1)
            )
        else:
            repeated = torch.cat([rows, rows[:1]])  # a row may be read several times at once
            read = memory.read(repeated)
            total = total + (read**2).sum() * (step + 1)
        if step == 20 and seed % 2:
            memory.cut()
    return total


def test_gradients_are_those_of_copies() -> None:
    for seed in range(6):
        first = torch.randn(R, W, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        weights = torch.randn(4, W, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 50))
        results = []
        for memory in (Copied(first.clone()), Tape(first.clone())):
            given = weights.clone().requires_grad_()
            total = random_run(memory, given, seed)
            (gradient,) = torch.autograd.grad(total, given)
            results.append((total.detach(), gradient, memory.rows.detach()))
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other)


def test_reset_puts_back_what_was_there() -> None:
    for first in (torch.randn(R, W), torch.zeros(R, W)):
        check_reset(first, Tape(first.clone(), blank=not bool(first.any())))


def check_reset(first: Tensor, tape: Tape) -> None:
    for _ in range(2):
        tape.write(torch.tensor([4, 2]), torch.ones(2, W))
        tape.write(torch.tensor([2, 0]), torch.zeros(2, W))
        assert sorted(tape.written.tolist()) == [0, 2, 4]
        tape.reset()
        assert torch.equal(tape.rows, first) and tape.written.tolist() == []


def test_a_graph_survives_a_reset() -> None:
    tape = Tape(torch.zeros(R, W))
    value = torch.ones(1, W, requires_grad=True)
    tape.write(torch.tensor([1]), value)
    loss = (tape.read(torch.tensor([1])) * 3).sum()
    tape.reset()
    tape.write(torch.tensor([2, 1]), torch.ones(2, W))
    loss.backward()
    assert value.grad is not None and value.grad.tolist() == [[3.0] * W]


def test_a_backward_pass_holds_gradients_of_touched_rows_alone() -> None:
    tape = Tape(torch.zeros(10_000, W))
    value = torch.ones(2, W, requires_grad=True)
    for step in range(50):
        tape.write(torch.tensor([step, step + 1]), value)
    tape.read(torch.tensor([3, 9_999])).sum().backward()
    held = tape._gradients._rows
    assert held is not None and len(held) == 52


def test_a_tape_is_freed_with_its_last_user() -> None:
    tape = Tape(torch.zeros(R, W))
    value = torch.ones(1, W, requires_grad=True)
    tape.write(torch.tensor([1]), value)
    tape.read(torch.tensor([1]))
    known = weakref.ref(tape)
    gc.disable()
    try:
        del tape
        assert known() is None
    finally:
        gc.enable()


def test_values_keep_their_type() -> None:
    tape = Tape(torch.zeros(R, W, dtype=torch.float64))
    value = torch.ones(1, W, dtype=torch.float32, requires_grad=True)
    tape.write(torch.tensor([1]), value)
    read = tape.read(torch.tensor([1]))
    assert read.dtype == torch.float64
    read.sum().backward()
    assert value.grad is not None and value.grad.dtype == torch.float32
