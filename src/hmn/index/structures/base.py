"""Base class of the structures: keys in rows, one change at a time, arithmetic in float32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import get_spawning_popen
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from hmn._native.watch import LEVELS
from hmn.errors import ConfigError, HMNError, NotFittedError
from hmn.index.allowed import Allowed
from hmn.index.among import Filtered, filter_of, search_among
from hmn.index.checks import as_ids, as_tensor, check_query
from hmn.index.locking import ReadersWriterLock
from hmn.index.precision import own_arithmetic
from hmn.index.ranges import search_range
from hmn.index.storage.key_rows import KeyRows
from hmn.index.watch import SEARCHES, search_seen
from hmn.results import RangeResult, SearchResult

Parts = TypeVar("Parts")

NOT_SETTINGS = {"_lock", "_rows", "_parts", "_torn", "keys_owner", "given", "is_refiled"}
"""Attributes of a structure that are no settings."""


MOST_UNUSED = 1 << 28
"""Upper limit of the places of a result where k exceeds the number of cells."""


class Structure(ABC, Generic[Parts]):
    """Base of the structures, with all methods of ``Index``.

    A structure is made of *rows*, which hold the keys and know the cells, and of *parts*, which it builds
    over the rows: clusters, hash tables, a tree. A subclass says how parts are made, searched, changed and
    saved, in the methods below that begin with an underscore. They know rows, not cells, and need no lock:
    the methods here hold it, and switch off what would change the arithmetic (``own_arithmetic``).

    A build makes new parts beside the existing ones and replaces them at the end. So searches go on
    meanwhile, and a build that fails leaves the index as it was. A change that fails or is interrupted, as by
    Ctrl-C, is taken back in the rows. It may leave parts that do not fit them: they are rebuilt before their
    next use.

    Copies and pickles are made of the settings and the state. They have no ``on_progress``, which is mostly
    a progress bar and belongs to one process.

    Args:
        storage: type in which keys are kept: float32, float16 or bfloat16; None keeps their own.

    Attributes:
        keys_owner: weak reference to the memory whose ``snapshot`` may be the very keys; they are then copied
            once, with the memory.
    """

    kind: str
    """Name of the structure in ``stats``."""
    fills: bool = True
    """Whether a query that finds fewer than k cells looks further, as long as there are more. False gives the
    cells of the clusters, leaves or buckets looked at and no others. Can be changed between searches."""
    adapts: ClassVar[bool] = False
    """Whether its shape follows the cells, however many are added, so that it need not be built again."""
    checks_queries: ClassVar[bool] = False
    """Whether ``_search`` itself refuses NaN and infinity, as the kernels do."""

    def __init__(self, storage: torch.dtype | None) -> None:
        self.storage = storage
        self.keys_owner: Callable[[], Any] | None = None
        self._lock = ReadersWriterLock()
        self._rows: KeyRows | None = None
        self._parts: Parts | None = None
        self._torn = False  # a change was interrupted: the parts may not fit the rows

    @own_arithmetic
    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of: settings, tensors by name, and the keys as they are stored."""
        settings = {name: value for name, value in vars(self).items() if name not in NOT_SETTINGS}
        if "on_progress" in settings:
            settings["on_progress"] = None
        if self._rows is None:
            return {"settings": settings}
        with self._lock.writing:
            rows, parts = self._settled()
            state = {**rows.tables(), **self._save(rows, parts)}
            state = {name: part.clone() for name, part in state.items()}
            # keys that are shared stay those of their owner, which may be copied together with the index
            spawned = get_spawning_popen()
            if spawned is not None:  # the new process reads these tensors after pickle has dropped them
                spawned.__dict__.setdefault("held_by_hmn", []).append(state)
            keys = rows.keys[: rows.used]
            owner = None if self.keys_owner is None else self.keys_owner()
            shares = owner is not None and _are_same(owner.snapshot(), keys)
            return {"settings": settings, "state": state, "keys": owner if shares else keys}

    @own_arithmetic
    def __setstate__(self, copied: dict[str, Any]) -> None:
        """Become the copy."""
        Structure.__init__(self, copied["settings"]["storage"])
        vars(self).update(copied["settings"])
        if "state" in copied:
            keys = copied["keys"]
            self.load_state_dict(copied["state"], keys if isinstance(keys, Tensor) else keys.snapshot())

    @property
    def has_structure(self) -> bool:
        """See ``Index.has_structure``."""
        return True

    def __len__(self) -> int:
        """Number of cells, N."""
        return 0 if self._rows is None else self._rows.whole

    @own_arithmetic
    def build(self, keys: Tensor, cells: Tensor | None = None) -> None:
        """See ``Index.build``."""
        rows = KeyRows(keys, cells, self.storage)
        self._take(rows, self._make(rows))

    @own_arithmetic
    def search(self, query: Tensor, k: int, allowed: Allowed | None = None) -> SearchResult:
        """See ``Index.search``."""
        lock = self._lock
        try:
            lock.enter()
            rows, parts = self._current()
            if not self._torn and self._is_settled(rows, parts):
                return self._answer(rows, parts, query, k, allowed)
        finally:
            lock.leave()
        with lock.writing:
            return self._answer(*self._settled(), query, k, allowed)

    def search_range(
        self, query: Tensor, least: float | Tensor, limit: int | None = None, allowed: Allowed | None = None
    ) -> RangeResult:
        """See ``Index.search_range``."""
        return search_range(self, query, least, limit, allowed)

    @own_arithmetic
    def add(self, cells: Tensor, keys: Tensor) -> None:
        """See ``Index.add``."""
        self._change(lambda rows: rows.add(cells, keys), self._insert)

    @own_arithmetic
    def remove(self, cells: Tensor) -> None:
        """See ``Index.remove``."""
        self._change(lambda rows: rows.remove(cells), self._discard)

    @own_arithmetic
    def update(self, cells: Tensor, keys: Tensor) -> None:
        """See ``Index.update``."""
        self._change(lambda rows: rows.write(cells, keys), self._write)

    def keys_of(self, cells: Tensor) -> Tensor:
        """See ``Index.keys_of``."""
        cells = as_tensor(cells, "cells")
        with self._reading() as (rows, _):
            distinct, place = torch.unique(as_ids(cells.flatten()), return_inverse=True)
            return rows.keys[rows.rows_of(distinct)[place]].view(*cells.shape, rows.features)

    @own_arithmetic
    def state_dict(self, *, with_keys: bool = True) -> dict[str, Tensor]:
        """See ``Index.state_dict``."""
        with self._lock.writing:
            rows, parts = self._settled()
            return {**rows.state_dict(with_keys=with_keys), **self._save(rows, parts)}

    @own_arithmetic
    def load_state_dict(self, state: Mapping[str, Tensor], keys: Tensor | None = None) -> None:
        """See ``Index.load_state_dict``."""
        rows = KeyRows.from_state(state, keys, self.storage)
        self._take(rows, self._load(rows, state))

    def stats(self) -> dict[str, int | float | str]:
        """See ``Index.stats``."""
        with self._lock.writing:
            rows, parts = self._mended()
            return {"structure": self.kind, **rows.stats(), **self._describe(rows, parts)}

    def _places(self, rows: KeyRows, k: int) -> int:
        """Results that a query must have not to look further."""
        return min(k, len(rows)) if self.fills else 0

    @abstractmethod
    def _make(self, rows: KeyRows) -> Parts:
        """Make the parts over rows that were never changed; the index itself is not changed."""

    @abstractmethod
    def _search(self, rows: KeyRows, parts: Parts, query: Tensor, k: int) -> SearchResult:
        """Find the best ``k`` rows, not cells, for queries ``(B, D)`` in float32 on the device of the keys.

        Several threads may be in here at the same time.
        """

    def _filtered(self, rows: KeyRows, parts: Parts, k: int) -> Filtered | None:  # noqa: ARG002
        """How to search among allowed rows; None to score all of these, however many they are."""
        return None

    @abstractmethod
    def _insert(self, rows: KeyRows, parts: Parts, touched: Tensor) -> None:
        """File rows ``(n,)`` that are not filed yet."""

    @abstractmethod
    def _discard(self, rows: KeyRows, parts: Parts, touched: Tensor) -> None:
        """Take rows ``(n,)`` out of the parts."""

    def _write(self, rows: KeyRows, parts: Parts, touched: Tensor) -> None:
        """File rows ``(n,)`` again, which have new keys."""
        self._discard(rows, parts, touched)
        self._insert(rows, parts, touched)

    def _is_settled(self, rows: KeyRows, parts: Parts) -> bool:  # noqa: ARG002
        """Whether a search can start at once: no change has left work to do first."""
        return True

    def _settle(self, rows: KeyRows, parts: Parts) -> None:
        """Do the work that changes have left; no other thread is in the index meanwhile."""

    @abstractmethod
    def _save(self, rows: KeyRows, parts: Parts) -> dict[str, Tensor]:
        """Tensors from which ``_load`` makes the same parts; no other thread is in the index meanwhile."""

    @abstractmethod
    def _load(self, rows: KeyRows, state: Mapping[str, Tensor]) -> Parts:
        """Make the parts of a state over its rows; the index is not changed, and the state is copied.

        Raises:
            ShapeError: a tensor is missing or does not fit.
        """

    @abstractmethod
    def _describe(self, rows: KeyRows, parts: Parts) -> dict[str, int | float | str]:
        """Settings and shape of the parts, for ``stats``; no other thread is in the index meanwhile."""

    def _current(self) -> tuple[KeyRows, Parts]:
        """Rows and parts.

        Raises:
            NotFittedError: the index was not built.
        """
        if self._rows is None or self._parts is None:
            raise NotFittedError("the index has no cells yet: call build(keys) or load_state_dict first")
        self._rows.check_storage()
        return self._rows, self._parts

    def _settled(self) -> tuple[KeyRows, Parts]:
        """Rows and parts, ready to search; no other thread is in the index meanwhile."""
        rows, parts = self._mended()
        if not self._is_settled(rows, parts):
            with self._tearing():
                self._settle(rows, parts)
        return self._current()

    @contextmanager
    def _reading(self) -> Iterator[tuple[KeyRows, Parts]]:
        """Rows and parts, to look at."""
        if self._torn:
            with self._lock.writing:
                self._mended()
        with self._lock.reading:
            yield self._current()

    def _change(
        self, change_rows: Callable[[KeyRows], Tensor], change_parts: Callable[[KeyRows, Parts, Tensor], None]
    ) -> None:
        """Change the rows, then the parts for the rows touched ``(n,)``: both, or neither."""
        with self._lock.writing:
            rows, parts = self._mended()
            self._torn = True
            try:
                touched = change_rows(rows)
            except BaseException:
                rows.undo()
                self._torn = False
                raise
            try:
                change_parts(rows, parts, touched)
            except BaseException:  # such as Ctrl-C, or too little memory
                rows.undo()
                raise
            rows.commit()
            self._torn = False

    @contextmanager
    def _changing(self) -> Iterator[tuple[KeyRows, Parts]]:
        """Rows and parts, to change the parts alone."""
        with self._lock.writing:
            rows, parts = self._mended()
            with self._tearing():
                yield rows, parts

    @contextmanager
    def _tearing(self) -> Iterator[None]:
        """Note a change of the parts that is interrupted; one that is refused has changed nothing."""
        try:
            yield
        except HMNError:
            raise
        except BaseException:  # such as Ctrl-C, or too little memory
            self._torn = True
            raise

    def _mended(self) -> tuple[KeyRows, Parts]:
        """Rows and parts that fit them; no other thread is in the index meanwhile."""
        rows, parts = self._current()
        if not self._torn:
            return rows, parts
        rows.undo()
        keys, cells = rows.keys[: rows.used], None
        if rows.cell_by_row is not None:
            cells = rows.cells_at(torch.arange(rows.used, device=keys.device))
            keys, cells = keys[cells >= 0], cells[cells >= 0]
        rows = KeyRows(keys, cells, self.storage)
        self._rows, self._parts, self._torn = rows, self._make(rows), False
        return self._current()

    def _take(self, rows: KeyRows, parts: Parts) -> None:
        """Use these rows and parts from now on."""
        with self._lock.writing:
            self._rows, self._parts, self._torn = rows, parts, False

    def _answer(
        self, rows: KeyRows, parts: Parts, query: Tensor, k: int, allowed: Allowed | None
    ) -> SearchResult:
        """Check queries and search; the result names cells."""
        finite = allowed is not None or not self.checks_queries
        query = check_query(query, rows.features, k, finite=finite)
        k = k if type(k) is int else int(k)  # a number of NumPy
        if k > len(rows):
            self._check_room(rows, query, k)
        if query.device != rows.keys.device:
            query = query.to(rows.keys.device)
        seen = SEARCHES.notes
        search: Callable[[Tensor], SearchResult] = partial(self._search, rows, parts, k=k)
        among = None if allowed is None else filter_of(allowed, rows, len(query))
        if among is not None:
            ways = self._filtered(rows, parts, k)
            search = partial(search_among, rows, k=k, allowed=among, search=search, filtered=ways)
        if seen is None:
            result = search(query)
        else:
            with LEVELS.watching() as steps:
                result = search(query)
            seen.append(search_seen(result, rows.live(), steps))
        cells = rows.cells_at(result.cell)
        return result if cells is result.cell else result._replace(cell=cells)

    def _check_room(self, rows: KeyRows, query: Tensor, k: int) -> None:
        """Refuse a result that is far larger than what can be found."""
        if k > len(rows) and k * len(query) > MOST_UNUSED:
            raise ConfigError(
                f"k is {k} for {len(query)} queries, but there are {len(rows)} cells: expected at most "
                f"{MOST_UNUSED:,} places in all, since those beyond the cells stay unused: lower k"
            )


def _are_same(keys: Tensor, others: Tensor) -> bool:
    """Whether two tensors are the same numbers in the same place."""
    place = [(part.data_ptr(), part.shape, part.stride(), part.dtype) for part in (keys, others)]
    return place[0] == place[1]
