"""What an index holds of a memory, and which memory it serves."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import RLock
from typing import NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
from torch import Tensor, nn

from hmn.errors import ConfigError, ShapeError
from hmn.index.protocol import Index
from hmn.index.registry import make_index
from hmn.index.storage.fingerprint import Spots, row_fingerprints
from hmn.index.structures.base import Structure
from hmn.nn.memory.growing import GrowingRows, gaps_of, held_cells, num_held
from hmn.nn.memory.stored import Memory
from hmn.nn.parts import CellMemory


class SameStorage:
    """A storage that is compared by what owns it, not by its address.

    The storage is held, so that its place cannot be taken by another. A storage that is freed and filled
    again, as FSDP2 does around each forward pass, is still the same.
    """

    def __init__(self, keys: Tensor) -> None:
        self._storage = keys.untyped_storage()

    def __eq__(self, other: object) -> bool:
        """Whether the other is a storage of the same owner."""
        return isinstance(other, SameStorage) and self._storage._cdata == other._storage._cdata

    def __hash__(self) -> int:
        """Equal for equal storages."""
        return hash(self._storage._cdata)


class Place(NamedTuple):
    """Which tensor the keys are, and how often rows were loaded into it; steps of an optimiser keep it."""

    storage: SameStorage
    offset: object
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    loaded: int

    def is_like(self, other: Place) -> bool:
        """Whether keys there have the same shape and type."""
        return (self.shape, self.dtype) == (other.shape, other.dtype)


class Identity(NamedTuple):
    """What stays the same as long as keys are the same tensor, unchanged.

    Of a ring it is that of the tensor that holds its rows. Appending changes ``appended`` alone.
    """

    place: Place
    version: int
    appended: int

    @classmethod
    def of(cls, memory: CellMemory, keys: Tensor) -> Identity:
        """Identity of a memory's keys as they are now; take it before their numbers are read."""
        appended = own = 0
        if isinstance(memory, Memory) and memory.appended is not None:
            keys, appended, own = memory.storage(), memory.appended, memory.own_changes
        version = -1 if keys.is_inference() else keys._version - own
        loaded = getattr(memory, "times_loaded", 0)
        place = Place(SameStorage(keys), keys.storage_offset(), keys.shape, keys.stride(), keys.dtype, loaded)
        return cls(place, version, appended)


class Serving(Protocol):
    """What searches a memory through an index."""

    @property
    def memory(self) -> CellMemory:
        """The memory."""
        ...

    @property
    def index(self) -> Index:
        """The index."""
        ...


@dataclass
class Held:
    """What an index holds, known to all that search a memory through it.

    Attributes:
        identity: of the keys that the index holds; None if unknown.
        fingerprint: ``(N,)`` int64 of these keys; None if unknown, or if the index scores them live.
        shares: the storage that the index may share, and write into when cells are filed; None if its own.
        spots: a few numbers of these keys as they were; None if they were not noted.
        lags: whether training has moved cells that wait to be filed.
        served: those that search through the index.
        growing: makes the fingerprints longer.
        due: number of appended rows from which on the index of a ring is built again; None if unknown.
        lock: held while the index catches up with the memory.
    """

    identity: Identity | None = None
    fingerprint: Tensor | None = None
    shares: SameStorage | None = None
    spots: Spots | None = None
    lags: bool = False
    served: WeakSet[Serving] = field(default_factory=WeakSet)
    growing: GrowingRows = field(default_factory=GrowingRows)
    due: int | None = None
    lock: RLock = field(default_factory=RLock)

    def forget(self) -> None:
        """Start over: nothing is known of what the index holds."""
        self.identity = self.fingerprint = self.spots = self.due = None
        self.lags = False

    def note_keys(self, cells: Tensor, keys: Tensor, count: int) -> None:
        """Note the keys ``(n, D)`` of cells ``(n,)``, of ``count`` cells in all."""
        if self.fingerprint is None:
            return
        if len(self.fingerprint) < count:
            self.fingerprint = self.growing.grown(self.fingerprint, count)
        self.fingerprint[cells.to(self.fingerprint.device)] = row_fingerprints(keys)

    def holds(self, memory: CellMemory, keys: Tensor) -> bool:
        """Whether the index surely holds these keys of a memory, as far as PyTorch and a few numbers show."""
        identity, spots = self.identity, self.spots
        if identity is None or identity != Identity.of(memory, keys):
            return False
        return spots is None or spots.unchanged(keys)


