"""The five parts work together: order of the calls, live scores, gradients to both encoders."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from hmn.errors import ConfigError
from hmn.index.registry import make_index
from hmn.nn.loss import marginal_nll
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.network import MemoryNetwork
from hmn.nn.parts import CellMemory
from hmn.nn.reader import KMIPSReader, SoftmaxReader
from hmn.results import Read

CELLS, FEATURES = 8, 3


class LinearEncoder(nn.Module):
    """Keys are a linear map of the cells' features."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.num_cells = CELLS
        self.features = torch.randn(CELLS, 5, generator=generator)
        self.map = nn.Parameter(torch.randn(5, FEATURES, generator=generator))

    def forward(self, cells: Tensor) -> Tensor:
        return self.features[cells] @ self.map

    def all_keys(self) -> Iterator[Tensor]:
        yield from (self(torch.arange(at, min(at + 3, CELLS))) for at in range(0, CELLS, 3))


class StoredMemory(nn.Module):
    """Cells whose keys are rows; values are their numbers."""

    def __init__(self, keys: Tensor) -> None:
        super().__init__()
        self.keys = keys

    def __len__(self) -> int:
        return len(self.keys)

    def keys_of(self, cells: Tensor) -> Tensor:
        return self.keys[cells]

    def values_of(self, cells: Tensor) -> Tensor:
        return cells.unsqueeze(-1).float()

    def snapshot(self) -> Tensor:
        return self.keys


def as_read(read: Read[Tensor | None]) -> Read[Tensor | None]:
    return read


def built(k: int = 2) -> tuple[MemoryNetwork[Read[Tensor | None]], nn.Linear, LinearEncoder, Tensor]:
    torch.manual_seed(1)
    encoder, inputs = LinearEncoder(), nn.Linear(4, FEATURES, bias=False)
    memory = EncodedMemory(encoder)
    memory.renew()
    indexed = IndexedMemory[CellMemory](memory)
    network = MemoryNetwork(inputs, indexed, KMIPSReader(indexed, k), as_read)
    return network, inputs, encoder, torch.randn(3, 4)


@torch.no_grad()
def test_reads_the_best_cells_of_the_snapshot() -> None:
    network, inputs, encoder, batch = built()
    read = network(batch, 2)
    every = inputs(batch) @ (encoder.features @ encoder.map).T
    torch.testing.assert_close(read.score, every.sort(dim=1, descending=True).values[:, :2])
    torch.testing.assert_close(every.gather(1, read.cell), read.score)


@torch.no_grad()
def test_a_restored_snapshot_is_searched_at_once() -> None:
    network, inputs, encoder, batch = built()
    saved = -(encoder.features @ encoder.map)
    memory = network.memory
    assert isinstance(memory, EncodedMemory)
    network(batch, 2)
    memory.restore(saved)
    assert torch.equal(network(batch, 2).cell, (inputs(batch) @ saved.T).topk(2).indices)


