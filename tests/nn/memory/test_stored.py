"""Stored rows are shared and learn sparsely; an encoded memory's snapshot lags, its live keys never do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hmn.errors import CellError, ConfigError, NonFiniteError, NotFittedError, ShapeError
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.stored import Memory
from hmn.nn.parts import CellMemory

CELLS, FEATURES = 7, 3


class LinearEncoder(nn.Module):
    """Keys are a linear map of the cells' features, with dropout while it is trained."""

    def __init__(self, cells: int = CELLS) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.num_cells = cells
        self.features = torch.randn(cells, 5, generator=generator)
        self.map = nn.Parameter(torch.randn(5, FEATURES, generator=generator))
        self.drop = nn.Dropout(0.5)

    def forward(self, cells: Tensor) -> Tensor:
        keys: Tensor = self.drop(self.features[cells]) @ self.map
        return keys

    def all_keys(self) -> Iterator[Tensor]:
        for at in range(0, self.num_cells, 3):
            yield self(torch.arange(at, min(at + 3, self.num_cells)))

    def wanted(self) -> Tensor:
        return self.features @ self.map.detach()


def memory_of(encoder: LinearEncoder) -> EncodedMemory:
    memory = EncodedMemory(encoder)
    memory.eval()
    return memory


def test_there_is_no_snapshot_before_the_first_renewal() -> None:
    memory = EncodedMemory(LinearEncoder())
    assert len(memory) == CELLS
    with pytest.raises(NotFittedError, match=r"call renew\(\) or load a trained model"):
        memory.snapshot()


def test_renewal_encodes_all_cells_without_gradients() -> None:
    encoder = LinearEncoder()
    renewed = memory_of(encoder).renew()
    assert renewed.shape == (CELLS, FEATURES) and not renewed.requires_grad
    torch.testing.assert_close(renewed, encoder.wanted())


def test_the_snapshot_lags_until_it_is_renewed_in_place() -> None:
    encoder = LinearEncoder()
    memory = memory_of(encoder)
    snapshot = memory.renew()
    before = snapshot.clone()
    with torch.no_grad():
        encoder.map.mul_(-2.0)
    assert torch.equal(memory.snapshot(), before)
    torch.testing.assert_close(memory.keys_of(torch.arange(CELLS)).detach(), -2.0 * before)
    assert memory.renew() is snapshot is memory.snapshot()
    torch.testing.assert_close(snapshot, -2.0 * before)


@pytest.mark.parametrize("training", [True, False])
def test_renewal_drops_nothing_and_leaves_the_mode_as_it_was(training: bool) -> None:
    encoder = LinearEncoder()
    memory = EncodedMemory(encoder)
    memory.train(training)
    torch.testing.assert_close(memory.renew(), encoder.wanted())
    assert encoder.training is training and encoder.drop.training is training


def test_live_keys_carry_gradients_to_the_encoder() -> None:
    encoder = LinearEncoder()
    cells = torch.tensor([4, 1, 4])
    torch.autograd.backward([memory_of(encoder).keys_of(cells).sum()])
    wanted = encoder.features[cells].sum(dim=0, keepdim=True).T.expand(5, FEATURES)
    assert encoder.map.grad is not None
    torch.testing.assert_close(encoder.map.grad, wanted)


@pytest.mark.parametrize("training", [True, False])
def test_some_cells_are_renewed_and_no_others(training: bool) -> None:
    encoder = LinearEncoder()
    memory = EncodedMemory(encoder)
    with pytest.raises(NotFittedError, match="no keys yet"):
        memory.renew(torch.tensor([0]))
    before = memory.renew().clone()
    memory.train(training)
    with torch.no_grad():
        encoder.map.mul_(-2.0)
    cells = torch.tensor([5, 1])
    snapshot = memory.renew(cells)
    assert encoder.training is training
    wanted = before.clone()
    wanted[cells] *= -2.0
    torch.testing.assert_close(snapshot, wanted)


def test_a_memory_of_another_size_gets_another_snapshot() -> None:
    encoder = LinearEncoder()
    memory = memory_of(encoder)
    memory.restore(torch.zeros(2, FEATURES))
    torch.testing.assert_close(memory.renew(), encoder.wanted())


def test_saved_keys_are_taken_back() -> None:
    memory, saved = memory_of(LinearEncoder()), torch.ones(CELLS, FEATURES)
    memory.restore(saved)
    assert memory.snapshot() is saved


def test_there_are_no_values() -> None:
    memory: CellMemory = EncodedMemory(LinearEncoder())
    assert memory.values_of(torch.arange(2)) is None


