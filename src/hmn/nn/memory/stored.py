"""Stored memories: the keys are rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hmn.errors import CellError, ConfigError, ShapeError, check_flag
from hmn.index.checks import as_ids, as_tensor, check_keys, check_matrix


class Memory(nn.Module):
    """A stored memory: N rows of keys and, optionally, of values, fixed or trained.

    The tensors are not copied, and training changes them in place. Only the rows that were read have
    gradients, and these are sparse: train them with ``hmn.nn.RowAdam``, ``torch.optim.SparseAdam`` or plain
    SGD, and clip them with ``hmn.nn.clip_grad_norm_``. Give ``sparse=False`` for any other optimiser, and for
    ``SoftmaxAttention``, which reads every row. A fixed memory is a buffer: give ``DistributedDataParallel``
    ``broadcast_buffers=False``, or it sends the buffer at every step.

    Args:
        keys: ``(N, D)`` float, finite; N may be 0. On the meta device, numbers are loaded later. Half
            precision is kept as it is. An ``nn.Parameter`` that
            is trained stays the same parameter, as for weights that two modules share.
        values: ``(N, V)`` float, finite, as the keys; without them the keys are read, and V is D.
        trainable: whether keys and values are parameters; they are buffers otherwise.
        sparse: whether gradients are sparse rows; they are dense otherwise.
        train_keys: whether the keys are parameters; as ``trainable`` says if not given.
        train_values: whether the values are parameters; as ``trainable`` says if not given.

    Attributes:
        trainable: whether keys or values are parameters.
        times_loaded: number of times that ``load_state_dict`` has given the memory other rows.
        appended: number of rows that were appended to a ``RingMemory``; None of any other memory.
        own_changes: number of changes that these made of the tensor of keys, as PyTorch counts them.

    Raises:
        ShapeError: keys or values are not a float matrix, or their numbers differ.
        NonFiniteError: they hold NaN or infinity, or keys are too long for inner products in float32.
        ConfigError: a switch is not True or False; only one of keys and values is on the meta device; or
            keys or values have a graph or gradients that would end here.
    """

    appended: int | None = None
    own_changes = 0
    _shown: Tensor | None = None

    def __init__(
        self,
        keys: Tensor,
        values: Tensor | None = None,
        trainable: bool = False,
        *,
        sparse: bool = True,
        train_keys: bool | None = None,
        train_values: bool | None = None,
    ) -> None:
        super().__init__()
        check_flag("trainable", trainable)
        check_flag("sparse", sparse)
        train_keys = check_flag("train_keys", trainable if train_keys is None else train_keys)
        if values is None and train_values:
            raise ConfigError("train_values is True but there are no values: give values, or train_keys=True")
        train_values = check_flag("train_values", trainable if train_values is None else train_values)
        self.key_table = _table(keys, "keys", train_keys, sparse)
        self.value_table = None if values is None else _table(values, "values", train_values, sparse)
        if values is not None and len(values) != len(keys):
            raise ShapeError(
                f"there are {len(values)} values for {len(keys)} keys, expected one value per key"
            )
        if self.values is not None and self.values.is_meta != self.keys.is_meta:
            raise ConfigError(
                "only one of keys and values is on the meta device, expected both or neither: make both "
                "under torch.device('meta'), or give both their numbers"
            )
        self.trainable = train_keys or (values is not None and train_values)
        self.times_loaded = 0
        self._shown = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse another tensor in place of the keys or values; PyTorch would refuse it by another name."""
        if name in {"keys", "values"}:
            raise ConfigError(
                f"the {name} of a memory are not replaced by assignment: copy into them under "
                "torch.no_grad(), or make another Memory and assign it to layer.memory"
            )
        super().__setattr__(name, value)

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

    def gather(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Live keys and values of cells that are known to exist, such as those a search found.

        The values are the keys if the memory has no values.

        Raises:
            ConfigError: ``torch.func`` maps over gradients of the rows, which are sparse.
        """
        if not torch.compiler.is_compiling():
            self._check_transforms()
        keys: Tensor = self.key_table(cells)
        return keys, keys if self.value_table is None else self.value_table(cells)

    @property
    def table(self) -> Tensor:
        """The tensor in which the keys lie; that of a ``RingMemory`` has room for more."""
        return self.keys

    def storage(self) -> Tensor:
        """``table`` without gradients: what the search operator is given."""
        return self.table.detach() if self._shown is None else self._shown

    def snapshot(self) -> Tensor:
        """The keys themselves, ``(N, D)``, without gradients: an index that shares them never lags."""
        return self.storage()

    def show(self, keys: Tensor | None) -> None:
        """Let ``storage`` return these keys, as of an exported program; None ends it."""
        vars(self)["_shown"] = keys

    def snapshot_of(self, cells: Tensor) -> Tensor:
        """Keys ``(..., D)`` of cells ``(...)``, without gradients."""
        return self.snapshot()[cells]

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

    def _check_transforms(self) -> None:
        """Refuse gradients of each query by itself where they are sparse: PyTorch cannot map over those."""
        stack = torch._C._functorch.get_interpreter_stack()
        if not stack or not any(_is_sparse(table) for table in (self.key_table, self.value_table)):
            return
        kinds = [level.key() for level in stack]  # the outermost transform comes first
        mapped, derived = torch._C._functorch.TransformType.Vmap, torch._C._functorch.TransformType.Grad
        wrapped = torch._C._functorch.is_gradtrackingtensor
        tables = [self.keys] if self.values is None else [self.keys, self.values]
        if mapped in kinds and derived in kinds[kinds.index(mapped) :] and any(map(wrapped, tables)):
            raise ConfigError(
                "torch.func.vmap maps over gradients of this memory, which are sparse rows, expected dense "
                "ones: make it Memory(..., sparse=False), or derive by the other parameters alone"
            )

    def _checked(self, cells: Tensor) -> Tensor:
        cells = as_tensor(cells, "cells")
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


def _is_sparse(table: nn.Module | None) -> bool:
    return isinstance(table, nn.Embedding) and table.sparse


def _table(rows: Tensor, name: str, trained: bool, sparse: bool) -> nn.Module:
    if isinstance(rows, Tensor) and rows.is_meta:  # numbers are loaded later
        checked = check_matrix(rows, name).detach()
    else:
        rows = as_tensor(rows, name, floats=True)
        checked = check_keys(rows, name)
    if rows.grad_fn is not None:
        raise ConfigError(
            f"{name} were computed with a graph, which stored rows cannot keep: give {name}.detach(), "
            "or hmn.nn.EncodedMemory for keys that an encoder makes"
        )
    shared = isinstance(rows, nn.Parameter) and trained and rows.is_contiguous()
    if rows.requires_grad and not shared:
        raise ConfigError(
            f"{name} require gradients, which they would not get: give {name}.detach(), "
            f"or train_{name}=True with {name} that are a contiguous nn.Parameter"
        )
    if not trained:
        return _FixedTable(checked.contiguous())
    # DistributedDataParallel expects sparse gradients of an nn.Embedding, and of no other module
    table = nn.Embedding(len(checked), checked.shape[1], sparse=sparse, _weight=checked.contiguous())
    if shared and rows.requires_grad:
        table.weight = rows
    return table
