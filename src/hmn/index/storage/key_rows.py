"""The keys of an index, row by row, and the cell of each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hmn.errors import CellError, ConfigError, ShapeError
from hmn.index.checks import as_ids, as_storage, as_tensor, check_distinct, check_keys, check_not_negative
from hmn.index.storage.fingerprint import checksum_of, row_fingerprints
from hmn.index.storage.saved import ANY, Saved, refuse

STORAGE = (torch.float32, torch.float16, torch.bfloat16)
"""Types in which keys can be kept."""
MOST_ROWS = 2**31 - 1
"""Upper limit of rows: structures number them in 32 bits."""


class _Before(NamedTuple):
    """What ``undo`` puts back: how the rows were before a change that is not whole yet.

    Attributes:
        attributes: of the rows, by name; dictionaries and tensors are changed in place.
        rows: ``(n,)`` rows that change.
        cells: ``(n,)`` their cells, -1 where free.
        key: ``(n, D)`` their keys; None if these do not matter, or lie in a tensor that is replaced.
        new: cells that did not exist.
    """

    attributes: dict[str, Any]
    rows: Tensor
    cells: Tensor
    key: Tensor | None = None
    new: tuple[int, ...] = ()


class KeyRows:
    """Keys row by row, and the cells that they belong to: the storage under every structure.

    A row keeps its number until its cell is removed; the row is then used for the next cell that is added.
    As long as cells are 0 to N - 1 in order, rows and cells are the same and no table is kept.

    Keys that are shared with the caller are never written to: the first change that writes a key copies all
    of them. Writing what a key already is counts as no change. So an owner can change its keys in place, tell
    the index by ``write``, and go on sharing.

    A change is not whole until ``commit`` is called; ``undo`` takes it back. Both can be interrupted and
    called again.

    Args:
        keys: ``(N, D)``; shared, not copied, if it is of the storage type, contiguous, and not made under
            ``torch.inference_mode``, where it could not be changed; fewer than 2^31.
        cells: ``(N,)`` distinct ids, not negative; 0 to N - 1 if not given.
        storage: float32, float16 or bfloat16; as the keys are if not given (float64 becomes float32).

    Attributes:
        keys: ``(capacity, D)`` storage; rows without a cell hold anything finite.
        used: rows in use or freed; those from here on were never used.
        written_from: the keys and their version before ``add`` or ``write``; None once that is whole.

    Raises:
        ShapeError, NonFiniteError, CellError, ConfigError: bad keys, ids or storage.
    """

    def __init__(self, keys: Tensor, cells: Tensor | None = None, storage: torch.dtype | None = None) -> None:
        given = as_tensor(keys, "keys", floats=True)
        _not_too_many(len(given) if given.dim() else 0)
        given = check_keys(given)
        storage = storage or (given.dtype if given.dtype in STORAGE else torch.float32)
        if storage not in STORAGE:
            raise ConfigError(f"storage is {storage}, expected one of {', '.join(map(str, STORAGE))}")
        kept = as_storage(given, storage).contiguous()
        self.keys = kept.clone() if kept.is_inference() else kept
        self.used = len(kept)
        self.written_from: tuple[Tensor, int] | None = None
        self._shared = _overlap(self.keys, given)
        self._bytes = _end_of(self.keys)
        self._cell: Tensor | None = None  # (capacity,) int64, -1 where free
        self._row: dict[int, int] | None = None  # row of each cell
        self._free: list[int] = []  # rows whose cell was removed; a stack of ``_free_count`` rows
        self._free_count = 0
        self._before: _Before | None = None  # as long as a change is not whole
        if cells is not None:
            cells = as_ids(cells)
            if len(cells) != len(kept):
                raise ShapeError(
                    f"there are {len(cells)} cells for {len(kept)} keys, expected one id per key"
                )
            check_not_negative(cells)
            if not torch.equal(cells.cpu(), torch.arange(len(kept), device="cpu")):
                self._keep_tables(cells.to(kept.device))

    def __len__(self) -> int:
        """Number of cells, as the change that is going on leaves it."""
        return self.used - self._free_count

    @property
    def whole(self) -> int:
        """Number of cells after the last change that is whole."""
        now = self._attributes() if self._before is None else self._before.attributes
        return int(now["used"] - now["_free_count"])

    @property
    def features(self) -> int:
        """Features of a key, D."""
        return self.keys.shape[1]

    def check_storage(self) -> None:
        """Refuse keys that are gone, with a ShapeError: another owner of their storage has freed it."""
        if self.keys.untyped_storage().nbytes() < self._bytes:
            raise ShapeError(
                f"the storage of the keys has {self.keys.untyped_storage().nbytes()} bytes, expected "
                f"{self._bytes}: it was freed or cut, as by resize_(0), while the index shares it; "
                "keep the keys as they are, or build the index again"
            )

    @property
    def cell_by_row(self) -> Tensor | None:
        """Cell ``(capacity,)`` of each row, -1 where free; None where cells are the numbers of the rows."""
        return self._cell

    def cells_at(self, rows: Tensor) -> Tensor:
        """Ids of the cells in rows of any shape; ``-1`` stays ``-1``."""
        if self._cell is None or not len(self._cell):
            return rows
        cells: Tensor = self._cell[rows.clamp(min=0)].masked_fill(rows < 0, -1)
        return cells

    def rows_of(self, cells: Tensor) -> Tensor:
        """Rows ``(n,)`` of cells ``(n,)``.

        Raises:
            CellError: a cell does not exist, or is given twice.
        """
        cells = as_ids(cells)
        if self._row is None:
            bad = (cells < 0) | (cells >= self.used)
            if bool(bad.any()):
                raise CellError(f"there is no cell {int(cells[bad][0])}, expected ids below {self.used}")
            rows = cells.to(self.keys.device)
        else:
            numbers = [self._row.get(cell, -1) for cell in cells.tolist()]
            if -1 in numbers:
                missing = int(cells[numbers.index(-1)])
                raise CellError(f"there is no cell {missing}, expected cells that were added and not removed")
            rows = torch.tensor(numbers, dtype=torch.int64, device=self.keys.device)
        check_distinct(cells)
        return rows

    def live(self) -> Tensor:
        """Rows that hold a cell, ascending."""
        if not self._free_count or self._cell is None:
            return torch.arange(self.used, device=self.keys.device)
        return (self._cell[: self.used] >= 0).nonzero().squeeze(1)

    def add(self, cells: Tensor, keys: Tensor) -> Tensor:
        """Add cells ``(n,)`` with keys ``(n, D)``; returns their rows.

        Raises:
            CellError, ShapeError, NonFiniteError: nothing is added then.
        """
        cells, keys = self._checked(cells, keys)
        _not_too_many(len(self) + len(cells))
        check_distinct(cells)
        if self._row is None:
            existing = cells[(cells >= 0) & (cells < self.used)]
        else:
            existing = cells[[cell in self._row for cell in cells.tolist()]] if len(cells) else cells
        if len(existing):
            raise CellError(
                f"cell {int(existing[0])} exists already, expected new ids: use update to give it another key"
            )
        check_not_negative(cells)
        rows = self._rows_for(len(cells))
        self.written_from = self.keys, self.keys._version
        self._before = _Before(self._attributes(), rows, torch.full_like(rows, -1), new=tuple(cells.tolist()))
        following = torch.arange(self.used, self.used + len(cells), device="cpu")
        if self._row is None and not torch.equal(cells.cpu(), following):
            self._keep_tables(torch.arange(self.used, device=self.keys.device))
        reused = min(len(cells), self._free_count)
        self._make_own(self.used + len(cells) - reused)
        self._free_count -= reused
        self.used += len(cells) - reused
        self.keys[rows] = keys
        if self._row is not None and self._cell is not None:
            self._cell[rows] = cells.to(self._cell.device)
            self._row.update(zip(cells.tolist(), rows.tolist(), strict=True))
        return rows

    def remove(self, cells: Tensor) -> Tensor:
        """Remove cells ``(n,)``; returns the rows that they had.

        Raises:
            CellError: nothing is removed then.
        """
        cells = as_ids(cells)
        rows = self.rows_of(cells)
        if not len(rows):
            return rows
        self._before = _Before(self._attributes(), rows, cells.to(rows.device))
        if self._row is None:
            self._keep_tables(torch.arange(self.used, device=self.keys.device))
        assert self._row is not None and self._cell is not None
        for cell in cells.tolist():
            del self._row[cell]
        self._cell[rows] = -1
        self._free[self._free_count :] = rows.tolist()
        self._free_count += len(rows)
        return rows

    def write(self, cells: Tensor, keys: Tensor) -> Tensor:
        """Give existing cells ``(n,)`` new keys ``(n, D)``; returns their rows.

        Raises:
            CellError, ShapeError, NonFiniteError: nothing is changed then.
        """
        cells, keys = self._checked(cells, keys)
        rows = self.rows_of(cells)
        self.written_from = self.keys, self.keys._version
        if self._shared and torch.equal(self.keys[rows], keys):
            return rows
        key = None if self._shared else self.keys[rows]
        self._before = _Before(self._attributes(), rows, cells.to(rows.device), key)
        self._make_own(self.used)
        self.keys[rows] = keys
        return rows

    def commit(self) -> None:
        """The change is whole."""
        self._before = self.written_from = None

    def undo(self) -> None:
        """Take back a change that is not whole."""
        before = self._before
        if before is None:
            return
        vars(self).update(before.attributes)
        if self._cell is not None:
            known = before.rows < len(self._cell)
            self._cell[before.rows[known]] = before.cells[known]
        if self._row is not None:
            for cell in before.new:
                self._row.pop(cell, None)
            rows, cells = before.rows.tolist(), before.cells.tolist()
            self._row.update((cell, row) for cell, row in zip(cells, rows, strict=True) if cell >= 0)
        if before.key is not None:
            self.keys[before.rows] = before.key
        self._before = self.written_from = None

    def state_dict(self, *, with_keys: bool = True) -> dict[str, Tensor]:
        """The tables and the checksum of the keys; with ``with_keys`` also the keys in use."""
        state = {**self.tables(), "rows.checksum": _number(self.checksum())}
        if with_keys:
            state["rows.keys"] = self.keys[: self.used]
        return state

    def tables(self) -> dict[str, Tensor]:
        """What the state says of the rows, but for the keys and their checksum."""
        state = {"rows.used": _number(self.used)}
        if self._cell is not None:
            state["rows.cell"] = self._cell[: self.used]
            state["rows.free"] = torch.tensor(self._free[: self._free_count], dtype=torch.int64, device="cpu")
        return state

    @classmethod
    def from_state(
        cls, state: Mapping[str, Tensor], keys: Tensor | None = None, storage: torch.dtype | None = None
    ) -> KeyRows:
        """Rows as they were when ``state_dict`` was called; see ``Index.load_state_dict``.

        Raises:
            ShapeError: a tensor is missing or does not fit, or the keys are not those of the state, which
                states of version 0.1 cannot show: they have no checksum.
        """
        saved = Saved(state, torch.device("cpu"), "an index")
        used = saved.number("rows.used", 0, MOST_ROWS + 1)
        shared = keys is not None  # with the caller
        keys = keys if shared else state.get("rows.keys")
        if keys is None:
            raise ShapeError(
                "the state was saved without keys, and none are given, expected one of these: "
                "give the keys, or save it with them"
            )
        rows = cls(keys, None, storage)
        if len(rows.keys) < used:
            raise ShapeError(f"there are {len(rows.keys)} keys, expected the {used} of the state")
        if not shared and rows._shared:
            rows.keys = rows.keys.clone()  # the state stays as it is, whatever becomes of it later
            rows._shared, rows._bytes = False, _end_of(rows.keys)
        rows.used = used
        if "rows.cell" in saved or "rows.free" in saved:
            rows._load_tables(saved)
        if "rows.checksum" in saved:
            rows._check_keys(
                int(saved.tensor("rows.checksum", torch.int64, ())), as_tensor(keys, "keys", floats=True)
            )
        return rows

    def checksum(self, keys: Tensor | None = None) -> int:
        """A number that changes with any cell's key, or that other keys would give; see ``fingerprint``."""
        live, fingerprint = self.live(), row_fingerprints((self.keys if keys is None else keys)[: self.used])
        return checksum_of(fingerprint.to(live.device)[live], self.cells_at(live))

    def stats(self) -> dict[str, int | float | str]:
        """Sizes, for people to read."""
        return {
            "cells": len(self),
            "features": self.features,
            "storage": str(self.keys.dtype).removeprefix("torch."),
            "keys_mib": round(self.keys.nbytes / 2**20, 2),
        }

    def _load_tables(self, saved: Saved) -> None:
        """Take the cells and the free rows from a state."""
        cell = saved.whole("rows.cell", (self.used,), -1, torch.iinfo(torch.int64).max)
        free = saved.whole("rows.free", (ANY,), 0, self.used)
        if not torch.equal(free.sort().values, (cell < 0).nonzero().squeeze(1)):
            refuse("rows.free", f"{len(free)} rows", "the rows without a cell in rows.cell")
        try:
            self._keep_tables(cell.to(self.keys.device))
        except CellError as error:
            refuse("rows.cell", f"not of distinct cells ({error})", "each cell once")
        self._free, self._free_count = free.tolist(), len(free)

    def _check_keys(self, expected: int, given: Tensor) -> None:
        """Refuse keys that are not those of the state, neither as they are kept nor as they were given."""
        got = self.checksum()
        if expected != got and (given.dtype not in STORAGE or expected != self.checksum(given)):
            raise ShapeError(
                f"the checksum of the keys is {got}, expected {expected}: the state is that of other keys, "
                "or of these as another type; give the keys it was saved with, or build the index again"
            )

    def _checked(self, cells: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        cells, keys = as_ids(cells), check_keys(keys)
        if keys.shape != (len(cells), self.features):
            wanted = len(cells), self.features
            raise ShapeError(f"keys are {tuple(keys.shape)}, expected {wanted}: one key per cell")
        keys = as_storage(keys, self.keys.dtype).to(self.keys.device)
        return cells, keys.clone() if _overlap(keys, self.keys) else keys

    def _keep_tables(self, cells: Tensor) -> None:
        """Keep the cell of each row, and the row of each cell, from now on."""
        ids = cells.tolist()
        row_of = {cell: row for row, cell in enumerate(ids) if cell >= 0}
        if len(row_of) < sum(cell >= 0 for cell in ids):
            check_distinct(cells[cells >= 0])
        self._row = row_of
        self._cell = torch.full((len(self.keys),), -1, dtype=torch.int64, device=self.keys.device)
        self._cell[: len(cells)] = cells

    def _attributes(self) -> dict[str, Any]:
        """What changes of the rows, but for what is within tensors and tables."""
        names = ("keys", "used", "_shared", "_bytes", "_cell", "_row", "_free_count")
        return {name: getattr(self, name) for name in names}

    def _rows_for(self, count: int) -> Tensor:
        """Rows for ``count`` new cells: freed ones first, then new ones."""
        freed = self._free[max(0, self._free_count - count) : self._free_count][::-1]
        rows = freed + list(range(self.used, self.used + count - len(freed)))
        return torch.tensor(rows, dtype=torch.int64, device=self.keys.device)

    def _make_own(self, count: int) -> None:
        """Make keys that can be written, with room for ``count`` rows: copies those shared or full."""
        capacity = len(self.keys)
        if count > capacity:
            capacity = max(count, self.used + self.used // 2 + 16)
        elif not self._shared:
            return
        keys = self.keys.new_zeros(capacity, self.features)
        keys[: self.used] = self.keys[: self.used]
        self.keys, self._shared, self._bytes = keys, False, _end_of(keys)
        if self._cell is not None and len(self._cell) < capacity:
            cell = self._cell.new_full((capacity,), -1)
            cell[: self.used] = self._cell[: self.used]
            self._cell = cell


def _end_of(keys: Tensor) -> int:
    """Byte of the storage of contiguous keys at which they end."""
    return int(keys.storage_offset()) * keys.element_size() + keys.nbytes


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors lie in the same storage."""
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _number(number: int) -> Tensor:
    return torch.tensor(number, dtype=torch.int64, device="cpu")


def _not_too_many(rows: int) -> None:
    if rows > MOST_ROWS:
        raise ShapeError(f"there are {rows} keys, expected at most {MOST_ROWS}: divide them among indexes")
