"""A memory with its index: the one place that keeps the two in step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor

from hmn.errors import CellError, ConfigError, ShapeError
from hmn.index.checks import as_ids, check_keys
from hmn.index.protocol import Index, Live
from hmn.index.registry import make_index
from hmn.index.storage.fingerprint import row_fingerprints
from hmn.nn.parts import CellMemory
from hmn.results import SearchResult

AnyMemory = TypeVar("AnyMemory", bound=CellMemory, covariant=True)

STEPS_TOGETHER = 16
"""Number of training steps whose moved cells are filed together where ``refiled`` limits their number."""
CELLS_AT_A_TIME = 1 << 16
"""Number of cells that ``refile`` copies and files at a time, to bound the memory it needs."""
REBUILD_SHARE = 0.5
"""Share of the cells above which changed keys are indexed by a new build, not filed one by one."""

_SERVED: WeakKeyDictionary[Index, ref[CellMemory]] = WeakKeyDictionary()
"""Memory that each index object serves, so that no other memory is searched through it."""


class IndexedMemory(Generic[AnyMemory]):
    """A memory and the index that searches it, kept in step.

    The index proposes cells; the memory's live keys decide. Attention layers, readers and networks are given
    this object, and several may share it.

    Every search first looks whether the memory's keys are still those that were indexed: the same storage,
    not changed in place since. Where they are not, fingerprints of the keys say which cells changed. Those
    are filed again, or the index is rebuilt if they are more than half; keys that only lie elsewhere, as
    under ``torch.func.functional_call``, cost one pass over them and no rebuild. Changes that PyTorch cannot
    see (through NumPy, ``Tensor.data`` or another process) need ``refresh``.

    During training call ``refresh`` after each step of the optimiser. It files the cells that were read,
    which costs nothing in N; without it the next search compares all keys.

    Args:
        memory: N cells.
        index: search structure, or its name as ``make_index`` takes it; exact search if not given. An index
            that was already built must hold the cells of this memory, 0 to N - 1.
        refiled: upper limit of cells that are filed again per step, drawn among those that moved; several
            steps are filed together. All of them after every step if not given, which may take longer than
            the step itself.
        seed: seed of that draw.

    Raises:
        ConfigError: the index serves another memory, or is not a search structure; ``refiled`` is out of
            range.
        ShapeError: the index was built on another number of cells.
    """

    def __init__(
        self,
        memory: AnyMemory,
        index: Index | str | None = None,
        *,
        refiled: int | None = None,
        seed: int = 0,
    ) -> None:
        if refiled is not None and (not isinstance(refiled, int) or refiled < 1):
            raise ConfigError(
                f"refiled is {refiled!r}, expected a whole number of at least 1, or None: the number of "
                "moved cells that the index files again per step"
            )
        self.memory = memory
        self.refiled = refiled
        self._generator = torch.Generator().manual_seed(seed)
        self._indexed_as: tuple[object, ...] | None = None  # identity of the keys that the index holds
        self._fingerprint: Tensor | None = None  # (N,) int64, of the keys that the index holds
        self._read: list[Tensor] = []  # cells read in training since the last refresh
        self._due: list[Tensor] = []  # moved cells that wait to be filed together
        self.index = as_index(index)

    @property
    def index(self) -> Index:
        """The search structure; it may lag behind the memory until the next search. May be replaced."""
        return self._index

    @index.setter
    def index(self, index: Index) -> None:
        _claim(index, self.memory)
        if len(index):
            _check_count(len(index), self.memory)
        self._index = index
        self._forget()

    def __len__(self) -> int:
        """Number of cells, N."""
        return len(self.memory)

    def search(self, query: Tensor, k: int) -> SearchResult:
        """Find the ``k`` cells of largest inner product with each query ``(B, D)``; see ``Index.search``."""
        return self.in_step().search(query, k)

    def in_step(self) -> Index:
        """The index, after it has caught up with the memory."""
        self._catch_up()
        return self._index

    def mark_read(self, cells: Tensor) -> None:
        """Note that the cells ``(n,)`` were read in training: their keys may move with the next step."""
        self._read.append(cells.flatten())
        if len(self._read) > STEPS_TOGETHER:  # a loop that never calls refresh
            self._read = [torch.unique(torch.cat(self._read))]

    @torch.no_grad()
    def refresh(self, cells: Tensor | None = None) -> None:
        """File cells whose keys have changed: after each step of the optimiser, before gradients are zeroed.

        Args:
            cells: ``(n,)`` cells whose keys changed. If not given: of a trained memory those that were read
                in training since the last refresh, by this process or, where gradients were summed over
                several, by any of them; of any other memory those whose keys differ from what was indexed.

        Raises:
            CellError: a cell does not exist, or is given twice.
            NonFiniteError: a key has become NaN or infinite.
        """
        if self._is_unbuilt():
            self.rebuild()
            return
        if hasattr(self.memory.snapshot(), "full_tensor"):
            self._indexed_as = None  # FSDP2 shards the keys here: the next search compares all of them
            return
        if cells is None:
            cells = self._moved()
            if cells is None:
                self._compare()
                return
            cells = self._limited(cells)
        self._file(cells)
        self._indexed_as = _identity(self.memory.snapshot())

    @torch.no_grad()
    def refile(self) -> None:
        """File every cell by its present key in the existing structure: much faster than a rebuild."""
        keys = self.memory.snapshot()
        if self._is_unbuilt() or self._scores_live(keys):
            self.rebuild()
            return
        for cells in torch.split(torch.arange(len(keys), device=keys.device), CELLS_AT_A_TIME):
            self._index.update(cells, keys[cells])
        self._note_indexed(keys)

    @torch.no_grad()
    def rebuild(self) -> None:
        """Build the index from scratch on all keys as they are now; now and then in a long training."""
        keys = self.memory.snapshot()
        self._index.build(keys)
        self._note_indexed(keys)

    @torch.no_grad()
    def load_index(self, state: Mapping[str, Tensor], keys: Tensor | None = None) -> None:
        """Take back what ``index.state_dict`` returned instead of building the index. Load the memory first.

        Args:
            state: tensors by name.
            keys: the rows that the state was saved with; those of the memory if not given.

        Raises:
            ShapeError: the state does not fit the index's settings, was saved with other keys, or has another
                number of cells than the memory. The index is unchanged if the state does not fit.
        """
        if "rows.used" in state:
            _check_count(int(state["rows.used"]) - len(state.get("rows.free", ())), self.memory)
        self._index.load_state_dict(state, self.memory.snapshot() if keys is None else keys)
        _check_count(len(self._index), self.memory)
        self._forget()

    def __deepcopy__(self, memo: dict[int, Any]) -> IndexedMemory[AnyMemory]:
        """A copy that serves the copied memory; it compares its keys at its first search."""
        from copy import deepcopy

        copied: IndexedMemory[AnyMemory] = IndexedMemory.__new__(IndexedMemory)
        memo[id(self)] = copied
        for name, value in vars(self).items():
            # the identity holds the storage of the original keys, which is not to be copied again
            setattr(copied, name, None if name == "_indexed_as" else deepcopy(value, memo))
        _claim(copied._index, copied.memory)
        return copied

    def _forget(self) -> None:
        """Start over: nothing is known of what the index holds, and no cell is waiting."""
        self._indexed_as = self._fingerprint = None
        self._read, self._due = [], []

    def _is_unbuilt(self) -> bool:
        return not len(self.memory) or len(self._index) != len(self.memory)

    @torch.no_grad()
    def _catch_up(self) -> None:
        """Make the index hold the memory's keys as they are now."""
        if self._indexed_as is not None and self._indexed_as == _identity(self.memory.snapshot()):
            return
        if self._is_unbuilt():
            self.rebuild()
        else:
            self._compare()

    def _compare(self) -> None:
        """File the cells whose fingerprints differ from those of the indexed keys."""
        keys = self.memory.snapshot()  # (N, D)
        if self._scores_live(keys):
            self._note_indexed(keys)
            return
        present = row_fingerprints(keys)  # (N,)
        indexed = self._fingerprint
        changed = self._differs_from_held(keys) if indexed is None else indexed.to(keys.device) != present
        cells = changed.nonzero().squeeze(1)
        if len(cells) > REBUILD_SHARE * len(keys):
            self.rebuild()
            return
        self._file(cells)
        self._indexed_as, self._fingerprint = _identity(keys), present

    def _differs_from_held(self, keys: Tensor) -> Tensor:
        """Which keys ``(N,)`` differ from those of an index that was built elsewhere.

        An index whose state does not show its keys is trusted.
        """
        state = self._index.state_dict()
        held, cell = state.get("rows.keys"), state.get("rows.cell")
        same = torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
        if held is None or held.shape[1:] != keys.shape[1:]:
            return same
        row = torch.arange(len(held)) if cell is None else (cell >= 0).nonzero().squeeze(1).cpu()
        order = torch.arange(len(row)) if cell is None else cell.cpu()[row].argsort()
        if not torch.equal(row[order] if cell is None else cell.cpu()[row[order]], torch.arange(len(keys))):
            raise ShapeError(
                f"the index has cells of its own numbering, expected 0 to {len(keys) - 1}: build it on the "
                "memory's keys without giving cell ids"
            )
        wanted = row_fingerprints(keys.to(held.dtype))
        return row_fingerprints(held)[row[order].to(held.device)].to(keys.device) != wanted

    def _scores_live(self, keys: Tensor) -> bool:
        """Whether the index scores these very keys at every search, and so cannot fall behind."""
        return isinstance(self._index, Live) and self._index.scores_live(keys)

    def _note_indexed(self, keys: Tensor) -> None:
        """Note that the index holds these keys."""
        self._indexed_as, self._read, self._due = _identity(keys), [], []
        self._fingerprint = None if self._scores_live(keys) else row_fingerprints(keys)

    def _moved(self) -> Tensor | None:
        """Cells ``(n,)`` that training may have moved; None where the memory does not know them."""
        touched = getattr(self.memory, "touched", None)
        if touched is None:
            return None
        cells: Tensor = torch.unique(torch.cat([touched(), *self._read]))
        self._read = []
        return cells

    def _limited(self, cells: Tensor) -> Tensor:
        """Cells to file now: all of them, or the draws of several steps once enough steps have passed."""
        if self.refiled is None:
            return cells
        drawn = torch.randperm(len(cells), generator=self._generator)[: self.refiled]
        self._due.append(cells[drawn.to(cells.device)])
        if len(self._due) < STEPS_TOGETHER:
            return cells[:0]
        cells, self._due = torch.unique(torch.cat(self._due)), []
        return cells

    def _file(self, cells: Tensor) -> None:
        """Give cells ``(n,)`` their present keys in the index."""
        keys, cells = self.memory.snapshot(), as_ids(cells)
        outside = cells[(cells < 0) | (cells >= len(keys))]
        if len(outside):
            raise CellError(f"there is no cell {int(outside[0])}, expected ids below {len(keys)}")
        if not len(cells):
            return
        moved = check_keys(keys[cells])  # (n, D)
        if self._scores_live(keys):
            return
        self._index.update(cells, moved)
        if self._fingerprint is not None:
            self._fingerprint[cells.to(self._fingerprint.device)] = row_fingerprints(moved)


