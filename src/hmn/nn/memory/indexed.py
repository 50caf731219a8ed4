"""A memory with its index: the one place that keeps the two in step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from hmn.errors import CellError, ShapeError
from hmn.index.allowed import Allowed
from hmn.index.checks import as_ids, as_tensor, check_keys
from hmn.index.protocol import Index
from hmn.index.storage.fingerprint import Spots, row_fingerprints
from hmn.nn.memory.following import follow_steps, warn_unfollowed
from hmn.nn.memory.growing import held_cells, held_keys, keys_by_row, num_held
from hmn.nn.memory.held import (
    Identity,
    SameStorage,
    as_index,
    changed_cells,
    check_count,
    checked_cells,
    claim,
    scores_live,
    show_memory,
)
from hmn.nn.memory.moves import MovedCells
from hmn.nn.memory.operator import name_of_its_own
from hmn.nn.memory.ring.filing import file_appended
from hmn.nn.parts import CellMemory
from hmn.nn.settings import check_seed, check_whole
from hmn.results import SearchResult

AnyMemory = TypeVar("AnyMemory", bound=CellMemory, covariant=True)

CELLS_AT_A_TIME = 1 << 16
"""Number of cells that ``refile`` copies and files at a time, to bound the memory it needs."""
MANY_CELLS = 1 << 16
"""Number of cells from which a training without ``refresh`` is warned."""
NOT_COPIED = ("_held", "_layers", "_followed", "search_name")
"""Attributes that copies do not get: they concern one object."""
REBUILD_SHARE = 0.5
"""Share of changed cells above which the index is rebuilt instead of filing them one by one."""


class IndexedMemory(Generic[AnyMemory]):
    """A memory and the index that searches it, kept in step.

    The index proposes cells; the memory's live keys decide. Attention layers, readers and networks are given
    this object, and several may share it.

    Every search first checks whether the memory's keys are still those that were indexed: the same storage,
    not changed in place since. If not, fingerprints of the keys show which cells changed. These are filed
    again; if they are more than half, the index is rebuilt. Equal keys in another storage, as under
    ``torch.func.functional_call``, cost one pass over the keys and no rebuild.

    PyTorch does not count some changes: those made through NumPy, ``Tensor.data`` or another process, and
    those of a tensor that was made in inference mode. On the CPU a few numbers of the keys show if all were
    overwritten. Call ``refresh`` after any other of these changes. Keys that the memory no longer has are
    never written to.

    Of a ``RingMemory`` the rows that were appended since are filed, at a cost of these rows alone.

    For training, let the index ``follow`` the optimiser, or call ``refresh`` after each of its steps. Either
    files the cells that were read, at a cost that does not depend on N. Without it the next search compares
    all keys, and warns once if there are many.

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
        if refiled is not None:
            refiled = check_whole("refiled", refiled, "the cells that are filed per step; or None")
        self._memory = checked_cells(memory)
        self._moved = MovedCells(refiled, check_seed(seed))
        self._index: Index
        self._warned = False
        self._layers: WeakSet[nn.Module] = WeakSet()
        self._followed: WeakKeyDictionary[Optimizer, RemovableHandle] = WeakKeyDictionary()
        self.index = as_index(index)
        self.search_name = name_of_its_own(self)

    @property
    def memory(self) -> AnyMemory:
        """The N cells. May be replaced: all layers read the new one, the index follows at the next search."""
        return self._memory

    @memory.setter
    def memory(self, memory: AnyMemory) -> None:  # type: ignore[misc]
        self._held = claim(self._index, self, checked_cells(memory))
        self._memory = memory
        self._moved.forget()
        for layer in self._layers:
            show_memory(layer, memory)

    @property
    def index(self) -> Index:
        """The search structure; it may lag behind the memory until the next search. May be replaced."""
        return self._index

    @index.setter
    def index(self, index: Index) -> None:
        if len(index):
            check_count(len(index), self.memory)
        self._held = claim(index, self, self.memory)
        self._index = index
        self._forget()

    def __len__(self) -> int:
        """Number of cells, N."""
        return len(self.memory)

    def search(self, query: Tensor, k: int, allowed: Allowed | None = None) -> SearchResult:
        """Find the ``k`` cells of largest inner product with each query ``(B, D)``; see ``Index.search``."""
        return self.in_step().search(query, k, *(() if allowed is None else (allowed,)))

    def in_step(self, *, training: bool = False) -> Index:
        """The index, after it has caught up with the memory.

        Args:
            training: whether it may lag behind where only some of the cells that a step moved are filed: with
                ``refiled``, or after dense gradients.
        """
        self._catch_up(training)
        return self._index

    def follow(self, optimizer: Optimizer) -> RemovableHandle:
        """Call ``refresh`` after each step of an optimiser, from now on.

        A step that a ``GradScaler`` skips moves nothing and files nothing. After dense gradients momentum and
        weight decay also move rows without a gradient: a share of all cells is filed after each step, so that
        every cell has its turn within ``TURNS`` steps, and a search outside training files the rest first.

        Args:
            optimizer: the one that trains the keys. It is followed once, however often this is called.

        Returns:
            A handle; ``handle.remove()`` ends it. Copies of this memory follow no optimiser.

        Raises:
            ConfigError: it does not train the keys, or refuses their sparse gradients; or the keys are not
                rows, as in an ``EncodedMemory``.
        """
        handle = follow_steps(self, optimizer)
        if optimizer in self._followed:
            self._followed[optimizer].remove()
        self._followed[optimizer] = handle
        return handle

    def attach(self, layer: nn.Module) -> None:
        """Note that ``layer.memory`` is this memory: it is replaced together with it."""
        self._layers.add(layer)

    def mark_read(self, cells: Tensor) -> None:
        """Note that the cells ``(n,)`` were read in training: their keys may move with the next step."""
        self._moved.mark(as_ids(as_tensor(cells, "cells").flatten()))

    @torch.no_grad()
    def refresh(self, cells: Tensor | None = None) -> None:
        """File cells whose keys have changed: after each step of the optimiser, before gradients are zeroed.

        Args:
            cells: ``(n,)`` cells whose keys changed. If not given: of a trained memory those that were read
                in training since the last refresh, by this process or, where gradients were summed over
                several, by any of them; of any other memory those whose keys differ from what was indexed.
                Where gradients are dense, a share of the other cells too: momentum and weight decay move
                them, and the next search outside training files all that are left.

        Raises:
            CellError: a cell does not exist, or is given twice.
            NonFiniteError: a key has become NaN or infinite.
        """
        if self._is_unbuilt():
            self.rebuild()
            return
        keys = self.memory.snapshot()
        if hasattr(keys, "full_tensor"):
            # FSDP2 shards the keys here: the next search compares all of them
            self._held.identity = self._held.spots = None
            return
        identity, indexed_as = Identity.of(self.memory, keys), self._held.identity
        if indexed_as is None or indexed_as.place != identity.place:
            self._compare()  # more may have changed than the cells given or read: rows were loaded
        if cells is None:
            moves = self._moved.choose(self.memory, self._held.fingerprint)
            if moves is None or (not len(moves.cells) and moves.complete and indexed_as != identity):
                self._compare()
                return
            cells = moves.cells
            self._held.lags = self._held.lags or not moves.complete
        self._file(cells)
        self._note_identity(keys)

    @torch.no_grad()
    def add(self, cells: Tensor) -> None:
        """File cells ``(n,)`` that an encoded memory has now and had not before, at a cost of n cells.

        Call ``in_step`` before the encoder gets them, so that the index holds all others.
        """
        cells = as_ids(cells)
        if len(cells):
            self.memory.grow(cells)  # type: ignore[attr-defined]
            keys = self.memory.snapshot()
            self._index.add(cells, keys[cells])
            self._held.shares = None  # what was shared has been copied
            self._held.note_keys(cells, keys[cells], len(keys))
            self._note_identity(keys)

    @torch.no_grad()
    def remove(self, cells: Tensor) -> None:
        """Take cells ``(n,)`` of an encoded memory out of the index; ``add`` brings them back."""
        cells = as_ids(cells)
        if len(cells):
            self._index.remove(cells)
            self.memory.gaps.update(cells.tolist())  # type: ignore[attr-defined]
            self._note_identity(self.memory.snapshot())

    @torch.no_grad()
    def refile(self) -> None:
        """File every cell by its present key in the existing structure: much faster than a rebuild."""
        keys = self.memory.snapshot()
        if self._is_unbuilt() or scores_live(self._index, keys):
            self.rebuild()
            return
        self._part_from_others(keys)
        for cells in torch.split(held_cells(self.memory, keys.device), CELLS_AT_A_TIME):
            self._index.update(cells, keys[cells])
        self._note_indexed(keys, Identity.of(self.memory, keys))

    @torch.no_grad()
    def rebuild(self) -> None:
        """Build the index from scratch on all keys as they are now; now and then in a long training."""
        keys = self.memory.snapshot()
        identity = Identity.of(self.memory, keys)  # before the build: what changes meanwhile is noticed
        fingerprint = row_fingerprints(keys) if self._index.has_structure else None
        self._index.build(*held_keys(self.memory, keys))
        self._held.shares = SameStorage(keys)
        self._held.due = 2 * identity.appended
        self._note_indexed(keys, identity, fingerprint)

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
        if not isinstance(state, Mapping):
            raise ShapeError(f"the state is {type(state).__name__}, expected a dictionary of tensors by name")
        if "rows.used" in state:
            check_count(int(state["rows.used"]) - len(state.get("rows.free", ())), self.memory)
        keys = keys_by_row(state, self.memory) if keys is None else keys
        self._index.load_state_dict(state, keys)
        self._held.shares = SameStorage(keys)
        check_count(len(self._index), self.memory)
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of; it compares its keys at its first search."""
        state = {name: value for name, value in vars(self).items() if name not in NOT_COPIED}
        return {**state, "fingerprint": self._held.fingerprint, "shares": self._held.shares is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy that serves the copied memory."""
        fingerprint, shares = state.pop("fingerprint"), state.pop("shares")
        vars(self).update(state, _layers=WeakSet(), _followed=WeakKeyDictionary())
        self.search_name = name_of_its_own(self)
        self._held = claim(self._index, self, self.memory)
        if self._held.identity is None:
            self._held.fingerprint = fingerprint
            self._held.shares = SameStorage(self.memory.snapshot()) if shares and len(self._index) else None

    def _forget(self) -> None:
        """Start over: nothing is known of what the index holds, and no cell is waiting."""
        self._held.forget()
        self._moved.forget()

    def _is_unbuilt(self) -> bool:
        """Whether the index has to be built; files first what was appended to a ring."""
        filed = file_appended(self._index, self._held, self.memory)
        return not filed or not len(self.memory) or len(self._index) != num_held(self.memory)

    @torch.no_grad()
    def _catch_up(self, training: bool) -> None:
        """Make the index hold the memory's keys as they are now, or nearly so in training."""
        if self._holds(training):
            return
        with self._held.lock:
            if self._is_unbuilt():
                self.rebuild()
            elif not self._holds(training):
                self._warn_of_moved_keys()
                self._compare()

    def _holds(self, training: bool) -> bool:
        """Whether the index surely holds the memory's keys as they are now, or nearly so in training."""
        memory, held = self._memory, self._held
        return held.holds(memory, memory.snapshot()) and (training or not held.lags)

    def _warn_of_moved_keys(self) -> None:
        """Warn once if a step has moved keys and all of many are compared since nothing was refreshed."""
        identity, keys = self._held.identity, self.memory.snapshot()
        if self._warned or not self._moved.are_read or identity is None or len(keys) < MANY_CELLS:
            return
        present = Identity.of(self.memory, keys)
        if present.place == identity.place and present.version != identity.version:
            self._warned = True
            warn_unfollowed(len(keys))

    def _compare(self) -> None:
        """File the cells whose fingerprints differ from those of the indexed keys."""
        keys = self.memory.snapshot()  # (N, D)
        identity, indexed_as = Identity.of(self.memory, keys), self._held.identity
        if scores_live(self._index, keys):
            self._note_indexed(keys, identity)
            return
        if indexed_as is not None and not indexed_as.place.is_like(identity.place):
            self.rebuild()
            return
        present, cells = changed_cells(self._index, self._held, self.memory)  # (N,), (n,)
        allowed = REBUILD_SHARE * len(keys) if self._index.has_structure else 0
        if len(cells) > allowed:
            if self._held.lags:  # keys that training has moved a little still fit the structure
                self.refile()
            else:
                self.rebuild()
            return
        self._file(cells)
        self._note_identity(keys)
        self._held.fingerprint, self._held.lags = present, False

    def _note_indexed(self, keys: Tensor, identity: Identity, fingerprint: Tensor | None = None) -> None:
        """Note that the index holds these keys."""
        self._held.identity, self._held.lags = identity, False
        self._moved.forget()
        if scores_live(self._index, keys):
            self._held.fingerprint = self._held.spots = None  # the index itself looks whether keys changed
        else:
            self._held.fingerprint = row_fingerprints(keys) if fingerprint is None else fingerprint
            self._held.spots = Spots(keys)

    def _note_identity(self, keys: Tensor) -> None:
        """Note the keys as they are after filing, which writes to keys that the index shares."""
        self._held.identity = Identity.of(self.memory, keys)
        self._held.spots = None if scores_live(self._index, keys) else Spots(keys)

    def _part_from_others(self, keys: Tensor) -> None:
        """Give the index keys of its own if it shares others than these, which filing would overwrite."""
        shares = self._held.shares
        if shares is None or shares == SameStorage(keys):
            return
        state = self._index.state_dict()
        if "rows.keys" in state:
            self._index.load_state_dict(state)  # copies what the state has
        self._held.shares = None

    def _file(self, cells: Tensor) -> None:
        """Give cells ``(n,)`` their present keys in the index."""
        cells = as_ids(cells)
        if not len(cells):
            return
        keys = self.memory.snapshot()
        if len(outside := cells[(cells < 0) | (cells >= len(keys))]):
            raise CellError(f"there is no cell {int(outside[0])}, expected ids below {len(keys)}")
        moved = check_keys(keys[cells])  # (n, D)
        if scores_live(self._index, keys):
            return
        self._part_from_others(keys)
        self._index.update(cells, moved)
        self._held.note_keys(cells, moved, len(keys))
