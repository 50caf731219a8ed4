"""Stored memories: the keys are rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hmn.errors import CellError, ShapeError
from hmn.index.checks import as_ids, check_keys


class Memory(nn.Module):
    """A stored memory: N rows of keys and, optionally, of values, fixed or trained.

    The tensors are not copied, and training changes them in place. Only the rows that were read have
    gradients, and these are sparse: train them with ``torch.optim.SparseAdam`` or plain SGD. Give
    ``sparse=False`` for any other optimiser, and for ``SoftmaxAttention``, which reads every row. A fixed
    memory is a buffer: give ``DistributedDataParallel`` ``broadcast_buffers=False``, or it sends the buffer
    at every step.

    Args:
        keys: ``(N, D)`` float, finite; N may be 0. Half precision is kept as it is.
        values: ``(N, V)`` float, finite; without them the keys are read, and V is D.
        trainable: whether keys and values are parameters; they are buffers otherwise.
        sparse: whether gradients are sparse rows; they are dense otherwise.

    Attributes:
        times_loaded: number of times that ``load_state_dict`` has given the memory other rows.

    Raises:
        ShapeError: keys or values are not a float matrix, or their numbers differ.
        NonFiniteError: they hold NaN or infinity.
    """

    def __init__(
        self, keys: Tensor, values: Tensor | None = None, trainable: bool = False, *, sparse: bool = True
    ) -> None:
        super().__init__()
        keys = check_keys(keys)
        if values is not None:
            values = check_keys(values, "values")
            if len(values) != len(keys):
                raise ShapeError(
                    f"there are {len(values)} values for {len(keys)} keys, expected one value per key"
                )
        self.trainable = trainable
        self.times_loaded = 0
        self.key_table = _table(keys, trainable, sparse)
        self.value_table = None if values is None else _table(values, trainable, sparse)

    def __len__(self) -> int:
        """Number of cells, N."""
        return len(self.keys)

    @property
    def keys(self) -> Tensor:
        """``(N, D)``, the parameter or buffer itself."""
        weight: Tensor = self.key_table.weight  # type: ignore[assignment]
        return weight

    @property
    def values(self) -> Tensor | None:
        """``(N, V)``, the parameter or buffer itself; None where the keys are read."""
        return None if self.value_table is None else self.value_table.weight  # type: ignore[return-value]

    def keys_of(self, cells: Tensor) -> Tensor:
        """Live keys ``(..., D)`` of cells ``(...)``, with gradients if the memory is trained.

        Raises:
            CellError: a cell is not among 0 to N - 1.
            ShapeError: the cells are not whole numbers.
        """
        keys: Tensor = self.key_table(self._checked(cells))
        return keys

    def values_of(self, cells: Tensor) -> Tensor:
        """Live values ``(..., V)`` of cells ``(...)``: their keys if the memory has no values.

        Raises:
            CellError: a cell is not among 0 to N - 1.
            ShapeError: the cells are not whole numbers.
        """
        if self.value_table is None:
            return self.keys_of(cells)
        values: Tensor = self.value_table(self._checked(cells))
        return values

    def snapshot(self) -> Tensor:
        """The keys themselves, ``(N, D)``, without gradients: an index that shares them never lags."""
        return self.keys.detach()

    def touched(self) -> Tensor:
        """Cells ``(n,)`` whose keys have a gradient, ascending: those that the optimiser's step moves.

        Call it before the gradients are set to zero. On several machines these are the cells that any of them
        read, once ``DistributedDataParallel`` has summed the gradients. Dense optimisers with momentum also
        move rows of earlier steps.
        """
        gradient = self.keys.grad
        if gradient is None:
            return torch.empty(0, dtype=torch.int64, device=self.keys.device)
        rows = gradient._indices()[0] if gradient.is_sparse else (gradient != 0).any(dim=1).nonzero()
        cells: Tensor = torch.unique(rows)
        return cells

    def _load_from_state_dict(self, *arguments: Any, **named: Any) -> None:
        """Count the loads: what is loaded is another memory, though it be the same tensor."""
        self.times_loaded += 1
        super()._load_from_state_dict(*arguments, **named)

    def _checked(self, cells: Tensor) -> Tensor:
        as_ids(cells.flatten())
        if cells.numel():
            low, high = (int(end) for end in cells.aminmax())
            if low < 0 or high >= len(self):
                bad = low if low < 0 else high
                raise CellError(f"there is no cell {bad}, expected cells from 0 to {len(self) - 1}")
        return cells


class _FixedTable(nn.Module):
    """Rows in a buffer, under the name that ``nn.Embedding`` gives them."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, rows: Tensor) -> Tensor:
        return nn.functional.embedding(rows, self.weight)


def _table(rows: Tensor, trainable: bool, sparse: bool) -> nn.Module:
    if not trainable:
        return _FixedTable(rows.contiguous())
    # DistributedDataParallel expects sparse gradients of an nn.Embedding, and of no other module
    return nn.Embedding(len(rows), rows.shape[1], sparse=sparse, _weight=rows.contiguous())
