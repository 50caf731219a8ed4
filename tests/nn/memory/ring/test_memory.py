"""A ring holds what a deque of the same length holds, whatever is appended, forgotten, saved and loaded."""

from __future__ import annotations

import copy
import io
import pickle
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from hmn.errors import ConfigError, NonFiniteError, ShapeError
from hmn.nn.attention.hard import HardAttention
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.attention.softmax import SoftmaxAttention
from hmn.nn.hops import HopReader
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.ring.memory import RingMemory
from hmn.nn.reader import KMIPSReader, SoftmaxReader

pytestmark = pytest.mark.usefixtures("every_group_entered")

C, D, V, K = 60, 6, 3, 4
STRUCTURES = {
    "exact": "exact",
    "exact in float16": "exact:storage=float16",
    "cluster": "cluster:num_probes=99,rescore=99",
    "hierarchy": "hierarchy:reach=999",
    "pca-tree": "pca-tree:leaf_size=20,num_leaves=64",
}
every_structure = pytest.mark.parametrize("name", STRUCTURES.values(), ids=STRUCTURES)


def saved(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def loaded(layer: KMIPSAttention) -> KMIPSAttention:
    """Another layer with the state of this one; its own ring was filled otherwise."""
    memory = RingMemory(C, D, V)
    memory.append(torch.randn(17, D), torch.randn(17, V))
    other = KMIPSAttention(memory, K, copy.deepcopy(layer.index) if len(memory) == len(layer.index) else None)
    other(torch.randn(2, D))
    other.load_state_dict(layer.state_dict())
    return other


def moved(layer: KMIPSAttention) -> KMIPSAttention:
    return layer.to(torch.float64).to(torch.float32)


WAYS: dict[str, Callable[[KMIPSAttention], KMIPSAttention]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "torch.save": saved,
    "load_state_dict": loaded,
    "to": moved,
}


class Rows:
    """The reference: rows in a deque, each with its cell, searched in float64 one by one."""

    def __init__(self) -> None:
        self.rows: deque[tuple[int, list[float], list[float]]] = deque(maxlen=C)
        self.written = 0

    def append(self, keys: Tensor, values: Tensor) -> list[int]:
        cells = []
        for key, value in zip(keys.tolist(), values.tolist(), strict=True):
            cells.append(self.written % C)
            self.rows.append((cells[-1], key, value))
            self.written += 1
        return [-1] * max(0, len(cells) - C) + cells[max(0, len(cells) - C) :]

    def best(self, query: list[float]) -> list[tuple[float, int, list[float]]]:
        scored = [
            (sum(q * x for q, x in zip(query, key, strict=True)), cell, value)
            for cell, key, value in self.rows
        ]
        return sorted(scored, reverse=True)[:K]


def rows(n: int, features: int, seed: int) -> Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed))


def ring(n: int = 0, **settings: Any) -> RingMemory:
    memory = RingMemory(C, D, V, **settings)
    memory.append(rows(n, D, 1), rows(n, V, 2))
    return memory


def assert_reads_as(layer: KMIPSAttention, reference: Rows, query: Tensor, tolerance: float) -> None:
    read = layer(query)
    assert len(layer.memory) == len(reference.rows)
    for number, one in enumerate(query.tolist()):
        best = reference.best(one)
        count = len(best)
        assert read.cell[number, count:].tolist() == [-1] * (K - count)
        assert read.weight[number, count:].tolist() == [0.0] * (K - count)
        if not best:
            assert not read.value[number].any()
            continue
        score = torch.tensor([entry[0] for entry in best], dtype=torch.float64)
        got = read.score[number, :count].double()
        torch.testing.assert_close(got.sort(descending=True).values, score, rtol=tolerance, atol=tolerance)
        if tolerance < 1e-3:
            assert set(read.cell[number, :count].tolist()) == {entry[1] for entry in best}
            value = torch.tensor([entry[2] for entry in best], dtype=torch.float64)
            torch.testing.assert_close(
                read.value[number].double(), score.softmax(0) @ value, rtol=tolerance, atol=tolerance
            )


