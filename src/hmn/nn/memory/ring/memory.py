"""Ring memories: rows are appended, and the oldest give way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hmn.errors import ConfigError, ShapeError
from hmn.index.allowed import Where
from hmn.index.checks import as_ids, as_storage, as_tensor, check_keys
from hmn.nn.memory.stored import Memory
from hmn.nn.settings import check_whole, uncompiled_because


class RingMemory(Memory):
    """A memory of the last ``capacity`` rows that were appended: it begins empty, and the oldest give way.

    For what a model has seen: the positions of a kNN language model (Khandelwal et al. 2020) or of a
    Memorizing Transformer (Wu et al. 2022). Only filled cells are there: ``len``, ``keys``, ``values`` and
    every read see these alone. A read of an empty ring finds nothing: cell -1 and weight 0.

    A cell is a place in the ring. Rows fill the cells from 0 on, and after the last cell the first again. The
    next search files the rows that were appended since the last, at a cost that does not depend on the number
    of cells; see ``IndexedMemory``.

    The memory is fixed: rows are detached, copied and converted to its type, and gradients reach queries
    only. Rows that were read keep their gradients right though others are appended before the backward pass.
    Its tensors are buffers: give ``DistributedDataParallel`` ``broadcast_buffers=False``. ``state_dict`` has
    the rows, their sequences, and how many were appended.

    Args:
        capacity: number of rows that are kept, C.
        key_features: features of a key, D.
        value_features: features of a value, V; without them the keys are read.
        dtype: type in which rows are kept; the usual one if not given.
        device: device of the rows; the usual one if not given.

    Attributes:
        appended: number of rows that were appended since the ring was made or cleared.
        own_changes: number of changes that ``append`` has made of the tensor of keys, as PyTorch counts them.

    Raises:
        ConfigError: a setting is not a whole number of at least 1.
    """

    appended = 0
    own_changes = 0
    sequence_table: Tensor

    def __init__(
        self,
        capacity: int,
        key_features: int,
        value_features: int | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | int | None = None,
    ) -> None:
        check_whole("capacity", capacity, "the number of rows that are kept")
        usual = torch.empty(
            0,
            dtype=torch.get_default_dtype() if dtype is None else dtype,
            device=torch.get_default_device() if device is None else device,
        )
        with torch.inference_mode(False):  # else PyTorch would not count its changes
            keys = usual.new_zeros(capacity, check_whole("key_features", key_features, "those of a key"))
            values = None
            if value_features is not None:
                check_whole("value_features", value_features, "those of a value; or None")
                values = usual.new_zeros(capacity, value_features)
            sequence = usual.new_zeros(capacity, dtype=torch.int64)
        super().__init__(keys, values)
        self.register_buffer("sequence_table", sequence)

    def __len__(self) -> int:
        """Number of filled cells, N."""
        return min(self.appended, self.capacity)

    @property
    def capacity(self) -> int:
        """Number of rows that are kept, C."""
        return len(self.table)

    @property
    def table(self) -> Tensor:
        """``(C, D)``, the buffer itself: keys of the filled cells, and rows that nothing reads."""
        weight: Tensor = self.key_table.weight  # type: ignore[assignment]
        return weight

    @property
    def keys(self) -> Tensor:
        """``(N, D)`` keys of the filled cells."""
        return self.table[: len(self)]

    @property
    def values(self) -> Tensor | None:
        """``(N, V)`` values of the filled cells; None where the keys are read."""
        values = super().values
        return None if values is None else values[: len(self)]

    @property
    def sequences(self) -> Tensor:
        """``(N,)`` int64 sequence of each filled cell."""
        return self.sequence_table[: len(self)]

    def of(self, sequence: Tensor | int) -> Where:
        """The cells that each query may find: those of its own sequence; give it as ``allowed`` to a read.

        Args:
            sequence: a number; or one for each query, ``(...)`` for queries ``(..., D)``.
        """
        return Where(self.sequence_table, sequence)

    def snapshot(self) -> Tensor:
        """The keys of the filled cells, ``(N, D)``, without gradients."""
        return self.storage()[: len(self)]

    @uncompiled_because("only Python knows how many rows there are: leave out fullgraph=True")
    @torch.no_grad()
    def append(self, keys: Tensor, values: Tensor | None = None, sequence: Tensor | int = 0) -> Tensor:
        """Write rows into the next cells, in place of the oldest rows where the ring is full.

        Args:
            keys: ``(n, D)`` float, finite. Of more than C rows the last C stay.
            values: ``(n, V)`` float, finite; left out where the memory has no values.
            sequence: whole number of the sequence that the rows belong to; or ``(n,)``, one of each row.

        Returns:
            ``(n,)`` int64 cells, -1 for rows that later ones of the same call have evicted.

        Raises:
            ShapeError: keys or values do not fit the memory; nothing is written.
            NonFiniteError: they hold NaN or infinity, or are too long; nothing is written.
            ConfigError: values are missing, or the memory has none.
        """
        held = super().values
        if (held is None) != (values is None):
            got, expected = ("no values", "one per key") if values is None else ("values", "none")
            raise ConfigError(
                f"{got} are given, expected {expected}: the memory was made with value_features="
                f"{None if held is None else held.shape[1]}"
            )
        written = [(self.table, _rows(keys, "keys", self.table))]
        count = len(written[0][1])
        if held is not None and values is not None:
            written.append((held, _rows(values, "values", held)))
        if isinstance(sequence, int) or (isinstance(sequence, Tensor) and not sequence.dim()):
            sequence = self.sequence_table.new_tensor(int(sequence)).expand(count)
        written.append((self.sequence_table, as_ids(sequence, "sequence").to(self.table.device)))
        for name, (_, rows) in zip(("numbers of sequences", "values"), written[:0:-1], strict=False):
            if len(rows) != count:
                raise ShapeError(f"there are {len(rows)} {name} for {count} keys, expected one per key")
        before = _version(self.table)
        for table, rows in written:
            self._write(table, rows)
        self.own_changes += _version(self.table) - before
        cells = torch.arange(self.appended, self.appended + count, device=self.table.device) % self.capacity
        cells[: max(0, count - self.capacity)] = -1
        self.appended += count
        return cells

    def clear(self) -> None:
        """Forget all rows: the next one is written into cell 0."""
        self.appended = 0
        self.times_loaded += 1

    def get_extra_state(self) -> Tensor:
        """Number of rows that were appended, which ``state_dict`` holds."""
        return torch.tensor(self.appended, dtype=torch.int64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Take the number of rows that were appended.

        Raises:
            ShapeError: it is not a number of rows.
        """
        number = as_tensor(state, "the state of a ring")
        if number.numel() != 1 or number.dtype != torch.int64 or int(number) < 0:
            got = f"{tuple(number.shape)} of {number.dtype}"
            raise ShapeError(f"the state of a ring is {got}, expected one int64: the number of rows appended")
        self.appended = int(number)

    def extra_repr(self) -> str:
        """Sizes, for people to read."""
        return f"capacity={self.capacity}, filled={len(self)}"

    def _write(self, table: Tensor, rows: Tensor) -> None:
        """Copy rows ``(n, D)`` into the next places of a table; the last C of them where there are more."""
        skipped = max(0, len(rows) - self.capacity)
        rows, first = rows[skipped:], (self.appended + skipped) % self.capacity
        until_end = min(len(rows), self.capacity - first)
        table[first : first + until_end] = rows[:until_end]
        table[: len(rows) - until_end] = rows[until_end:]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any, **named: Any
    ) -> None:
        """Take rows and their number; the number of another capacity's rows is left out."""
        rows = state_dict.get(f"{prefix}key_table.weight")
        before = self.appended
        super()._load_from_state_dict(state_dict, prefix, *arguments, **named)
        if not isinstance(rows, Tensor) or rows.shape != self.table.shape:
            self.appended = before


def _rows(rows: Tensor, name: str, table: Tensor) -> Tensor:
    """Rows ``(n, D)`` to append, in the type and on the device of a table."""
    checked = check_keys(rows, name)
    if checked.shape[1] != table.shape[1]:
        raise ShapeError(
            f"{name} have {checked.shape[1]} features but those of the memory have {table.shape[1]}: "
            f"map them with a layer such as nn.Linear({checked.shape[1]}, {table.shape[1]})"
        )
    return as_storage(checked, table.dtype, name).to(table.device)


def _version(table: Tensor) -> int:
    """How often a tensor was changed in place, as far as PyTorch counts it."""
    return 0 if table.is_inference() else table._version
