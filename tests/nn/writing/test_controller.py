"""A controller that reads and writes a memory, against the same one over a dense memory."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
from bench.writer.dense import DenseMemory
from torch import nn
from torch.nn import functional

from hmn.errors import ConfigError, ShapeError
from hmn.nn.writing.controller import MemoryController
from hmn.nn.writing.heads import CellReader, CellWriter
from hmn.nn.writing.memory import WrittenMemory

CORES = ["lstm", "gru", "transformer", "window"]


def controller(memory: WrittenMemory, **settings: Any) -> MemoryController:
    torch.manual_seed(0)
    return MemoryController(3, 2, memory, hidden=8, **settings)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("rewrites", ["match", "read"])
@pytest.mark.parametrize("settings", [{}, {"heads": 2}, {"beside": 3, "sees_reads": False}])
def test_outputs_and_gradients_are_those_of_a_dense_memory(
    core: str, rewrites: str, settings: dict[str, Any]
) -> None:
    sparse = WrittenMemory(6, 4, 3, sequences=2, dtype=torch.float64)
    made = controller(sparse, core=core, rewrites=rewrites, k=6, **settings).double()
    inputs = torch.randn(2, 10, 3, dtype=torch.float64)
    weights, results = list(made.parameters()), []
    for memory in (sparse, DenseMemory(6, 4, 3, sequences=2, dtype=torch.float64)):
        made.network.memory = cast(WrittenMemory, memory)
        outputs = made(inputs)
        results.append((outputs, torch.autograd.grad(outputs.cos().sum(), weights, allow_unused=True)))
    torch.testing.assert_close(results[0][0], results[1][0])
    for one, other in zip(results[0][1], results[1][1], strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("core", CORES)
def test_it_learns_to_give_back_the_last_input(core: str) -> None:
    made = controller(WrittenMemory(16, 8, 8, sequences=16, linked=True), core=core)
    adam = torch.optim.Adam(made.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        inputs = torch.randint(2, (16, 8, 3)).float()
        outputs = made(inputs)
        losses.append(functional.binary_cross_entropy_with_logits(outputs[:, 1:], inputs[:, :-1, :2]))
        adam.zero_grad()
        losses[-1].backward()
        adam.step()
    assert float(losses[-1].detach()) < 0.9 * float(losses[0].detach())


@pytest.mark.parametrize("beside", [1, 3])
def test_a_sequence_in_parts_gives_the_same_outputs(beside: int) -> None:
    memory = WrittenMemory(16, 4, 4, sequences=2, linked=True)
    made = controller(memory, core="transformer", beside=beside)
    inputs = torch.randn(2, 9, 3)
    whole = made(inputs)
    first = made(inputs[:, :5])
    made.cut()
    second = made(inputs[:, 5:], begin=False)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    second.sum().backward()  # the graph of the first part is not needed
    first.sum().backward()


def test_a_larger_memory_takes_longer_sequences() -> None:
    made = controller(WrittenMemory(8, 4, 4, sequences=2))
    made.network.memory = WrittenMemory(500, 4, 4, sequences=3, index="cluster")
    with torch.no_grad():
        assert made(torch.randn(3, 20, 3)).shape == (3, 20, 2)
    assert made.memory.cells == 500


@pytest.mark.parametrize("core", CORES)
def test_heads_see_the_last_inputs_and_at_first_nothing_else(core: str) -> None:
    made = controller(WrittenMemory(16, 4, 4, sequences=2), core=core, beside=3)
    inputs = torch.randn(2, 8, 3)
    inputs[1, -3:] = inputs[0, -3:]  # other inputs before them
    made(inputs)
    state = made._state
    assert state is not None
    torch.testing.assert_close(state[:, -9:], inputs[:, -3:].flip(1).flatten(1))  # the newest first
    writer, reader = cast(CellWriter, made.network.writer), cast(CellReader, made.network.reader)
    for layer in (writer.key, reader.query):
        made_of = layer(state)
        torch.testing.assert_close(made_of[0], made_of[1])
    made(inputs[:, :1])
    assert made._state is not None
    assert not bool(made._state[:, -6:].any())  # zeros before the first


def test_a_core_that_does_not_see_reads() -> None:
    made = controller(WrittenMemory(16, 4, 4, sequences=2), sees_reads=False)
    inputs, states, writer = torch.randn(2, 5, 3), [], cast(CellWriter, made.network.writer)
    assert writer.value is not None
    for number in range(2):
        made.begin()
        for now in inputs.unbind(1):
            made.step(now)
        assert made._state is not None
        states.append(made._state)
        with torch.no_grad():
            writer.value.weight.mul_(3 * number + 2)  # other values are written and read
    torch.testing.assert_close(states[0], states[1])


@pytest.mark.parametrize("core", CORES)
def test_a_copy_begins_new_sequences(core: str) -> None:
    made, inputs = controller(WrittenMemory(16, 4, 4, sequences=2), core=core), torch.randn(2, 5, 3)
    outputs = made(inputs)  # with gradients, which a copy cannot have
    copied = copy.deepcopy(made)
    torch.testing.assert_close(copied(inputs), outputs)
    outputs.sum().backward()
    assert all(weight.grad is None for weight in copied.parameters())


def test_a_core_of_your_own() -> None:
    class Plain(nn.Module):
        hidden = 7

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(7, 7)

        def begin(self) -> None: ...

        def cut(self) -> None: ...

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.linear(inputs))

    made = MemoryController(3, 2, WrittenMemory(8, 4), core=Plain())
    assert made(torch.randn(5, 4, 3)).shape == (5, 4, 2)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="core is 'rnn'"):
        controller(WrittenMemory(8, 4), core="rnn")
    with pytest.raises(ConfigError, match="beside is 0"):
        controller(WrittenMemory(8, 4), beside=0)
    with pytest.raises(ConfigError, match="sees_reads is 'no'"):
        controller(WrittenMemory(8, 4), sees_reads="no")
    made = controller(WrittenMemory(8, 4, sequences=2))
    for shape in ((3, 4, 3), (2, 4, 5), (2, 3), (2, 0, 3)):
        with pytest.raises(ShapeError, match="inputs are"):
            made(torch.zeros(shape))