def rows(n: int = 6, features: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("trainable", [False, True])
def test_a_stored_memory_gives_its_rows(trainable: bool) -> None:
    keys, values = rows(), rows(6, 2, 1)
    memory: CellMemory = Memory(keys, values, trainable)
    cells = torch.tensor([[5, 0], [2, 2]])
    assert len(memory) == 6
    assert torch.equal(memory.keys_of(cells), keys[cells])
    of_cells = memory.values_of(cells)
    assert of_cells is not None and torch.equal(of_cells, values[cells])
    assert memory.keys_of(cells[:0]).shape == (0, 2, 3)


def test_without_values_the_keys_are_what_is_read() -> None:
    memory = Memory(rows())
    assert memory.values is None
    assert torch.equal(memory.values_of(torch.tensor([4])), memory.keys[4:5])


@pytest.mark.parametrize("trainable", [False, True])
def test_rows_are_shared_and_not_copied(trainable: bool) -> None:
    keys = rows()
    memory = Memory(keys, trainable=trainable)
    assert memory.snapshot().data_ptr() == memory.keys.data_ptr() == keys.data_ptr()
    keys[2] = 7.0
    assert memory.snapshot()[2].tolist() == [7.0] * 3 and not memory.snapshot().requires_grad


def test_a_trained_memory_has_parameters_and_a_fixed_one_buffers_of_the_same_names() -> None:
    trained, fixed = Memory(rows(), rows(6, 2), True), Memory(rows(), rows(6, 2))
    names = {"key_table.weight", "value_table.weight"}
    assert dict(trained.named_parameters()).keys() == dict(fixed.named_buffers()).keys() == names
    assert not list(fixed.parameters()) and not list(trained.buffers())
    assert trained.keys.requires_grad and trained.values is not None and trained.values.requires_grad
    fixed.load_state_dict(Memory(rows(seed=4), rows(6, 2, 5), True).state_dict())
    assert torch.equal(fixed.keys, rows(seed=4))


@pytest.mark.parametrize("sparse", [True, False])
def test_gradients_are_those_of_the_rows_that_were_used(sparse: bool) -> None:
    memory = Memory(rows(), rows(6, 2), True, sparse=sparse)
    assert memory.touched().tolist() == []
    weight = rows(3, 3, 9)
    torch.autograd.backward([(memory.keys_of(torch.tensor([4, 1, 4])) * weight).sum()])
    gradient = memory.keys.grad
    assert gradient is not None and gradient.is_sparse is sparse
    wanted = torch.zeros(6, 3).index_add(0, torch.tensor([4, 1, 4]), weight)
    torch.testing.assert_close(gradient.to_dense(), wanted)
    assert memory.touched().tolist() == [1, 4]
    assert memory.values is not None and memory.values.grad is None


@pytest.mark.parametrize("sparse", [True, False])
def test_a_row_is_touched_by_a_gradient_of_any_of_its_features(sparse: bool) -> None:
    memory = Memory(rows(), trainable=True, sparse=sparse)
    memory.keys_of(torch.tensor([5, 2]))[:, 1].sum().backward()
    assert memory.touched().tolist() == [2, 5]


@pytest.mark.parametrize(("sparse", "kind"), [(True, torch.optim.SparseAdam), (False, torch.optim.Adam)])
def test_optimisers_move_the_rows_that_were_used(sparse: bool, kind: type[torch.optim.Optimizer]) -> None:
    memory = Memory(rows(), trainable=True, sparse=sparse)
    optimiser = kind(memory.parameters(), lr=0.1)  # type: ignore[call-arg]
    torch.autograd.backward([memory.keys_of(torch.tensor([3, 0])).sum()])
    optimiser.step()
    moved = memory.keys.detach() - rows()
    wanted = torch.zeros(6, 3)
    wanted[[0, 3]] = -0.1  # the first step of Adam is the learning rate
    torch.testing.assert_close(moved, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rows_keep_their_precision(dtype: torch.dtype) -> None:
    memory = Memory(rows().to(dtype), rows().to(dtype), True)
    assert memory.keys_of(torch.tensor([1])).dtype == memory.values_of(torch.tensor([1])).dtype == dtype


def test_an_empty_memory() -> None:
    memory = Memory(torch.zeros(0, 3), torch.zeros(0, 2), True)
    assert len(memory) == 0 and memory.keys_of(torch.zeros(0, dtype=torch.int64)).shape == (0, 3)


@pytest.mark.parametrize("bad", [6, -1])
def test_names_a_cell_that_is_not_there(bad: int) -> None:
    memory = Memory(rows(), rows())
    for read in (memory.keys_of, memory.values_of):
        with pytest.raises(CellError, match=f"there is no cell {bad}, expected cells from 0 to 5"):
            read(torch.tensor([2, bad, 3]))


def test_refuses_cells_that_are_no_whole_numbers() -> None:
    with pytest.raises(
        ShapeError, match=r"cells are \(2,\) of torch.float32, expected one dimension of int64 ids"
    ):
        Memory(rows()).keys_of(torch.zeros(2))


def test_takes_arrays_and_lists_and_refuses_what_is_neither() -> None:
    for keys in (np.eye(3, dtype=np.float32), np.eye(3).tolist()):
        assert torch.equal(Memory(keys).keys.float(), torch.eye(3))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="keys is of type str, expected a tensor, a NumPy array or lists"):
        Memory("keys")  # type: ignore[arg-type]


def test_refuses_rows_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="there are 5 values for 6 keys, expected one value per key"):
        Memory(rows(), rows(5))
    with pytest.raises(ShapeError, match=r"keys are \(3,\).*expected a float matrix"):
        Memory(torch.zeros(3))
    with pytest.raises(ShapeError, match=r"values are \(6, 3\) of torch.int64"):
        Memory(rows(), rows().long())
    bad = rows()
    bad[4, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="keys: row 4 holds NaN"):
        Memory(bad)
    with pytest.raises(NonFiniteError, match="values: row 4 holds NaN"):
        Memory(rows(), bad)


def test_keys_are_not_replaced_by_assignment() -> None:
    memory = Memory(torch.zeros(3, 2), torch.zeros(3, 1), trainable=True)
    for name, given in (("keys", torch.ones(3, 2)), ("values", nn.Parameter(torch.ones(3, 1)))):
        with pytest.raises(ConfigError, match=f"the {name} of a memory are not replaced by assignment"):
            setattr(memory, name, given)