@every_structure
@pytest.mark.parametrize("seed", range(3))
def test_reads_are_those_of_a_deque(name: str, seed: int) -> None:
    tolerance = 2e-3 if "float16" in name else 1e-4
    choose = random.Random(seed)
    torch.manual_seed(seed)
    layer, reference = KMIPSAttention(RingMemory(C, D, V), K, name), Rows()
    for step in range(60):
        what = choose.random()
        if what < 0.7:
            n = choose.choice([0, 1, 2, 5, 17, C, C + 1, 2 * C + 9] if what < 0.6 else [1])
            keys, values = torch.randn(n, D), torch.randn(n, V)
            assert layer.memory.append(keys, values).tolist() == reference.append(keys, values)
        elif what < 0.75:
            layer.memory.clear()
            reference = Rows()
        elif what < 0.9:
            layer = WAYS[choose.choice(list(WAYS))](layer)
        layer.train(step % 2 == 0)
        if choose.random() < 0.8:
            assert_reads_as(layer, reference, torch.randn(3, D), tolerance)


@every_structure
@pytest.mark.parametrize("way", WAYS)
def test_what_was_appended_and_not_yet_filed_is_in_a_copy(name: str, way: str) -> None:
    layer, query = KMIPSAttention(ring(C - 5), K, name), rows(3, D, 3)
    layer(query)
    reference = Rows()
    reference.append(rows(C - 5, D, 1), rows(C - 5, V, 2))
    keys, values = rows(9, D, 4), rows(9, V, 5)  # some evict, some do not
    layer.memory.append(keys, values)
    reference.append(keys, values)
    tolerance = 2e-3 if "float16" in name else 1e-4
    assert_reads_as(WAYS[way](layer), reference, query, tolerance)
    assert_reads_as(layer, reference, query, tolerance)


def test_every_reader_sees_filled_cells_alone() -> None:
    memory, query = ring(7), rows(4, D, 3)
    full = SoftmaxAttention(memory)(query)
    assert full.cell.shape == (4, 7)
    assert torch.allclose(
        full.value, torch.softmax(query @ rows(7, D, 1).T, dim=1) @ rows(7, V, 2), atol=1e-6
    )
    indexed = IndexedMemory(memory)
    for reader in (SoftmaxReader(indexed), KMIPSReader(indexed, K)):
        read = reader.read(query, 9)
        assert int(read.cell.max()) == 6
        assert bool((read.cell[:, 7:] == -1).all())
        assert not read.weight[:, 7:].any()
        candidates = reader.candidates(query, torch.tensor([2]), torch.Generator())
        assert int(candidates.cell.max()) < 7


def test_hard_attention_reads_a_ring_that_has_rows() -> None:
    memory = RingMemory(C, D)
    layer = HardAttention(memory)
    with pytest.raises(ConfigError, match="no cells"):
        layer(rows(2, D, 3))
    memory.append(rows(5, D, 1))
    assert (
        layer.eval()(rows(2, D, 3)).cell[:, 0].tolist() == (rows(2, D, 3) @ memory.keys.T).argmax(1).tolist()
    )


def test_hops_read_a_ring() -> None:
    memory = RingMemory(C, D)
    reader = HopReader(KMIPSAttention(memory, 9), hops=2)
    assert bool((reader(rows(4, D, 3)).hops[1].cell == -1).all())
    memory.append(rows(5, D, 1))
    assert int(reader(rows(4, D, 3)).hops[1].cell.max()) == 4


@pytest.mark.parametrize("way", ["append", "clear"])
@pytest.mark.parametrize("layer", [SoftmaxAttention, KMIPSAttention])
def test_gradients_are_those_of_the_rows_that_were_read(layer: type[nn.Module], way: str) -> None:
    memory = ring(C)
    attention = layer(memory) if layer is SoftmaxAttention else layer(memory, C)
    keys, values = memory.keys.clone(), memory.values.clone()
    query = rows(4, D, 3).requires_grad_()
    weight = torch.softmax(query @ keys.T, dim=1)
    (wanted,) = torch.autograd.grad((weight @ values).square().sum(), query)
    value = attention(query).value
    if way == "append":
        memory.append(rows(30, D, 8), rows(30, V, 9))
    else:
        memory.clear()
    (got,) = torch.autograd.grad(value.square().sum(), query)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@every_structure
