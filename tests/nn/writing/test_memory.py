"""A written memory against the dense one, in float64: what is read, and every gradient."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from bench.writer.dense import DenseMemory
from torch import Tensor

from hmn.errors import ConfigError, NotFittedError, ShapeError
from hmn.nn.writing.memory import WrittenMemory

D, V = 5, 3
INDEXES = ["exact", "cluster", "hierarchy", "wta-hash:prefix=4", "pca-tree"]
"""Structures that are asked for all cells, and so find the same as exact search."""


def parameters(steps: int, heads: tuple[int, ...], seed: int) -> dict[str, Tensor]:
    """What a network would give at each step."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        made = torch.randn(steps, *heads, *shape, generator=generator, dtype=torch.float64)
        return made.requires_grad_()

    return {
        "query": drawn(D),
        "match": drawn(D),
        "key": drawn(D),
        "value": drawn(V),
        "gate": drawn(),
        "mix": drawn(),
        "erase": drawn(D + V),
        "scale": drawn(),
    }


def run(memory: Any, given: dict[str, Tensor], k: int, *, to_last: bool = False, cut: int = -1) -> Tensor:
    """Read and write at every step; a weighted sum of all that was read."""
    memory.begin()
    total = torch.zeros((), dtype=torch.float64)
    for step in range(len(given["query"])):
        if step == cut:
            memory.cut()
        now = {name: part[step] for name, part in given.items()}
        found = memory.last if to_last and memory.last is not None else memory.find(now["match"], k)
        memory.write(
            found,
            now["key"],
            now["value"],
            gate=torch.sigmoid(3 * now["gate"]),
            mix=torch.sigmoid(2 * now["mix"]),
            erase=torch.sigmoid(now["erase"]),
        )
        read = memory.read(now["query"], k, torch.nn.functional.softplus(now["scale"]))
        weights = torch.linspace(-1, 1, read.value.numel(), dtype=torch.float64).reshape(read.value.shape)
        total = total + (read.value * weights).sum() * (1 + step) ** 0.5
    return total


