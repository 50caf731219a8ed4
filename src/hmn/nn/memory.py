"""Memories: where the cells' keys live."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from hmn.errors import NotFittedError


class Memory(Protocol):
    """N cells with keys of D features and, perhaps, values of V features."""

    def __len__(self) -> int:
        """Number of cells, N."""
        ...

    def keys_of(self, cells: Tensor) -> Tensor:
        """Live keys ``(C, D)`` of cells ``(C,)``; gradients flow through them where keys are trained."""
        ...

    def values_of(self, cells: Tensor) -> Tensor | None:
        """Values ``(..., V)`` of cells ``(...)``, or None if this memory has none."""
        ...

    def snapshot(self) -> Tensor:
        """Keys ``(N, D)`` that an index may search: the keys themselves, or a copy that may lag behind."""
        ...


class CellEncoder(Protocol):
    """Makes keys of cells from their features."""

    num_cells: int

    def __call__(self, cells: Tensor) -> Tensor:
        """Keys ``(C, D)`` of cells ``(C,)``, with gradients to the encoder's weights."""
        ...

    def all_keys(self) -> Iterator[Tensor]:
        """Keys of all cells in order, in parts ``(n, D)``, without gradients."""
        ...


class EncodedMemory(nn.Module):
    """A memory whose keys are an encoder's output: every training step moves all of them a little.

    What is searched is a snapshot that is renewed now and then; what decides are fresh keys of the
    candidates (``keys_of``). At inference the snapshot is the memory.

    Args:
        encoder: a module that is a ``CellEncoder``.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self._snapshot: Tensor | None = None

    def __len__(self) -> int:
        """Number of cells, N."""
        count: int = self.encoder.num_cells  # type: ignore[assignment]
        return count

    def keys_of(self, cells: Tensor) -> Tensor:
        """Encode cells ``(C,)`` afresh, with gradients: ``(C, D)``."""
        keys: Tensor = self.encoder(cells)
        return keys

    def values_of(self, cells: Tensor) -> None:  # noqa: ARG002 - the protocol's signature
        """Encoded cells have no values: what is read is the cell itself."""
        return

    def snapshot(self) -> Tensor:
        """Keys ``(N, D)`` as they were at the last renewal.

        Raises:
            NotFittedError: the snapshot was never made.
        """
        if self._snapshot is None:
            raise NotFittedError("the memory has no keys yet: call renew() or load a trained model")
        return self._snapshot

    @torch.no_grad()
    def renew(self) -> Tensor:
        """Encode all cells again into the snapshot, in place if there is one; returns it."""
        training = self.encoder.training
        self.encoder.eval()
        at = 0
        try:
            for keys in self.encoder.all_keys():  # type: ignore[operator]
                if self._snapshot is None or self._snapshot.shape != (len(self), keys.shape[1]):
                    self._snapshot = keys.new_empty(len(self), keys.shape[1])
                self._snapshot[at : at + len(keys)] = keys
                at += len(keys)
        finally:
            self.encoder.train(training)
        return self.snapshot()

    def restore(self, snapshot: Tensor) -> None:
        """Take ``(N, D)`` keys that were saved in place of encoding them."""
        self._snapshot = snapshot
