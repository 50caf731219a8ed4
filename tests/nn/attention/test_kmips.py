"""Attention over a stored memory agrees with its definition, forward and backward, wherever it is used."""

from __future__ import annotations

import copy
import datetime
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from hmn.errors import CellError, ConfigError, HMNError, NonFiniteError, ShapeError
from hmn.index.allowed import Where
from hmn.index.structures.exact import ExactIndex
from hmn.nn.attention.hard import HardAttention
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.attention.softmax import SoftmaxAttention
from hmn.nn.loss import sampled_nll
from hmn.nn.memory.stored import Memory
from hmn.results import Read

quick = settings(max_examples=40, deadline=None)
N, D, V, B = 12, 4, 3, 5


def tensors(
    n: int = N, b: int = B, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Keys, values and queries."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=generator).to(dtype) for shape in ((n, D), (n, V), (b, D)))  # type: ignore[return-value]


def by_definition(keys: Tensor, values: Tensor, query: Tensor, k: int, scale: float = 1.0) -> list[Tensor]:
    """Value, weight, cell, score of each query: a float64 loop."""
    rows = []
    for one in query.double():
        score = torch.stack([one @ key for key in keys.double()]) if len(keys) else one.new_empty(0)
        best = score.sort(descending=True)
        cell, score = best.indices[:k], best.values[:k]
        mass = (scale * score).exp()
        weight = mass / mass.sum()
        rows.append((weight @ values.double()[cell], weight, cell, score))
    return [torch.stack(column) for column in zip(*rows, strict=True)]


class Lagging(ExactIndex):
    """Exact search over a copy of the keys, which learns of changes only by ``update``."""

    def __init__(self) -> None:
        super().__init__()
        self.updated: list[list[int]] = []
        self.builds = 0

    def build(self, keys: Tensor, cells: Tensor | None = None) -> None:
        self.builds += 1
        super().build(keys.clone(), cells)

    def update(self, cells: Tensor, keys: Tensor) -> None:
        self.updated.append(cells.tolist())
        super().update(cells, keys)


class Densified(torch.autograd.Function):
    """The same tensor with a dense gradient: gradcheck refuses sparse ones."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # noqa: ARG004
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return gradient.to_dense() if gradient.is_sparse else gradient


@quick
@given(
    n=st.integers(1, 20),
    b=st.integers(1, 4),
    k=st.integers(1, 20),
    scale=st.sampled_from([0.3, 1.0, 4.0]),
    with_values=st.booleans(),
    seed=st.integers(0, 99),
)
def test_agrees_with_its_definition(
    n: int, b: int, k: int, scale: float, with_values: bool, seed: int
) -> None:
    keys, values, query = tensors(n, b, seed)
    memory = Memory(keys, values if with_values else None)
    read = KMIPSAttention(memory, k, scale=scale)(query)
    value, weight, cell, score = by_definition(keys, values if with_values else keys, query, k, scale)
    used = min(k, n)
    torch.testing.assert_close(read.value.double(), value, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(read.weight[:, :used].double(), weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(read.score[:, :used].double(), score, rtol=1e-4, atol=1e-5)
    assert torch.equal(read.cell[:, :used], cell)
    assert bool((read.cell[:, used:] == -1).all()) and bool((read.weight[:, used:] == 0).all())
    assert bool((read.score[:, used:] == -torch.inf).all())
    assert read.reads.tolist() == [n] * b
    assert read.weight.shape == read.cell.shape == read.score.shape == (b, k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("trainable", [False, True])
def test_all_cells_are_the_full_softmax(dtype: torch.dtype, trainable: bool) -> None:
    keys, values, query = tensors(500, dtype=dtype)
    memory = Memory(keys, values, trainable)
    few, full = KMIPSAttention(memory, 500)(query), SoftmaxAttention(memory)(query)
    assert few.value is not None and full.value is not None
    assert float((few.value - full.value).detach().abs().max()) < 1e-6
    assert float((few.weight - full.weight.gather(1, few.cell)).detach().abs().max()) < 1e-6
    assert full.cell[0].tolist() == list(range(500)) and full.weight.shape == (B, 500)
    assert full.reads.tolist() == [500 * keys.element_size() / 4] * B


@pytest.mark.parametrize("with_values", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["k-mips", "target", "strategy", "corrected", "softmax", "too few cells"])
def test_gradients(kind: str, sparse: bool, with_values: bool) -> None:
    keys, values, query = (tensor.double().requires_grad_() for tensor in tensors(6, 3, seed=3))
    memory = Memory(keys.detach(), values.detach() if with_values else None, True, sparse=sparse)
    target = torch.tensor([5, -1, 0]) if kind == "target" else None
    layer: nn.Module = (
        SoftmaxAttention(memory)
        if kind == "softmax"
        else KMIPSAttention(
            memory,
            8 if kind == "too few cells" else 3,
            strategy={"strategy": "k-mips:2+rand-block:2", "corrected": "rand-block:2"}.get(kind),
            corrected=kind == "corrected",
            scale=0.7,
        )
    )

    def read(query: Tensor, *tables: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(0)  # the same candidates each time
        names = ("memory.key_table.weight", "memory.value_table.weight")
        dense = [Densified.apply(table) for table in tables]
        got = functional_call(layer, dict(zip(names, dense, strict=False)), (query, target))
        return got.value, got.weight, got.score.masked_fill(got.cell < 0, 0.0)

    given_rows = (keys, values) if with_values else (keys,)
    assert torch.autograd.gradcheck(read, (query, *given_rows))


def test_gradients_are_sparse_rows_of_the_cells_that_were_read() -> None:
    keys, values, query = tensors()
    memory = Memory(keys, values, trainable=True)
    read = KMIPSAttention(memory, 2)(query)
    read.value.sum().backward()
    for table in (memory.keys, memory.values):
        assert table is not None and table.grad is not None and table.grad.is_sparse
        rows = set(table.grad.coalesce().indices()[0].tolist())
        assert rows == set(read.cell.flatten().tolist()) != set(range(N))
    dense = Memory(keys, values, trainable=True, sparse=False)
    KMIPSAttention(dense, 2)(query).value.sum().backward()
    assert dense.keys.grad is not None and memory.keys.grad is not None and not dense.keys.grad.is_sparse
    torch.testing.assert_close(dense.keys.grad, memory.keys.grad.to_dense())


def test_places_that_are_not_used_give_no_row_a_gradient() -> None:
    class First(ExactIndex):
        """Finds only one cell, and nothing for the fifth query."""

        def search(self, query: Tensor, k: int) -> Any:
            found = super().search(query, k)
            found.cell[:, 1:] = -1
            found.cell[B - 1 :] = -1
            return found

    keys, values, query = tensors()
    memory = Memory(keys, values, trainable=True)
    read = KMIPSAttention(memory, 3, First())(query.requires_grad_())
    assert read.weight.tolist() == [[1.0, 0.0, 0.0]] * (B - 1) + [[0.0, 0.0, 0.0]]
    assert read.value is not None and read.value[-1].tolist() == [0.0] * V
    (read.value.sum() + read.weight.pow(2).sum()).backward()
    assert query.grad is not None and bool(torch.isfinite(query.grad).all())
    assert memory.values is not None and memory.values.grad is not None
    wanted = torch.zeros(N).index_add(0, read.cell[:-1, 0], torch.ones(B - 1))
    torch.testing.assert_close(memory.values.grad.to_dense(), wanted.unsqueeze(1).expand(N, V))
    few = Memory(torch.eye(D), trainable=True)
    KMIPSAttention(few, 9, First())(torch.eye(D)[[2, 1]]).value.sum().backward()
    assert few.touched().tolist() == [1, 2]


def test_the_target_is_among_the_cells_of_its_query() -> None:
    keys, values, query = tensors()
    attention = KMIPSAttention(Memory(keys, values), 3)
    order = (query @ keys.T).argsort(dim=1, descending=True)
    target = torch.stack([order[0, 1], order[1, -1], order[2, 3], torch.tensor(-1), order[4, 0]])
    read, plain = attention(query, target), attention(query)
    wanted = order[:, :3].clone()
    wanted[1, 2], wanted[2, 2] = order[1, -1], order[2, 3]
    assert torch.equal(read.cell, wanted) and torch.equal(plain.cell, order[:, :3])
    score = (query @ keys.T).gather(1, wanted)
    torch.testing.assert_close(read.weight, score.softmax(dim=1))
    assert (
        KMIPSAttention(Memory(keys), 20)(query, target).cell[:, :N].sort(dim=1).values.tolist()
        == [list(range(N))] * B
    )


def test_a_strategy_reads_the_candidates_of_the_batch_in_training_and_only_there() -> None:
    keys, values, query = tensors(60)
    attention = KMIPSAttention(Memory(keys, values), 2, strategy="k-mips+rand-block:7")
    target = torch.tensor([3, 3, -1, 59, 0])
    read = attention(query, target)
    assert {3, 59, 0} <= set(read.cell[0].tolist()) and bool((read.cell == read.cell[0]).all())
    score = query @ keys[read.cell[0]].T
    torch.testing.assert_close(read.score, score)
    torch.testing.assert_close(read.weight, score.softmax(dim=1))
    torch.testing.assert_close(read.value, read.weight @ values[read.cell[0]])
    assert read.reads.tolist() == [read.cell.shape[1]] * B
    attention.eval()
    assert attention(query).cell.shape == (B, 2)


def test_corrected_weights_estimate_the_full_softmax() -> None:
    keys, values, query = tensors(40)
    memory = Memory(0.5 * keys, values)
    wanted = SoftmaxAttention(memory)(query).value
    mean = {}
    for corrected in (False, True):
        attention = KMIPSAttention(memory, 4, strategy="k-mips+rand-block:8", corrected=corrected)
        mean[corrected] = torch.stack([attention(query).value for _ in range(400)]).mean(dim=0)
    assert wanted is not None
    error = {corrected: float((value - wanted).norm()) for corrected, value in mean.items()}
    assert error[True] < 0.5 * error[False]


def test_the_corrected_weight_of_the_target_is_the_sampled_loss() -> None:
    keys, values, query = tensors(40)
    attention = KMIPSAttention(Memory(keys, values), 4, strategy="k-mips+rand-block:8", corrected=True)
    target = torch.arange(B)
    torch.manual_seed(3)
    read = attention(query, target)
    torch.manual_seed(3)
    drawn = attention.candidates(query, target)
    right = drawn.cell == target.unsqueeze(1)
    loss = sampled_nll(query @ keys[drawn.cell].T, right, drawn.probability)
    torch.testing.assert_close(loss, -read.weight[right].log())
    assert bool((drawn.probability < 1).any())


@pytest.mark.parametrize("leading", [(), (2, 3), (2, 0), (0,)])
def test_leading_dimensions_are_kept(leading: tuple[int, ...]) -> None:
    keys, values, _ = tensors()
    memory = Memory(keys, values)
    query = torch.randn(*leading, D, generator=torch.Generator().manual_seed(1))
    target = torch.zeros(leading, dtype=torch.int64)
    flat = query.reshape(-1, D)
    layers: list[tuple[nn.Module, int]] = [
        (KMIPSAttention(memory, 3), 3),
        (SoftmaxAttention(memory), N),
        (HardAttention(memory).eval(), 1),
    ]
    for layer, width in layers:
        read, wanted = layer(query, target), layer(flat, target.reshape(len(flat)))
        assert read.value.shape == (*leading, V) and read.reads.shape == leading
        assert read.weight.shape == read.cell.shape == read.score.shape == (*leading, width)
        torch.testing.assert_close(read.value.reshape(-1, V), wanted.value)


@pytest.mark.parametrize("with_values", [False, True])
@pytest.mark.parametrize("strategy", [None, "k-mips:2+rand-block:3"])
def test_an_empty_memory_reads_nothing(strategy: str | None, with_values: bool) -> None:
    keys, values, query = tensors(0)
    memory = Memory(keys, values if with_values else None, trainable=True)
    read = KMIPSAttention(memory, 2, strategy=strategy)(query.requires_grad_())
    assert read.value.tolist() == [[0.0] * (V if with_values else D)] * B
    assert bool((read.cell == -1).all()) and not bool(read.weight.any())
    assert SoftmaxAttention(memory)(query).value.tolist() == read.value.tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_storage(dtype: torch.dtype) -> None:
    keys, values, query = tensors()
    memory = Memory(keys.to(dtype), values.to(dtype), trainable=True)
    read = KMIPSAttention(memory, 3)(query.requires_grad_())
    value, weight, cell, score = by_definition(keys.to(dtype), values.to(dtype), query, 3)
    assert read.value.dtype == read.weight.dtype == torch.float32 and torch.equal(read.cell, cell)
    for got, wanted in ((read.value, value), (read.weight, weight), (read.score, score)):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-5)
    assert read.reads.tolist() == [N / 2] * B
    read.value.sum().backward()
    assert query.grad is not None and memory.keys.grad is not None and memory.keys.grad.dtype == dtype
    low = KMIPSAttention(memory, 3)(query.detach().to(dtype))
    assert low.value.dtype == dtype and low.weight.dtype == torch.float32


@pytest.mark.parametrize("strategy", [None, "k-mips:3"])
def test_autocast(strategy: str | None) -> None:
    keys, values, query = tensors(64)
    model = nn.Sequential(nn.Linear(D, D), KMIPSAttention(Memory(keys, values, True), 64, strategy=strategy))
    wanted = model(query).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        read = model(query)
        loss = read.value.float().pow(2).sum()
    assert read.value.dtype == read.weight.dtype == torch.float32
    if strategy is None:
        torch.testing.assert_close(read.value.float(), wanted, rtol=0.05, atol=0.05)
    loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.slow
# the tracer itself looks at the gradient of a tensor that is no leaf
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("targeted", [False, True])
def test_compiled_code_stops_only_for_the_candidates_of_a_batch(targeted: bool) -> None:
    keys, values, query = tensors()
    linear = nn.Linear(D, D)
    attention = KMIPSAttention(Memory(keys, values, True), 3, strategy="k-mips+rand-block:5")
    target = torch.arange(B) if targeted else None

    def model(query: Tensor) -> Tensor:
        read = attention(linear(query), target)
        return (read.value * 2).sum() - read.weight[:, 0].log().sum()

    explained = torch._dynamo.explain(attention)(query, target)
    assert (explained.graph_break_count, explained.graph_count) == (1, 2)
    explained = torch._dynamo.explain(model)(query)  # the model's frame stops where the layer's does
    assert all("KMIPSAttention._find" in reason.reason for reason in explained.break_reasons)
    assert all("docs/attention.md" in reason.reason for reason in explained.break_reasons)
    torch._dynamo.reset()
    torch.manual_seed(3)
    compiled = torch.compile(model, backend="aot_eager")(query)
    compiled.backward()
    gradients = [weight.grad for weight in (linear.weight, attention.memory.keys)]
    linear.zero_grad(), attention.zero_grad()
    torch.manual_seed(3)
    plain = model(query)
    plain.backward()
    torch.testing.assert_close(compiled, plain)
    for got, weight in zip(gradients, (linear.weight, attention.memory.keys), strict=True):
        assert got is not None and weight.grad is not None
        torch.testing.assert_close(got.to_dense(), weight.grad.to_dense())
    torch._dynamo.reset()


def test_the_state_is_the_memorys_and_the_index_follows_what_is_loaded() -> None:
    keys, values, query = tensors()
    saved = KMIPSAttention(Memory(keys, values, True), 3)
    state = saved.state_dict()
    assert sorted(state) == ["memory.key_table.weight", "memory.value_table.weight"]
    other, lagging = tensors(seed=9), Lagging()
    loaded = KMIPSAttention(Memory(other[0], other[1]), 3, lagging)  # as fixed memory: the same names
    loaded(query)
    loaded.load_state_dict(state)
    torch.testing.assert_close(loaded(query), saved(query))
    assert lagging.builds == 2
    loaded(query)
    assert lagging.builds == 2


def test_a_saved_index_is_taken_back() -> None:
    keys, _, query = tensors()
    first = KMIPSAttention(Memory(keys), 3)
    first(query)
    state = first.index.state_dict(with_keys=False)
    lagging = Lagging()
    second = KMIPSAttention(Memory(keys), 3, lagging)
    second.load_index(state, second.memory.snapshot())
    torch.testing.assert_close(second(query), first(query))
    assert lagging.builds == 0
    with pytest.raises(ShapeError, match=r"the index has 12 cells but the memory has 5: build it"):
        KMIPSAttention(Memory(keys[:5]), 3).load_index(first.index.state_dict())


def test_an_index_with_cells_is_searched_as_it_is() -> None:
    keys, _, query = tensors()
    lagging = Lagging()
    lagging.build(keys)
    KMIPSAttention(Memory(keys), 3, lagging)(query)
    assert lagging.builds == 1
    with pytest.raises(ShapeError, match="the index has 12 cells but the memory has 3"):
        KMIPSAttention(Memory(keys[:3]), 3, lagging)


def test_a_copy_is_another_memory() -> None:
    keys, values, query = tensors()
    attention = KMIPSAttention(Memory(keys.clone(), values, True), 1, strategy="k-mips:1+rand-block:2")
    attention(query)
    twin = copy.deepcopy(attention).eval()
    attention.eval()
    torch.testing.assert_close(twin(query), attention(query))
    before = attention(query)
    with torch.no_grad():
        twin.memory.keys[7] = 100 * query[0]
    assert twin(query).cell[0].tolist() == [7]  # its index searches its own keys
    torch.testing.assert_close(attention(query), before)


def test_a_memory_that_moves_takes_its_index_along() -> None:
    keys, _, query = tensors()
    attention = KMIPSAttention(Memory(keys), 3)
    attention(query)
    attention.to(torch.bfloat16)
    assert attention(query).reads.tolist() == [N / 2] * B
    attention.to(torch.float32)
    with torch.no_grad():
        attention.memory.keys[4] = 50 * query[1]
    assert int(attention(query).cell[1, 0]) == 4


def test_live_keys_decide_whatever_the_index_proposes() -> None:
    keys, values, _ = tensors(200)
    index, query = Lagging(), 9 * keys[7:8].clone()
    attention = KMIPSAttention(Memory(keys, values), 2, index)
    stale = attention(query).cell
    attention.memory.keys.data[7].mul_(-1.0)  # PyTorch does not see this change
    read = attention(query)
    assert torch.equal(read.cell, stale)
    torch.testing.assert_close(read.score, (query @ keys.T).gather(1, stale))
    attention.refresh(torch.tensor([7]))
    assert torch.equal(attention(query).cell, (query @ attention.memory.keys.T).topk(2, dim=1).indices)


def test_refresh_files_the_rows_that_a_step_of_sparse_adam_moved() -> None:
    keys, values, query = tensors()
    index = Lagging()
    attention = KMIPSAttention(Memory(keys.clone(), values.clone(), True), 2, index)
    adam = torch.optim.SparseAdam(attention.parameters(), lr=0.5)
    for step in range(3):
        adam.zero_grad()
        read = attention(query, torch.full((B,), step))
        read.value.pow(2).sum().backward()
        before = attention.memory.keys.detach().clone()
        adam.step()
        moved = (attention.memory.keys.detach() != before).any(dim=1).nonzero().squeeze(1)
        attention.refresh()
        cells = sorted(set(read.cell.flatten().tolist()))
        assert index.updated[-1] == cells and set(moved.tolist()) <= set(cells) and step in cells
        torch.testing.assert_close(index._rows.keys, attention.memory.keys.detach())
    adam.zero_grad()
    attention.refresh()
    assert len(index.updated) == 3  # nothing was read since
    attention.eval()
    with torch.no_grad():
        attention(query)
    attention.refresh()
    assert len(index.updated) == 3


def test_a_limited_number_of_moved_cells_is_filed_for_several_steps_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hmn.nn.memory.moves.STEPS_TOGETHER", 4)
    keys, values, query = tensors()
    index = Lagging()
    attention = KMIPSAttention(Memory(keys.clone(), values.clone(), True), 2, index, refiled=3)
    sgd = torch.optim.SGD(attention.parameters(), lr=0.1)
    read: list[set[int]] = []
    for step in range(8):
        sgd.zero_grad()
        found = attention(query)
        found.value.pow(2).sum().backward()
        sgd.step()
        attention.refresh()
        read.append(set(found.cell.flatten().tolist()))
        assert len(index.updated) == (step + 1) // 4
    for filed, steps in zip(index.updated, (read[:4], read[4:]), strict=True):
        assert filed == sorted(set(filed)) and 3 <= len(filed) <= 12
        assert set(filed) <= set().union(*steps)
    assert len(set().union(*read)) > 3, "the test needs more cells than are filed"


def test_refresh_files_rows_that_were_read_and_rows_with_gradients() -> None:
    keys, _, query = tensors()
    index = Lagging()
    attention = KMIPSAttention(Memory(keys.clone(), trainable=True), 1, index)
    read = attention(query)
    read.value.sum().backward()
    attention.zero_grad()
    attention.refresh()
    gradient = torch.sparse_coo_tensor([[11, 2]], torch.ones(2, D), (N, D), check_invariants=False)
    attention.memory.keys.grad = gradient  # as summed over processes
    attention.refresh()
    assert index.updated == [sorted(set(read.cell.flatten().tolist())), [2, 11]]


def test_the_memory_learns_what_it_is_asked() -> None:
    """Values start at nothing; queries near a cell's key teach it a class."""
    generator = torch.Generator().manual_seed(0)
    keys = nn.functional.normalize(torch.randn(300, 16, generator=generator), dim=1)
    attention = KMIPSAttention(Memory(keys.clone(), torch.zeros(300, 3), trainable=True), 4, scale=5.0)
    label = torch.arange(300) % 3
    adam = torch.optim.SparseAdam(attention.parameters(), lr=0.05)
    for _ in range(100):
        cell = torch.randint(300, (64,), generator=generator)
        query = keys[cell] + 0.05 * torch.randn(64, 16, generator=generator)
        adam.zero_grad()
        nn.functional.cross_entropy(attention(query).value, label[cell]).backward()
        adam.step()
        attention.refresh()
    assert float((attention(keys).value.argmax(dim=1) == label).float().mean()) > 0.95


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_on_every_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    keys, values, query = tensors(50)
    target = torch.arange(B)
    wanted = KMIPSAttention(Memory(keys.clone(), values.clone(), True), 3, strategy="k-mips:3+rand-block:9")
    moved = copy.deepcopy(wanted).to(device)
    for layer, place in ((wanted, "cpu"), (moved, device)):
        torch.manual_seed(0)
        read = layer(query.to(place), target.to(place))
        assert read.value.device.type == read.cell.device.type == read.reads.device.type == place
        read.value.pow(2).sum().backward()
        torch.optim.SparseAdam(layer.parameters(), lr=0.1).step()
        layer.refresh()
        layer.eval()
    for got, expected in zip(moved(query.to(device)), wanted(query), strict=True):
        torch.testing.assert_close(got.cpu(), expected)
    for kind in (SoftmaxAttention, HardAttention):
        assert kind(moved.memory)(query.to(device)).value.device.type == device


@pytest.mark.parametrize("codes", ["none", "int4"])
def test_over_clusters(codes: str) -> None:
    keys, values, query = tensors(200)
    memory = Memory(keys, values, trainable=True)
    every = KMIPSAttention(memory, 3, f"cluster:num_clusters=8,num_probes=8,codes={codes},rescore=200")
    torch.testing.assert_close(
        every(query), KMIPSAttention(memory, 3)(query)._replace(reads=every(query).reads)
    )
    attention = KMIPSAttention(
        memory, 3, f"cluster:codes={codes}", strategy="top-k:1+sample-k:1+rand-block:9"
    )
    read = attention(query, torch.arange(B))
    read.value.sum().backward()
    torch.optim.SparseAdam(memory.parameters(), lr=1.0).step()
    attention.refresh()
    attention.eval()
    found = attention(query)
    torch.testing.assert_close(found.score, (query @ memory.keys.T).gather(1, found.cell))
    copied = copy.deepcopy(attention)
    torch.testing.assert_close(copied(query).score, found.score)


def _one_process(rank: int, folder: str) -> None:
    """Two steps of a replica on its half of the batch; writes the keys, and which cells were filed."""
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(minutes=5),
    )
    for sparse in (False, True):
        keys, values, query = tensors()
        index = Lagging()
        attention = KMIPSAttention(Memory(keys, values, True, sparse=sparse), 2, index)
        model = nn.parallel.DistributedDataParallel(attention)
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            sgd.zero_grad()
            model(query[rank : rank + 4 : 2]).value.pow(2).sum().backward()
            sgd.step()
            attention.refresh()
        outcome = {"keys": attention.memory.keys.detach(), "filed": index.updated}
        torch.save(outcome, f"{folder}/{sparse}{rank}.pt")
    torch.distributed.barrier()
    # at once: taking a process group down waits for its threads, sometimes for ever
    os._exit(0)