def as_index(index: Index | str | None) -> Index:
    """An index, made where only its name is given; exact search for None.

    Raises:
        ConfigError: it is not a search structure.
    """
    if index is None or isinstance(index, str):
        return make_index(index or "exact")
    if isinstance(index, type) or not callable(getattr(index, "search", None)):
        got = f"the class {index.__name__}" if isinstance(index, type) else type(index).__name__
        raise ConfigError(f"index is {got}, expected a search structure, its name, or None for exact search")
    return index


def _claim(index: Index, memory: CellMemory) -> None:
    """Note that an index serves a memory; refuse one that serves another."""
    served = _SERVED.get(index)
    other = None if served is None else served()
    if other is not None and other is not memory:
        raise ConfigError(
            f"this {type(index).__name__} already serves another memory: make an index of its own for "
            "this one, or share one IndexedMemory"
        )
    _SERVED[index] = ref(memory)


def _check_count(count: int, memory: CellMemory) -> None:
    if count != len(memory):
        raise ShapeError(
            f"the index has {count} cells but the memory has {len(memory)}: "
            "build it on the memory's keys, or give one without cells"
        )


def _identity(keys: Tensor) -> tuple[object, ...]:
    """What stays the same as long as keys are the same tensor, unchanged: owner and version, not address.

    The storage is held, so that its place cannot be taken by another. A storage that is freed and filled
    again, as FSDP2 does around each forward pass, is still the same.
    """
    version = -1 if keys.is_inference() else keys._version
    storage = keys.untyped_storage()
    return _SameStorage(storage), version, keys.storage_offset(), keys.shape, keys.stride(), keys.dtype


class _SameStorage:
    """A storage that is compared by what owns it."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self._storage = storage

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameStorage) and self._storage._cdata == other._storage._cdata

    def __hash__(self) -> int:
        return hash(self._storage._cdata)