def test_each_query_finds_rows_of_its_own_sequence(name: str) -> None:
    memory, choose = RingMemory(C, D, V), random.Random(0)
    layer = KMIPSAttention(memory, K, name)
    held: deque[tuple[int, Tensor, int]] = deque(maxlen=C)
    for step in range(30):
        n = choose.choice([0, 1, 5, 17, C + 3])
        keys, number = rows(n, D, step), torch.randint(5, (n,), generator=torch.Generator().manual_seed(step))
        cells = memory.append(keys, rows(n, V, step), number if step % 3 else step % 5)
        number = number if step % 3 else torch.full((n,), step % 5)
        held.extend(
            entry
            for entry in zip(cells.tolist(), keys.double(), number.tolist(), strict=True)
            if entry[0] >= 0
        )
        query, own = rows(6, D, 100 + step), torch.arange(6)  # nobody is in sequence 5
        read = layer.train(step % 2 == 0)(query.view(2, 3, D), allowed=memory.of(own.view(2, 3)))
        assert not read.weight[read.cell < 0].any()
        for one, sequence, cell in zip(
            query.double(), own.tolist(), read.cell.flatten(0, 1).tolist(), strict=True
        ):
            best = sorted(((float(one @ key), place) for place, key, whose in held if whose == sequence))[
                ::-1
            ]
            wanted = [place for _, place in best[:K]]
            if "float16" in name:
                assert len([place for place in cell if place >= 0]) == len(wanted)
            else:
                assert cell == wanted + [-1] * (K - len(wanted))
        assert sorted(memory.sequences.tolist()) == sorted(whose for _, _, whose in held)


def test_sequences_are_saved_with_the_rows() -> None:
    memory, other = ring(3), RingMemory(C, D, V)
    memory.append(rows(2, D, 1), rows(2, V, 2), torch.tensor([7, 9]))
    other.load_state_dict(memory.state_dict())
    assert other.to(torch.float16).sequences.tolist() == [0, 0, 0, 7, 9]
    assert other.append(rows(1, D, 1), rows(1, V, 1), torch.tensor(4)).tolist() == [5]
    assert other.sequences.tolist() == [0, 0, 0, 7, 9, 4]


def test_one_number_is_the_sequence_of_all_queries() -> None:
    layer, query = KMIPSAttention(ring(3), K), rows(2, D, 3)
    assert bool((layer(query, allowed=layer.memory.of(0)).cell[:, :3] >= 0).all())
    assert bool((layer(query, allowed=layer.memory.of(1)).cell == -1).all())


@pytest.mark.parametrize("sequence", [torch.tensor([1]), torch.tensor([1.0, 2.0]), torch.ones(2, 1), "first"])
def test_bad_sequences_are_refused_and_nothing_is_written(sequence: Any) -> None:
    memory = ring(3)
    with pytest.raises(ShapeError, match="sequence"):
        memory.append(rows(2, D, 1), rows(2, V, 2), sequence)
    assert len(memory) == 3


def test_rows_are_detached_copies_in_the_type_of_the_memory() -> None:
    memory = RingMemory(C, D, V, dtype=torch.float16)
    keys = rows(4, D, 1).requires_grad_()
    memory.append(2 * keys, rows(4, V, 2).double())
    assert memory.keys.dtype == memory.values.dtype == torch.float16
    assert not memory.keys.requires_grad
    before = memory.keys.clone()
    with torch.no_grad():
        keys.zero_()
    assert torch.equal(memory.keys, before)


def test_a_ring_without_values_reads_its_keys() -> None:
    memory = RingMemory(C, D)
    memory.append(rows(3, D, 1))
    read = KMIPSAttention(memory, 3)(rows(2, D, 2))
    assert read.value.shape == (2, D)


def test_a_ring_of_one_cell_holds_the_last_row() -> None:
    memory = RingMemory(1, D)
    assert memory.append(rows(3, D, 1)).tolist() == [-1, -1, 0]
    assert torch.equal(memory.keys, rows(3, D, 1)[2:])


def test_cells_that_are_not_filled_cannot_be_named() -> None:
    memory = ring(4)
    with pytest.raises(Exception, match="no cell 4"):
        memory.keys_of(torch.tensor([4]))
    with pytest.raises(Exception, match="cell 4"):
        KMIPSAttention(memory, 2)(rows(1, D, 3), torch.tensor([4]))


@pytest.mark.parametrize(
    ("keys", "values", "error", "message"),
    [
        (torch.ones(2, D + 1), torch.ones(2, V), ShapeError, "keys have 7 features"),
        (torch.ones(2, D), torch.ones(2, V + 1), ShapeError, "values have 4 features"),
        (torch.ones(2, D), torch.ones(3, V), ShapeError, "3 values for 2 keys"),
        (torch.ones(D), torch.ones(1, V), ShapeError, "float matrix"),
        (torch.ones(2, D, dtype=torch.int64), torch.ones(2, V), ShapeError, "float matrix"),
        (torch.full((2, D), torch.nan), torch.ones(2, V), NonFiniteError, "keys"),
        (torch.ones(2, D), torch.full((2, V), torch.inf), NonFiniteError, "values"),
        (torch.ones(2, D), None, ConfigError, "no values are given"),
    ],
)
def test_bad_rows_are_refused_and_nothing_is_written(
    keys: Tensor, values: Tensor | None, error: type[Exception], message: str
) -> None:
    memory = ring(3)
    before = copy.deepcopy(memory.state_dict())
    with pytest.raises(error, match=message):
        memory.append(keys, values)
    assert all(torch.equal(before[name], value) for name, value in memory.state_dict().items())