@pytest.mark.slow
def test_distributed_data_parallel(tmp_path: Path) -> None:
    processes = torch.multiprocessing.spawn(_one_process, (str(tmp_path),), nprocs=2, join=False, daemon=True)
    deadline = time.monotonic() + 300
    while not processes.join(timeout=max(0, deadline - time.monotonic())):
        assert time.monotonic() < deadline, "the replicas have not finished"
    keys, values, query = tensors()
    attention = KMIPSAttention(Memory(keys.clone(), values.clone(), True), 2)
    sgd, filed = torch.optim.SGD(attention.parameters(), lr=0.1), []
    for _ in range(2):
        sgd.zero_grad()
        read = attention(query[[0, 2, 1, 3]])
        (read.value.pow(2).sum() / 2).backward()  # replicas take the mean
        sgd.step()
        filed.append(sorted(set(read.cell.flatten().tolist())))
    for sparse in (False, True):
        first, second = (torch.load(tmp_path / f"{sparse}{rank}.pt") for rank in range(2))
        torch.testing.assert_close(first["keys"], attention.memory.keys.detach())
        assert torch.equal(first["keys"], second["keys"]) and first["filed"] == second["filed"] == filed


def wrong_calls() -> dict[str, tuple[type[HMNError], str, Any]]:
    keys, values, query = tensors()
    memory = Memory(keys, values)
    few, full, hard = KMIPSAttention(memory, 2), SoftmaxAttention(memory), HardAttention(memory)
    whole = torch.zeros(B, dtype=torch.int64)
    wrong: dict[str, tuple[type[HMNError], str, Any]] = {
        "k": (
            ConfigError,
            "k is 0, expected a whole number of at least 1",
            lambda: KMIPSAttention(memory, 0),
        ),
        "k kind": (ConfigError, "k is 2.0", lambda: KMIPSAttention(memory, 2.0)),  # type: ignore[arg-type]
        "scale": (ConfigError, "scale is -1", lambda: KMIPSAttention(memory, 2, scale=-1)),
        "scale nan": (ConfigError, "scale is nan", lambda: SoftmaxAttention(memory, math.nan)),
        "memory": (ConfigError, "memory is Tensor, expected hmn.Memory", lambda: KMIPSAttention(keys, 2)),  # type: ignore[arg-type]
        "index": (ConfigError, "index is int, expected a search", lambda: KMIPSAttention(memory, 2, 7)),  # type: ignore[arg-type]
        "strategy": (ConfigError, "strategy is 7", lambda: KMIPSAttention(memory, 2, strategy=7)),  # type: ignore[arg-type]
        "clusters": (
            ConfigError,
            "strategy top-k:2 needs an index of clusters, got ExactIndex",
            lambda: KMIPSAttention(memory, 2, strategy="top-k:2"),
        ),
        "no strategy": (ConfigError, "the layer has no strategy", lambda: few.candidates(query)),
        "nan": (NonFiniteError, "query: row 0 holds NaN", lambda: few(query / 0 * 0)),
        "decay": (ConfigError, "decay is 1", lambda: HardAttention(memory, decay=1)),
        "nothing": (ConfigError, "the memory has no cells", lambda: HardAttention(Memory(keys[:0]))),
        "reward": (
            ShapeError,
            r"reward has shape \(1,\), expected \(5,\)",
            lambda: hard.loss(hard(query), torch.zeros(1)),
        ),
        "refiled": (
            ConfigError,
            "refiled is 0, expected a whole number of at least 1: the cells that are filed per step; or None",
            lambda: KMIPSAttention(memory, 2, refiled=0),
        ),
        "refresh": (CellError, "there is no cell 12", lambda: few(query) and few.refresh(torch.tensor([12]))),
    }
    for name, layer in {"k-mips": few, "softmax": full, "hard": hard}.items():
        calls: dict[str, tuple[type[HMNError], str, Any]] = {
            "features": (
                ShapeError,
                r"query has 3 features but the memory has 4: map it with a layer such as nn.Linear\(3, 4\)",
                lambda layer=layer: layer(query[:, :3]),
            ),
            "whole query": (ShapeError, "int64, expected floats", lambda layer=layer: layer(query.long())),
            "scalar": (ShapeError, "expected floats", lambda layer=layer: layer(torch.tensor(1.0))),
            "target shape": (
                ShapeError,
                r"target has shape \(4,\), expected \(5,\)",
                lambda layer=layer: layer(query, whole[1:]),
            ),
            "target kind": (ShapeError, "target are", lambda layer=layer: layer(query, whole.float())),
            "target": (
                CellError,
                "target holds cell 12, expected cells from 0 to 11, or -1",
                lambda layer=layer: layer(query, whole + 12),
            ),
            "negative": (CellError, "target holds cell -2", lambda layer=layer: layer(query, whole - 2)),
        }
        wrong |= {f"{name}: {case}": call for case, call in calls.items()}
    return wrong