@torch.no_grad()
@pytest.mark.parametrize("name", ["cluster:num_clusters=3,num_probes=3", "wta-hash:prefix=2", "exact"])
def test_cells_are_filed_again_in_the_existing_structure(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, inputs, encoder, batch = built()
    memory, index = network.memory, make_index(name)
    assert isinstance(memory, EncodedMemory)
    network.indexed.index = index
    network.indexed.refile()
    assert len(index) == CELLS, "an index that was never built is built"
    encoder.map.mul_(-2.0)
    memory.renew()
    monkeypatch.setattr("hmn.nn.memory.indexed.CELLS_AT_A_TIME", 3)
    if name != "exact":
        monkeypatch.setattr(index, "build", None)
    network.indexed.refile()
    fresh = make_index(name)
    fresh.build(memory.snapshot())
    query = inputs(batch)
    for one, two in zip(index.search(query, CELLS)[:2], fresh.search(query, CELLS)[:2], strict=True):
        torch.testing.assert_close(one, two)
    shared = index._rows.keys  # type: ignore[attr-defined]
    assert shared.data_ptr() == memory.snapshot().data_ptr()


@torch.no_grad()
@pytest.mark.parametrize("name", ["cluster:num_clusters=3,num_probes=3", "exact"])
def test_cells_whose_keys_are_others_are_filed_again_and_no_others(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, inputs, encoder, batch = built()
    memory, index = network.memory, make_index(name)
    assert isinstance(memory, EncodedMemory)
    network.indexed.index = index
    cells = torch.tensor([4, 1])
    network.indexed.refresh(cells)
    assert len(index) == CELLS, "an index that was never built is built"
    filed: list[list[int]] = []
    if name != "exact":
        update = index.update
        monkeypatch.setattr(index, "update", lambda *args: (filed.append(args[0].tolist()), update(*args)))
    encoder.map.mul_(-2.0)
    memory.renew(cells)
    network.indexed.refresh(cells)
    assert filed == ([] if name == "exact" else [[4, 1]])
    best = index.search(inputs(batch), CELLS)
    torch.testing.assert_close(best.score, (inputs(batch) @ memory.snapshot().T).sort(1, True).values)


def test_attend_scores_live_keys_of_candidates_chosen_by_the_snapshot() -> None:
    network, inputs, encoder, batch = built()
    query = inputs(batch)
    chosen = set((query @ (encoder.features @ encoder.map).T).topk(2).indices.flatten().tolist())
    left_out = sorted(set(range(CELLS)) - chosen)
    assert left_out, "the test needs a cell that no query attends to"
    with torch.no_grad():
        encoder.map.mul_(-3.0)
    (cells, _), score = network.attend(query, torch.tensor(left_out[:1] * 2), torch.Generator())
    assert cells.tolist() == sorted(chosen | {left_out[0]})
    live = (encoder.features @ encoder.map).detach()
    wanted = [[float(one @ live[cell]) for cell in cells] for one in query.detach()]
    torch.testing.assert_close(score.detach(), torch.tensor(wanted))


def test_gradients_reach_both_encoders_through_attend() -> None:
    network, inputs, encoder, batch = built(k=CELLS)
    query = inputs(batch)
    target = torch.tensor([0, 5, 5])
    _, score = network.attend(query, target, torch.Generator())
    right = nn.functional.one_hot(target, CELLS).bool()
    torch.autograd.backward([marginal_nll(score, right).sum()])
    # by hand: the gradient of cross-entropy by the scores is softmax less one-hot
    error = score.detach().softmax(dim=1) - nn.functional.one_hot(target, CELLS)
    keys = (encoder.features @ encoder.map).detach()
    assert inputs.weight.grad is not None and encoder.map.grad is not None
    torch.testing.assert_close(inputs.weight.grad, (error @ keys).T @ batch)
    torch.testing.assert_close(encoder.map.grad, encoder.features.T @ (error.T @ query.detach()))


@pytest.mark.parametrize("kind", ["kmips", "softmax"])
def test_the_writer_writes_before_the_memory_is_read(kind: str) -> None:
    stored = StoredMemory(torch.zeros(4, 2))
    indexed = IndexedMemory[CellMemory](stored)
    reader = KMIPSReader(indexed, 1) if kind == "kmips" else SoftmaxReader(indexed)
    seen: list[CellMemory] = []

    def writer(query: Tensor, memory: CellMemory) -> None:
        seen.append(memory)
        memory.snapshot()[2] = 50.0 * query[0]

    network = MemoryNetwork(nn.Identity(), indexed, reader, as_read, writer)
    read = network(torch.tensor([[1.0, 1.0]]), 1)
    assert len(seen) == 1 and seen[0] is stored
    assert read.cell.tolist() == [[2]]
    assert read.value is not None and read.value.tolist() == [[2.0]]


def test_the_parts_are_visible_by_name_and_trained_with_the_network() -> None:
    network, inputs, encoder, _ = built()
    assert network.writer is None and network.output_module is as_read and network.input_module is inputs
    assert {id(one) for one in network.parameters()} == {id(inputs.weight), id(encoder.map)}
    assert network.reader.name == "kmips"


def test_a_reader_of_another_memory_is_refused() -> None:
    first, second = (IndexedMemory[CellMemory](StoredMemory(torch.eye(2))) for _ in range(2))
    with pytest.raises(ConfigError, match="the reader reads another memory than the network's"):
        MemoryNetwork(nn.Identity(), first, KMIPSReader(second, 1), as_read)