def compare(sparse: WrittenMemory, dense: DenseMemory, given: dict[str, Tensor], k: int, **how: Any) -> None:
    """The same result, rows and gradients."""
    results = []
    for memory in (dense, sparse):
        total = run(memory, given, k, **how)
        gradients = torch.autograd.grad(total, list(given.values()), allow_unused=True)
        results.append((total.detach(), memory.rows.detach().clone(), gradients))
    (total, rows, gradients), (other_total, other_rows, other_gradients) = results
    torch.testing.assert_close(other_total, total, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(other_rows, rows, rtol=1e-9, atol=1e-9)
    for name, one, other in zip(given, gradients, other_gradients, strict=True):
        if how.get("to_last") and name == "match":
            continue  # asked at the first step alone, and of an empty memory for nothing
        assert float(one.abs().sum()) > 0
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


def both(cells: int, sequences: int, index: str, seed: int, *, given: bool = False) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed + 1000)
    initial = torch.randn(cells, D + V, generator=generator, dtype=torch.float64) if given else None
    how: dict[str, Any] = {"sequences": sequences, "initial": initial, "dtype": torch.float64}
    return WrittenMemory(cells, D, V, index=index, **how), DenseMemory(cells, D, V, **how)


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("to_last", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_all_cells_as_the_dense_memory(index: str, to_last: bool, given: bool) -> None:
    sparse, dense = both(6, 2, index, 0, given=given)
    compare(sparse, dense, parameters(9, (2,), 0), 6, to_last=to_last)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_cells_as_the_masked_dense_memory(k: int, seed: int) -> None:
    sparse, dense = both(7, 3, "exact", seed)
    given = parameters(12, (3,), seed)
    if k == 1:
        del given["scale"]  # a softmax over one cell has no use for it
        given["scale"] = torch.ones(12, 3, dtype=torch.float64)
        gradients = {name: part for name, part in given.items() if part.requires_grad}
        totals = [run(memory, given, k) for memory in (sparse, dense)]
        torch.testing.assert_close(*totals)
        for name in ("key", "value", "gate", "mix", "erase"):
            made = [torch.autograd.grad(total, gradients[name], retain_graph=True)[0] for total in totals]
            torch.testing.assert_close(*made)
        return
    compare(sparse, dense, given, k)


@pytest.mark.parametrize("heads", [(4,), (2, 2)])
@pytest.mark.parametrize("index", ["exact", "cluster"])
def test_a_shared_memory_is_written_in_order(heads: tuple[int, ...], index: str) -> None:
    sparse, dense = both(8, 1, index, 3)
    compare(sparse, dense, parameters(8, heads, 3), 8)


def test_several_heads_of_several_sequences() -> None:
    sparse, dense = both(5, 2, "exact", 4, given=True)
    compare(sparse, dense, parameters(6, (2, 3), 4), 5)


def test_truncated_backpropagation() -> None:
    sparse, dense = both(6, 2, "exact", 5)
    given = parameters(10, (2,), 5)
    compare(sparse, dense, given, 6, cut=6)
    total = run(sparse, given, 6, cut=6)
    (gradient,) = torch.autograd.grad(total, given["key"])
    whole = torch.autograd.grad(run(sparse, given, 6), given["key"])[0]
    assert not torch.allclose(gradient[:6], whole[:6])
    torch.testing.assert_close(gradient[6:], whole[6:])


def test_two_backward_passes_over_one_graph() -> None:
    sparse, _ = both(6, 2, "exact", 6)
    given = parameters(6, (2,), 6)
    total = run(sparse, given, 6)
    first = torch.autograd.grad(total, given["value"], retain_graph=True)[0]
    second = torch.autograd.grad(total, given["value"])[0]
    torch.testing.assert_close(first, second)


def test_begin_forgets_what_was_written() -> None:
    for given_rows in (False, True):
        for index in INDEXES:
            sparse, _ = both(6, 2, index, 7, given=given_rows)
            given = parameters(5, (2,), 7)
            first = run(sparse, given, 3)
            sparse.begin()
            assert torch.equal(sparse.rows, sparse._first_rows())
            torch.testing.assert_close(run(sparse, given, 3), first)


def test_a_write_without_gradients_ends_them() -> None:
    """What was written before is gone; a later read must give it no gradient."""
    key = torch.eye(4, dtype=torch.float64)
    old, new = (torch.ones(1, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    memory = WrittenMemory(4, 4, 2, dtype=torch.float64)
    memory.begin()
    one = torch.ones(1, dtype=torch.float64)
    memory.write(memory.find(key[:1], 1), key[:1], old, gate=one, mix=0 * one)
    before = memory.read(key[:1], 1).value.sum()
    with torch.no_grad():
        memory.write(memory.find(key[:1], 1), key[:1], 3 * new, gate=one, mix=one)
    read = memory.read(key[:1], 1)
    assert torch.equal(read.value, torch.full((1, 2), 3.0, dtype=torch.float64))
    (read.value.sum() + 5 * before).backward()
    assert old.grad is not None and old.grad.tolist() == [[5.0, 5.0]]
    assert new.grad is None


def test_no_graph_is_kept_without_gradients() -> None:
    sparse, _ = both(6, 2, "exact", 8)
    with torch.no_grad():
        total = run(sparse, parameters(6, (2,), 8), 6)
    assert not total.requires_grad
    assert sparse._tape is not None and sparse._tape._token.grad_fn is None
    assert sparse._tape._gradients.count == 0


@pytest.mark.parametrize("index", [*INDEXES, "faiss:Flat", "hierarchy:reach=50"])
def test_every_structure_follows_every_write(index: str) -> None:
    if index.startswith("faiss"):
        pytest.importorskip("faiss")
    torch.manual_seed(9)
    memory = WrittenMemory(40, 8, 4, sequences=2, index=index)
    one = torch.ones(2)
    for _ in range(2):
        memory.begin()
        for step in range(60):
            key = torch.nn.functional.normalize(torch.randn(2, 8), dim=1)
            mix = 0.5 * one if step % 3 == 0 else 0 * one
            memory.write(memory.find(key, 3), key, torch.randn(2, 4), gate=one, mix=mix)
            query = torch.randn(2, 8)
            found = memory.find(query, 40)
            score = (memory.rows[:, :, :8] @ query.unsqueeze(2)).squeeze(2)
            held = memory._finder._held
            for number in range(2):
                cells = found.cell[number][found.cell[number] >= 0]
                assert sorted(cells.tolist()) == held[number].nonzero().flatten().tolist()
                torch.testing.assert_close(
                    found.score[number, : len(cells)].detach(), score[number, cells].sort(descending=True)[0]
                )


def test_the_oldest_cell_is_written_and_reads_keep_cells_young() -> None:
    memory = WrittenMemory(3, 2)
    memory.begin()
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    one = torch.ones(1)
    for key in keys[:3]:
        memory.write(memory.find(key[None], 1), key[None], gate=one, mix=0 * one)
    memory.read(keys[:1], 1)  # cell 0 is younger now than cell 1
    memory.write(memory.find(keys[:1], 1), keys[3:], gate=one, mix=0 * one)
    assert memory.rows[0].tolist() == [keys[0].tolist(), keys[3].tolist(), keys[2].tolist()]


def test_an_empty_memory_reads_zero() -> None:
    memory = WrittenMemory(4, 2, 3, index="cluster")
    memory.begin()
    read = memory.read(torch.ones(2, 2), 2)
    assert read.value.tolist() == [[0.0] * 3] * 2
    assert read.cell.tolist() == [[-1, -1]] * 2


def test_small_weights_write_nothing() -> None:
    memory = WrittenMemory(4, 2)
    memory.begin()
    memory.write(
        memory.find(torch.ones(1, 2), 1), torch.ones(1, 2), gate=torch.tensor([0.004]), mix=torch.zeros(1)
    )
    assert not bool(memory.rows.any()) and memory.find(torch.ones(1, 2), 1).cell.tolist() == [[-1]]


def test_cells_are_followed_in_the_order_of_writing() -> None:
    memory = WrittenMemory(4, 4, 1, linked=True)
    memory.begin()
    key, one = torch.eye(4), torch.ones(1)

    def write(number: int) -> None:
        value = torch.tensor([[float(number)]], requires_grad=True)
        memory.write(memory.find(key[:1], 1), key[number % 4][None], value, gate=one, mix=0 * one)

    for number in range(4):
        write(number)
    read = memory.read(key[1:2], 1)
    assert memory.follow(read).value.tolist() == [[2.0]]
    assert memory.follow(read, back=True).value.tolist() == [[0.0]]
    assert memory.follow(memory.read(key[3:], 1)).cell.tolist() == [[-1]]  # the last one
    memory.write(memory.last, key[3:], torch.tensor([[9.0]]), gate=one, mix=one)  # changed, not newly written
    write(4)  # takes cell 0, the oldest
    chain = [memory.read(key[1:2], 1)]
    assert memory.follow(chain[0], back=True).cell.tolist() == [[-1]]
    for _ in range(3):
        chain.append(memory.follow(chain[-1]))
    assert [read.value.item() for read in chain] == [1.0, 2.0, 9.0, 4.0]
    with pytest.raises(ConfigError, match="linked=True"):
        plain = WrittenMemory(4, 4)
        plain.begin()
        plain.follow(read)


def test_a_blend_adds_weights_of_the_same_cell_and_sharpens() -> None:
    torch.manual_seed(0)
    memory = WrittenMemory(6, 3, 2, sequences=2, initial=torch.randn(6, 5, dtype=torch.float64), linked=True)
    memory.begin()
    query = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    other = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    shares = torch.softmax(torch.randn(2, 2, 2, dtype=torch.float64), dim=2).requires_grad_()
    power = (1 + torch.rand(2, 2, dtype=torch.float64)).requires_grad_()
    inputs = (query, other, shares, power)

    def sparse() -> Tensor:
        return memory.blend([memory.read(query, 6), memory.read(other, 6)], shares, 6, power).value

    def dense() -> Tensor:
        keys, values = memory.rows[:, :, :3], memory.rows[:, :, 3:]
        first, second = (torch.softmax(asked @ keys.transpose(1, 2), dim=2) for asked in (query, other))
        weight = (first * shares[..., :1] + second * shares[..., 1:]) ** power.unsqueeze(2)
        return weight / weight.sum(dim=2, keepdim=True) @ values

    torch.testing.assert_close(sparse(), dense())
    for one, two in zip(
        torch.autograd.grad(sparse().cos().sum(), inputs),
        torch.autograd.grad(dense().cos().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, two)
    kept = memory.blend([memory.read(query, 6), memory.read(other, 6)], shares, 2, power)
    assert kept.cell.shape == (2, 2, 2)
    torch.testing.assert_close(kept.weight.sum(dim=2), torch.ones(2, 2, dtype=torch.float64))


def test_a_copy_begins_with_the_first_rows() -> None:
    sparse, _ = both(6, 2, "cluster", 10, given=True)
    given = parameters(4, (2,), 10)
    total = run(sparse, given, 6)
    for made in (copy.deepcopy(sparse), pickle.loads(pickle.dumps(sparse))):
        assert torch.equal(made.rows, sparse._first_rows())
        torch.testing.assert_close(run(made, given, 6), total)
    assert sparse.state_dict() == {}


def test_a_converted_memory_begins_again() -> None:
    memory = WrittenMemory(4, 2)
    memory.begin()
    memory.double()
    with pytest.raises(NotFittedError, match="begin"):
        memory.read(torch.ones(1, 2), 1)
    memory.begin()
    assert memory.find(torch.ones(1, 2, dtype=torch.float64), 1).value.dtype == torch.float64


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no index"):
        WrittenMemory(4, 2, index="nothing")
    with pytest.raises(ConfigError, match="cells is 0"):
        WrittenMemory(0, 2)
    with pytest.raises(ShapeError, match="initial"):
        WrittenMemory(4, 2, 3, initial=torch.zeros(4, 2))
    memory = WrittenMemory(4, 2, 3, sequences=2)
    with pytest.raises(NotFittedError, match="begin"):
        memory.read(torch.ones(2, 2), 1)
    memory.begin()
    with pytest.raises(ShapeError, match="query"):
        memory.read(torch.ones(3, 2), 1)
    found, one = memory.find(torch.ones(2, 2), 1), torch.ones(2)
    with pytest.raises(ShapeError, match="value is missing"):
        memory.write(found, torch.ones(2, 2), gate=one, mix=one)
    five = torch.ones(2, 5)
    with pytest.raises(ConfigError, match="5 heads"):
        memory.write(
            memory.find(torch.ones(2, 5, 2), 1),
            torch.ones(2, 5, 2),
            torch.ones(2, 5, 3),
            gate=five,
            mix=0 * five,
        )