@pytest.mark.parametrize("case", wrong_calls())
def test_bad_input_has_a_named_error(case: str) -> None:
    error, said, call = wrong_calls()[case]
    with pytest.raises(error, match=said):
        call()


def test_what_is_read_is_a_read() -> None:
    keys, values, query = tensors()
    assert isinstance(KMIPSAttention(Memory(keys, values), 2)(query), Read)


@pytest.mark.parametrize("index", ["exact", "cluster:num_clusters=5,num_probes=5,codes=none"])
def test_only_allowed_cells_are_read_and_get_gradients(index: str) -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(60, 8, generator=generator)
    query = torch.randn(2, 3, 8, generator=generator, requires_grad=True)
    memory = Memory(keys, torch.randn(60, 4, generator=generator), trainable=True)
    attention = KMIPSAttention(memory, 5, index)
    column, own = torch.arange(60) % 7, torch.tensor([[0, 1, 2], [3, 4, 9]])
    read = attention(query, allowed=Where(column, own))
    read.value.square().sum().backward()
    assert query.grad is not None and memory.keys.grad is not None
    for place in range(6):
        row, line = divmod(place, 3)
        cells = (column == own[row, line]).nonzero().squeeze(1)
        score = (keys[cells] @ query[row, line].detach()).double()
        best = score.sort(descending=True)
        assert read.cell[row, line].tolist() == [*cells[best.indices][:5].tolist(), *[-1] * 5][:5]
        if len(cells):
            weight = torch.softmax(best.values[:5], 0).float()
            value = weight @ memory.values[cells[best.indices[:5]]]
            torch.testing.assert_close(read.value[row, line], value, rtol=1e-4, atol=1e-5)
    assert read.value[1, 2].tolist() == [0.0] * 4 and query.grad[1, 2].tolist() == [0.0] * 8
    touched = set(memory.keys.grad.to_dense().abs().sum(dim=1).nonzero().squeeze(1).tolist())
    assert touched <= set(read.cell.flatten().tolist())
    assert set((column == 5).nonzero().squeeze(1).tolist()).isdisjoint(touched)
    assert torch.equal(attention(query, allowed=column < 9).cell, attention(query).cell)
    target = torch.tensor([[6, 6, 6], [6, 6, 6]])  # of another sequence: it is read all the same
    assert (attention(query, target, Where(column, own)).cell[..., -1] == 6).all()
    with pytest.raises(ShapeError, match=r"low of allowed is \(2, 2\) for queries \(2, 3\)"):
        attention(query, allowed=Where(column, own[:, :2]))
    strategic = KMIPSAttention(memory, 5, strategy="k-mips")
    with pytest.raises(ConfigError, match="a strategy in training got allowed, expected None"):
        strategic(query, target, column < 9)
    assert torch.equal(strategic.eval()(query, allowed=column < 9).cell, attention(query).cell)
