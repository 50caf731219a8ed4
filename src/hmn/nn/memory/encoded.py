"""Encoded memories: the keys are an encoder's output."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hmn.errors import ConfigError, NotFittedError
from hmn.nn.memory.growing import GrowingRows


class EncodedMemory(nn.Module):
    """A memory whose keys are an encoder's output: every training step moves all of them a little.

    The index searches a snapshot that is renewed now and then. Candidates are scored by fresh keys
    (``keys_of``). At inference the snapshot is the memory.

    Args:
        encoder: a module with the methods of ``CellEncoder``.

    Attributes:
        gaps: cells that stand for nothing: no index holds them. ``IndexedMemory.add`` and ``remove`` change
            them.

    Raises:
        ConfigError: it is something else.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        if not isinstance(encoder, nn.Module) or not hasattr(encoder, "all_keys"):
            raise ConfigError(
                f"encoder is {type(encoder).__name__}, expected an nn.Module with the methods of CellEncoder"
            )
        self.encoder = encoder
        self._snapshot: Tensor | None = None
        self._growing = GrowingRows()
        self.gaps: set[int] = set()

    def __len__(self) -> int:
        """Number of cells, N."""
        count: int = self.encoder.num_cells  # type: ignore[assignment]
        return count

    def keys_of(self, cells: Tensor) -> Tensor:
        """Encode cells ``(C,)`` afresh, with gradients: ``(C, D)``."""
        keys: Tensor = self.encoder(cells)
        return keys

    def values_of(self, cells: Tensor) -> None:  # noqa: ARG002 - the protocol's signature
        """Encoded cells have no values: the output module looks at the cells themselves."""
        return

    def snapshot(self) -> Tensor:
        """Keys ``(N, D)`` of the last renewal.

        Raises:
            NotFittedError: the snapshot was never made.
        """
        if self._snapshot is None:
            raise NotFittedError("the memory has no keys yet: call renew() or load a trained model")
        return self._snapshot

    def snapshot_of(self, cells: Tensor) -> Tensor:
        """Keys ``(..., D)`` of cells ``(...)`` as of the last renewal, without gradients."""
        return self.snapshot()[cells]

    @torch.no_grad()
    def renew(self, cells: Tensor | None = None) -> Tensor:
        """Encode cells again into the snapshot, in place if it exists; returns it.

        Args:
            cells: ``(n,)`` cells to encode; all if not given.

        Raises:
            NotFittedError: only some cells are to be renewed but the snapshot was never made.
        """
        training = self.encoder.training
        if training:  # each call goes through all modules
            self.encoder.eval()
        start = 0
        try:
            if cells is not None:
                self.snapshot()[cells] = self.encoder(cells)
                return self.snapshot()
            for keys in self._parts():
                if self._snapshot is None or self._snapshot.shape != (len(self), keys.shape[1]):
                    with torch.inference_mode(False):  # else PyTorch would not count its changes
                        self._snapshot = keys.new_empty(len(self), keys.shape[1])
                self._snapshot[start : start + len(keys)] = keys
                start += len(keys)
        finally:
            if training:
                self.encoder.train()
        return self.snapshot()

    def _parts(self) -> Iterable[Tensor]:
        """Keys of all cells in parts ``(n, D)``; one part of none if there are no cells."""
        if not len(self):
            return [self.encoder(torch.empty(0, dtype=torch.int64, device="cpu"))]
        parts: Iterable[Tensor] = self.encoder.all_keys()  # type: ignore[operator]
        return parts

    @torch.no_grad()
    def grow(self, cells: Tensor) -> None:
        """Encode cells ``(n,)`` that the encoder has now and had not before, or that were gaps."""
        self._snapshot = self._growing.grown(self.snapshot(), len(self))
        self.gaps.difference_update(cells.tolist())
        self.renew(cells)

    def restore_own(self, keys: Tensor) -> None:
        """Take saved keys of the cells that this process holds: of all, unless ranks share them out."""
        self.restore(keys)

    def restore(self, snapshot: Tensor) -> None:
        """Take saved keys ``(N, D)`` instead of encoding the cells."""
        self._snapshot = snapshot