def test_values_are_refused_where_there_are_none() -> None:
    with pytest.raises(ConfigError, match="values are given, expected none"):
        RingMemory(C, D).append(rows(2, D, 1), rows(2, V, 2))


@pytest.mark.parametrize("settings", [(0, 4), (4, 0), (4, 4, 0), (2.5, 4), (True, 4)])
def test_bad_sizes_are_refused(settings: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError, match="expected a whole number"):
        RingMemory(*settings)


def test_numbers_beyond_the_type_are_refused() -> None:
    with pytest.raises(NonFiniteError, match="float16"):
        RingMemory(C, D, dtype=torch.float16).append(torch.full((1, D), 1e6))


def test_a_state_of_another_capacity_leaves_the_ring_as_it_was() -> None:
    memory, other = ring(3), RingMemory(C + 1, D, V)
    other.append(rows(9, D, 1), rows(9, V, 2))
    with pytest.raises(RuntimeError, match="size mismatch"):
        memory.load_state_dict(other.state_dict())
    assert len(memory) == 3


@pytest.mark.parametrize(
    "state", [torch.tensor(-1), torch.tensor(1.5), torch.tensor([1, 2]), torch.tensor(2.0)]
)
def test_a_damaged_number_of_rows_is_refused(state: Tensor) -> None:
    memory = ring(3)
    with pytest.raises(ShapeError, match="state of a ring"):
        memory.load_state_dict({**memory.state_dict(), "_extra_state": state})


def test_a_ring_on_the_meta_device_gets_its_rows_from_a_state() -> None:
    with torch.device("meta"):
        memory = RingMemory(C, D, V)
    memory.to_empty(device="cpu")
    memory.load_state_dict(ring(C + 7).state_dict())
    assert torch.equal(memory.keys, ring(C + 7).keys)
    assert memory.append(rows(1, D, 3), rows(1, V, 4)).tolist() == [7]


def test_rows_that_are_appended_under_inference_mode_are_read() -> None:
    with torch.inference_mode():
        memory = ring(5)
        layer = KMIPSAttention(memory, 2)
        layer(rows(1, D, 3))
        memory.append(9 * rows(1, D, 3), rows(1, V, 4))
        assert int(layer(rows(1, D, 3)).cell[0, 0]) == 5


@every_structure
def test_functional_call_reads_the_rows_that_it_is_given(name: str) -> None:
    layer, query = KMIPSAttention(ring(9), 1, name), rows(3, D, 3)
    own = layer(query).cell
    others = ring(9).table.clone()
    others[4] = 100 * query[0]
    given = {"memory.key_table.weight": others}
    assert int(functional_call(layer, given, (query,)).cell[0, 0]) == 4
    assert torch.equal(layer(query).cell, own)
    layer.memory.append(200 * query[:1], rows(1, V, 5))
    assert int(functional_call(layer, given, (query,)).cell[0, 0]) == 4
    assert int(layer(query).cell[0, 0]) == 9


@pytest.mark.slow
def test_a_compiled_read_stays_compiled_while_rows_are_appended() -> None:
    torch._dynamo.reset()
    graphs: list[Any] = []

    def counted(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    layer = KMIPSAttention(RingMemory(C, D, V), K, "cluster:num_probes=99,rescore=99")
    compiled = torch.compile(layer, backend=counted, fullgraph=True)
    for number in range(5):
        query = rows(3, D, number)
        read, wanted = compiled(query), layer(query)
        assert torch.equal(read.cell, wanted.cell)
        torch.testing.assert_close(read.value, wanted.value)
        layer.memory.append(rows(25, D, number), rows(25, V, number))
    assert len(graphs) == 1
    torch._dynamo.reset()


@pytest.mark.slow
def test_compiled_code_stops_where_rows_are_appended() -> None:
    torch._dynamo.reset()
    memory = RingMemory(C, D)

    def step(keys: Tensor) -> Tensor:
        doubled = 2 * keys
        memory.append(doubled)
        return doubled + 1

    compiled = torch.compile(step, backend="eager")
    for number in range(4):
        assert torch.equal(compiled(rows(2, D, number)), 2 * rows(2, D, number) + 1)
        assert torch.equal(memory.keys[-2:], 2 * rows(2, D, number))
    torch._dynamo.reset()
