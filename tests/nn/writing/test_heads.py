"""Heads: what they write and read, in a network and by themselves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from hmn.errors import ConfigError
from hmn.nn.network import MemoryNetwork
from hmn.nn.writing.heads import CellReader, CellWriter
from hmn.nn.writing.memory import WrittenMemory
from hmn.results import Read


def network(memory: WrittenMemory, **settings: Any) -> MemoryNetwork[Read[torch.Tensor | None]]:
    torch.manual_seed(0)
    writer = CellWriter(6, memory, heads=2, k=3, **settings)
    return MemoryNetwork(nn.Linear(4, 6), memory, CellReader(6, memory, heads=2), lambda read: read, writer)


@pytest.mark.parametrize("rewrites", ["match", "read"])
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("sequences", [1, 3])
def test_a_network_writes_and_every_weight_learns(rewrites: str, linked: bool, sequences: int) -> None:
    memory = WrittenMemory(9, 5, 2, sequences=sequences, linked=linked)
    made = network(memory, rewrites=rewrites)
    memory.begin()
    total = torch.zeros(())
    for step in range(6):
        read = made(torch.sin(torch.arange(12.0) * (step + 1)).reshape(3, 4), 3)
        assert read.value is not None and read.value.shape == (3, 2, 2) and read.cell.shape == (3, 2, 3)
        total = total + (read.value**2).sum()
    total.backward()
    silent = {name for name, part in made.named_parameters() if part.grad is None or not part.grad.any()}
    assert silent <= ({"writer.familiarity", "writer.sharpness"} if rewrites == "read" else set())
    assert set(made.state_dict()) == {name for name, _ in made.named_parameters()}


def test_a_known_key_is_written_again_where_it_lies() -> None:
    memory = WrittenMemory(8, 4)
    writer = CellWriter(4, memory, k=2)
    with torch.no_grad():
        for linear in (writer.key, writer.gate, writer.mix, writer.erase):
            nn.init.zeros_(linear.weight)
            nn.init.constant_(linear.bias, 20.0)
        writer.key.weight.copy_(torch.eye(4))
        writer.key.bias.zero_()
        writer.mix.bias.fill_(-20.0)
        writer.familiarity.fill_(40.0)
        memory.begin()
        for number in (0, 1, 2, 1, 0, 3):
            writer(torch.eye(4)[number][None], memory)
    assert memory.rows[0, :4].tolist() == torch.eye(4).tolist()
    assert not bool(memory.rows[0, 4:].any())


@pytest.mark.parametrize("sequences", [1, 2])
def test_a_hard_read_has_the_gradients_of_a_softmax(sequences: int) -> None:
    torch.manual_seed(0)
    rows = torch.randn(9, 7, dtype=torch.float64)
    memory = WrittenMemory(9, 5, 2, sequences=sequences, initial=rows)
    reader = CellReader(6, memory, heads=2, unit=False).double()
    state = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    reader.hard = True
    memory.begin()
    read = reader.read(state, 3)
    query = reader.query(state).unflatten(1, (2, 5))
    scale = 1 + nn.functional.softplus(reader.scale(state)).unsqueeze(2)
    score, cell = (query @ rows[:, :5].T).topk(3, dim=2)
    soft, values = torch.softmax(scale * score, dim=2), rows[cell][..., 5:]
    assert read.value is not None and memory.last is read
    torch.testing.assert_close(read.value, values[:, :, 0])  # that of the best cell
    torch.testing.assert_close(read.weight, nn.functional.one_hot(torch.zeros_like(cell[..., 0]), 3).double())
    assert torch.equal(read.cell, cell) and torch.equal(read.reads, torch.full_like(read.reads, 18.0))
    towards = torch.randn(2, 2, 2, dtype=torch.float64)
    (found,) = torch.autograd.grad((read.value * towards).sum(), state)
    (expected,) = torch.autograd.grad((soft.unsqueeze(3) * values).sum(dim=2).mul(towards).sum(), state)
    torch.testing.assert_close(found, expected)


def test_a_hard_read_of_an_empty_memory_is_empty() -> None:
    memory = WrittenMemory(9, 5, 2)
    reader = CellReader(6, memory)
    reader.hard = True
    memory.begin()
    read = reader.read(torch.randn(3, 6), 4)
    assert read.value is not None and not bool(read.value.any()) and not bool(read.weight.any())


def test_a_memory_may_be_replaced_by_a_larger_one() -> None:
    small, large = WrittenMemory(4, 5, 2), WrittenMemory(40, 5, 2, sequences=2, index="cluster")
    made = network(small)
    made.memory = large
    large.begin()
    assert made(torch.randn(2, 4), 30).cell.shape == (2, 2, 30)
    assert made.reader.indexed is large  # type: ignore[attr-defined]
    copied = copy.deepcopy(made)
    copied.memory.begin()  # type: ignore[attr-defined]
    assert copied.reader.indexed is copied.memory is not large  # type: ignore[attr-defined]
    assert copied(torch.randn(2, 4), 3).cell.shape == (2, 2, 3)


def test_what_does_not_fit_is_refused() -> None:
    memory = WrittenMemory(4, 5, 2)
    with pytest.raises(ConfigError, match="rewrites is 'all'"):
        CellWriter(6, memory, rewrites="all")
    with pytest.raises(ConfigError, match="another memory"):
        MemoryNetwork(nn.Identity(), WrittenMemory(4, 5, 2), CellReader(6, memory), lambda read: read)
    made = network(memory)
    with pytest.raises(ConfigError, match="candidates"):
        made.attend(torch.ones(1, 5), torch.zeros(0, dtype=torch.int64), torch.Generator())