_HELD: WeakKeyDictionary[Index, Held] = WeakKeyDictionary()
"""Record of each index object and the memory it serves, so that no other memory is searched through it."""


def claim(index: Index, server: Serving, memory: CellMemory) -> Held:
    """Note that ``server`` searches ``memory`` through ``index``.

    Raises:
        ConfigError: the index serves another memory.
    """
    held = _HELD.setdefault(index, Held())
    others = [other for other in held.served if other is not server and other.index is index]
    if any(other.memory is not memory for other in others):
        raise ConfigError(
            f"this {type(index).__name__} already serves another memory: make an index of its own for "
            "this one, or share one IndexedMemory"
        )
    if not others and server not in held.served:
        held.forget()
    held.served.add(server)
    if isinstance(index, Structure):
        index.keys_owner = ref(memory)
    return held


Cells = TypeVar("Cells", bound=CellMemory)


def checked_cells(memory: Cells) -> Cells:
    """Refuse what has not the methods of a ``CellMemory``, such as keys alone."""
    if isinstance(memory, type) or not all(hasattr(memory, name) for name in ("keys_of", "snapshot")):
        raise ConfigError(
            f"memory is {type(memory).__name__}, expected hmn.Memory, hmn.EncodedMemory or another "
            "CellMemory: make one with Memory(keys)"
        )
    return memory


def show_memory(layer: nn.Module, memory: CellMemory) -> None:
    """Make ``layer.memory`` this memory, without telling the layer."""
    if isinstance(memory, nn.Module):
        vars(layer).pop("memory", None)
        layer._modules["memory"] = memory
    else:
        layer._modules.pop("memory", None)
        vars(layer)["memory"] = memory


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


def scores_live(index: Index, keys: Tensor) -> bool:
    """Whether an index scores these very keys at every search, and so cannot fall behind."""
    scores = getattr(index, "scores_live", None)  # isinstance of a protocol takes 20 times as long
    return scores is not None and bool(scores(keys))


def check_count(count: int, memory: CellMemory) -> None:
    """Refuse an index of another number of cells than a memory's."""
    if count != num_held(memory):
        raise ShapeError(
            f"the index has {count} cells but the memory has {num_held(memory)}: "
            "build it on the memory's keys, or give one without cells"
        )


def changed_cells(index: Index, held: Held, memory: CellMemory) -> tuple[Tensor, Tensor]:
    """Fingerprints ``(N,)`` of a memory's keys, and cells ``(n,)`` that the index holds with other keys."""
    keys = memory.snapshot()
    present, indexed = row_fingerprints(keys), held.fingerprint  # (N,)
    differs = _differs(index, held, memory) if indexed is None else indexed.to(keys.device) != present
    cells = differs.nonzero().squeeze(1)
    gaps = gaps_of(memory)
    if gaps:
        there = [cell not in gaps for cell in cells.tolist()]
        cells = cells[torch.tensor(there, dtype=torch.bool, device=cells.device)]
    return present, cells


def _differs(index: Index, held: Held, memory: CellMemory) -> Tensor:
    """Which keys ``(N,)`` of a memory differ from those of an index that was built elsewhere.

    An index whose state does not show its keys is trusted.

    Raises:
        ShapeError: the index has cells of its own numbering.
    """
    keys = memory.snapshot()  # (N, D)
    differs = torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
    state = index.state_dict()
    stored, cell = state.get("rows.keys"), state.get("rows.cell")
    if stored is None:
        return differs
    if stored.shape[1:] != keys.shape[1:]:
        return ~differs
    held.shares = SameStorage(stored)
    row = torch.arange(len(stored), device="cpu") if cell is None else (cell >= 0).nonzero().squeeze(1).cpu()
    order = torch.arange(len(row), device="cpu") if cell is None else cell.cpu()[row].argsort()
    numbers = row[order] if cell is None else cell.cpu()[row[order]]
    cells = held_cells(memory, keys.device)
    if not torch.equal(numbers, cells.cpu()):
        raise ShapeError(
            f"the index has cells of its own numbering, expected 0 to {len(keys) - 1}: build it on the "
            "memory's keys without giving cell ids"
        )
    wanted = row_fingerprints(keys.to(stored.dtype)[cells])
    differs[cells] = row_fingerprints(stored)[row[order].to(stored.device)].to(keys.device) != wanted
    return differs
