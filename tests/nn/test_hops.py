"""Reading in several hops agrees with a loop in float64, forward and backward, through any index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hmn.errors import ConfigError, ShapeError
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.attention.softmax import SoftmaxAttention
from hmn.nn.hops import HopReader, HopsRead, QueryUpdate
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory

N, D, V, B = 40, 5, 3, 7
INDEXES = ["exact", "cluster:num_clusters=4,num_probes=4", "hierarchy", "pca-tree", "wta-hash:prefix=4"]


def drawn(*shape: int, seed: int) -> Tensor:
    """Random numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(
    keys: Tensor, values: Tensor, query: Tensor, maps: list[tuple[Tensor, Tensor]], k: int
) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Last value, next query, and cells and weights of each hop: query by query, in the inputs' precision."""
    cells: list[Tensor] = []
    weights: list[Tensor] = []
    for of_query, of_value in maps:
        score = query @ keys.T
        best = score.topk(k, dim=1).indices
        weight = score.gather(1, best).softmax(dim=1)
        value = torch.einsum("bk,bkv->bv", weight, values[best])
        query = query @ of_query.T + value @ of_value.T
        cells.append(best)
        weights.append(weight)
    return value, query, cells, weights


class Rows(nn.Module):
    """Encodes cells as a linear map of fixed features."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.register_buffer("features", features)
        self.num_cells = len(features)
        self.map = nn.Linear(features.shape[1], D, bias=False, dtype=features.dtype)

    def forward(self, cells: Tensor) -> Tensor:
        keys: Tensor = self.map(self.features[cells])
        return keys

    @torch.no_grad()
    def all_keys(self) -> Iterator[Tensor]:
        yield self.map(self.features)


def update_of(hops: int, *, tied: bool = False) -> QueryUpdate:
    """An update whose maps are drawn."""
    update = QueryUpdate(D, hops, V, tied=tied).double()
    with torch.no_grad():
        for number, weight in enumerate(update.parameters()):
            weight.copy_(0.4 * drawn(*weight.shape, seed=5 + number))
    return update


def maps_of(update: QueryUpdate, hops: int) -> list[tuple[Tensor, Tensor]]:
    """Maps of the query and of what was read, hop by hop."""
    last = len(update.of_query) - 1
    numbers = [min(hop, last) for hop in range(hops)]
    return [(update.of_query[number].weight, update.of_value[number].weight) for number in numbers]  # type: ignore[misc]


@pytest.mark.usefixtures("every_group_entered")
@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("k", [1, 4, N])
def test_hops_agree_with_their_definition(index: str, k: int) -> None:
    keys, values, query = drawn(N, D, seed=0), drawn(N, V, seed=1), drawn(B, D, seed=2)
    if index.startswith("wta-hash") and k < N:
        pytest.skip("hashing finds some of the best cells alone")
    memory, update = Memory(keys.float(), values.float()), update_of(3).float()
    reader = HopReader(KMIPSAttention(memory, k, "exact" if index == "exact" else index), 3, update)
    if index == "pca-tree":
        reader.layers[0].index.num_leaves = 1 << 10  # type: ignore[union-attr]
    read = reader(query.float())
    with torch.no_grad():
        wanted = by_definition(keys, values, query, maps_of(update.double(), 3), k)
    torch.testing.assert_close(read.value.double(), wanted[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(read.query.double(), wanted[1], rtol=1e-4, atol=1e-4)
    for hop, cell, weight in zip(read.hops, wanted[2], wanted[3], strict=True):
        assert torch.equal(hop.cell, cell)
        torch.testing.assert_close(hop.weight.double(), weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_pass_through_all_hops(trainable: bool, tied: bool) -> None:
    hops, k = 4, 6
    keys, values, query = drawn(N, D, seed=0), drawn(N, V, seed=1), drawn(B, D, seed=2)
    memory, update = Memory(keys.clone(), values.clone(), trainable=trainable), update_of(hops, tied=tied)
    asked = query.clone().requires_grad_()
    read = HopReader(KMIPSAttention(memory, k, "cluster:num_clusters=4,num_probes=4"), hops, update)(asked)
    (read.value.square().sum() + read.query.sin().sum()).backward()  # type: ignore[no-untyped-call]

    own = [tensor.clone().requires_grad_() for tensor in (keys, values, query)]
    again = update_of(hops, tied=tied)
    value, last, _, _ = by_definition(*own, maps_of(again, hops), k)
    (value.square().sum() + last.sin().sum()).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(asked.grad, own[2].grad)
    for weight, wanted in zip(update.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, wanted.grad)
    if trainable:
        assert memory.values is not None
        torch.testing.assert_close(memory.keys.grad.to_dense(), own[0].grad)  # type: ignore[union-attr]
        torch.testing.assert_close(memory.values.grad.to_dense(), own[1].grad)  # type: ignore[union-attr]


def test_gradients_agree_with_finite_differences() -> None:
    layer = SoftmaxAttention(Memory(drawn(9, D, seed=0), drawn(9, V, seed=1)))
    reader = HopReader(layer, 3, update_of(3))

    def last(query: Tensor) -> tuple[Tensor, Tensor]:
        read = reader(query)
        return read.value, read.query

    assert torch.autograd.gradcheck(last, drawn(2, D, seed=3).requires_grad_())


@pytest.mark.usefixtures("every_group_entered")
@pytest.mark.parametrize("index", ["exact", "cluster:num_clusters=4,num_probes=4", "hierarchy"])
def test_encoded_memories_train_their_encoder_through_all_hops(index: str) -> None:
    torch.manual_seed(0)
    encoder, hops, k = Rows(drawn(N, 6, seed=4)), 3, 5
    memory = EncodedMemory(encoder)
    memory.renew()
    reader = HopReader(KMIPSAttention(memory, k, index), hops).double()
    read = reader(drawn(B, D, seed=2))
    read.value.square().sum().backward()
    found = encoder.map.weight.grad
    encoder.map.weight.grad = None
    keys = encoder(torch.arange(N))
    identity = torch.eye(D, dtype=torch.float64)
    value, _, cells, _ = by_definition(keys, keys, drawn(B, D, seed=2), [(identity, identity)] * hops, k)
    value.square().sum().backward()  # type: ignore[no-untyped-call]
    assert [torch.equal(hop.cell, cell) for hop, cell in zip(read.hops, cells, strict=True)] == [True] * hops
    torch.testing.assert_close(found, encoder.map.weight.grad)


def test_an_encoded_memory_that_was_moved_is_found_after_renewal() -> None:
    torch.manual_seed(0)
    encoder = Rows(drawn(N, 6, seed=4))
    memory = EncodedMemory(encoder)
    memory.renew()
    attention = KMIPSAttention(memory, 1, "cluster:num_clusters=4,num_probes=4")
    query = drawn(B, D, seed=2)
    before = attention(query).cell
    with torch.no_grad():
        encoder.map.weight.neg_()
    memory.renew()
    after = attention(query).cell
    assert torch.equal(after, (query @ memory.snapshot().T).topk(1, dim=1).indices)
    assert not torch.equal(before, after)


def test_reads_are_counted_hop_by_hop() -> None:
    memory = Memory(drawn(N, D, seed=0).float())
    attention = KMIPSAttention(memory, 3, "cluster:num_clusters=8,num_probes=2")
    read = HopReader(attention, 3)(drawn(B, D, seed=2).float())
    assert len(read.hops) == 3
    torch.testing.assert_close(read.reads, read.hops[0].reads + read.hops[1].reads + read.hops[2].reads)
    alone = attention(drawn(B, D, seed=2).float())
    assert torch.equal(read.hops[0].reads, alone.reads)
    assert bool((read.reads > read.hops[0].reads).all())


def test_each_hop_may_read_a_memory_of_its_own() -> None:
    first, second = (Memory(drawn(N, D, seed=seed).float()) for seed in (0, 1))
    layers = [KMIPSAttention(first, 2), KMIPSAttention(second, 3)]
    read = HopReader(layers)(drawn(B, D, seed=2).float())
    assert [hop.cell.shape for hop in read.hops] == [(B, 2), (B, 3)]
    asked = drawn(B, D, seed=2).float()
    torch.testing.assert_close(read.hops[1].value, layers[1](asked + read.hops[0].value).value)


def test_layers_may_share_an_index() -> None:
    indexed = IndexedMemory(Memory(drawn(N, D, seed=0).float()), "cluster")
    layers = [KMIPSAttention(indexed, 2), KMIPSAttention(indexed, 2)]
    query = drawn(B, D, seed=2).float()
    apart, shared = HopReader(layers)(query), HopReader(layers[0], 2)(query)
    assert torch.equal(apart.value, shared.value)


def test_leading_dimensions_are_kept() -> None:
    reader = HopReader(KMIPSAttention(Memory(drawn(N, D, seed=0).float()), 3), 2)
    query = drawn(2, 3, D, seed=2).float()
    read = reader(query)
    assert read.value.shape == read.query.shape == (2, 3, D)
    assert read.reads.shape == (2, 3)
    torch.testing.assert_close(read.value[1], reader(query[1]).value)


def test_targets_are_read_in_the_hop_they_are_given_for() -> None:
    reader = HopReader(KMIPSAttention(Memory(drawn(N, D, seed=0).float()), 2), 3)
    query = drawn(B, D, seed=2).float()
    last = torch.full((B,), 11)
    assert bool((reader(query, last).hops[-1].cell == 11).any(dim=1).all())
    first = reader(query, [torch.full((B,), 7), None, None])
    assert bool((first.hops[0].cell == 7).any(dim=1).all())


def test_hops_learn_to_follow_a_chain() -> None:
    """Cells lead from one to the next; training gives the end of three steps alone."""
    torch.manual_seed(0)
    names = torch.nn.functional.normalize(drawn(60, 32, seed=0).float(), dim=1)
    leads = torch.randperm(60)
    memory = Memory(12 * names, names[leads])
    reader = HopReader(KMIPSAttention(memory, 4), 3, QueryUpdate(32, 3))
    begin = torch.arange(60)
    end = leads[leads[leads[begin]]]
    adam = torch.optim.Adam(reader.update.parameters(), lr=0.02)

    def right() -> float:
        read: HopsRead = reader(names[begin])
        return float(((read.value @ names.T).argmax(dim=1) == end).float().mean())

    assert right() < 0.1
    for _ in range(100):
        value = reader(names[begin]).value
        loss = torch.nn.functional.cross_entropy(10 * value @ names.T, end)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert right() > 0.85


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda layer: HopReader(layer), "hops is missing"),
        (lambda layer: HopReader(layer, 0), "hops is 0, expected a whole number of at least 1"),
        (lambda layer: HopReader([layer, layer], 3), "there are 2 layers for 3 hops"),
        (lambda _: HopReader([]), "attention is \\[\\], expected a layer"),
        (lambda _: HopReader(nn.Linear(2, 2), 2), "Linear has no memory to take its sizes from"),
        (lambda _: QueryUpdate(4, 2, 0), "values is 0"),
        (lambda layer: HopReader(layer, 2)(torch.zeros(1, D), [None]), "target has 1 parts, expected 2"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(KMIPSAttention(Memory(drawn(N, D, seed=0).float()), 2))


def test_a_query_of_other_features_is_refused() -> None:
    with pytest.raises(ShapeError, match="query has 4 features but the memory has 5"):
        HopReader(KMIPSAttention(Memory(drawn(N, D, seed=0).float()), 2), 2)(torch.zeros(1, 4))
