"""An encoded memory's snapshot lags until it is renewed; its live keys never do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from hmn.errors import NotFittedError
from hmn.nn.memory import EncodedMemory, Memory

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
    memory: Memory = EncodedMemory(LinearEncoder())
    assert memory.values_of(torch.arange(2)) is None
