"""The search as a PyTorch operator, ``hmn::search``, which compiled and exported programs call.

An operator takes tensors, numbers and text, so memories are known to it by name. The keys come with each
call: a program searches those that its scores come from, whichever memory has the name.
"""

from __future__ import annotations

from itertools import count
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from hmn.errors import CellError, ConfigError
from hmn.index.protocol import Searcher
from hmn.results import Read

LIBRARY: Any = torch.library.Library("hmn", "DEF")  # type: ignore[no-untyped-call]
"""Home of the operator."""
TAGS = ("pt2_compliant_tag", "cudagraph_unsafe")
"""Properties of the operator: it compiles, but not into a CUDA graph; early PyTorch cannot say the latter."""
UNNAMED = "unnamed-"
"""First letters of names that memories get by themselves; no other process knows these."""
_NUMBER = count()
"""Numbers of memories in this process."""


class Searched(Protocol):
    """A memory with its index, as the operator searches it."""

    search_name: str

    @property
    def memory(self) -> Any:
        """An ``hmn.nn.Memory``."""
        ...

    def in_step(self, *, training: bool = False) -> Searcher:
        """The index, after it has caught up with the memory."""
        ...

    def mark_read(self, cells: Tensor) -> None:
        """Note that the cells ``(n,)`` were read in training."""
        ...


_ALL: WeakValueDictionary[str, Searched] = WeakValueDictionary()
"""Every memory of this process, by name."""
_KEPT: dict[str, Searched] = {}
"""Memories that ``register_search`` was given, which would otherwise be gone before a program runs."""


def name_of_its_own(indexed: Searched) -> str:
    """Make a new memory known, under a name that no other in this process has."""
    name = f"{UNNAMED}{next(_NUMBER)}"
    _ALL[name] = indexed
    return name


def register_search(name: str, indexed: Searched | None) -> None:
    """Make a memory known by a name, under which compiled and exported programs of this process search it.

    Call it before ``torch.export``, and in each process that runs the exported program, with a memory of the
    same number of cells. Keys that differ from the program's own are indexed again. The memory is kept until
    another gets the name. A copy has to be given a name of its own.

    Args:
        name: a text that you choose; it is part of the exported program.
        indexed: the memory with its index, such as ``attention.indexed``; None forgets the one of that name.

    Raises:
        ConfigError: the name is not such a text; or the memory is not a stored one of this process.
    """
    if not isinstance(name, str) or not name or name.startswith(UNNAMED):
        raise ConfigError(
            f"name is {name!r}, expected a text that does not begin with {UNNAMED}: exported programs find "
            "the memory by it"
        )
    known = hasattr(indexed, "in_step") and hasattr(getattr(indexed, "memory", None), "show")
    if indexed is not None and not known:
        raise ConfigError(
            f"indexed is {type(indexed).__name__}, expected hmn.IndexedMemory of an hmn.Memory, such as "
            "attention.indexed: searches of other memories are not part of a program"
        )
    earlier = _KEPT.pop(name, None)
    _ALL.pop(name, None)
    if earlier is not None and earlier.search_name == name:
        earlier.search_name = name_of_its_own(earlier)
    if indexed is not None:
        _KEPT[name] = _ALL[name] = indexed
        indexed.search_name = name


def searchable(keys: Tensor) -> Tensor:
    """Refuse keys that no index of this process can hold.

    Raises:
        ConfigError: they are on the meta device, or sharded by FSDP2 or as a ``DTensor``.
    """
    if keys.is_meta:
        raise ConfigError(
            "the memory's keys are on the meta device, where they hold no numbers, expected numbers to "
            "search: call model.to_empty(device=...) and model.load_state_dict(...) first"
        )
    if hasattr(keys, "full_tensor"):
        raise ConfigError(
            "the memory's keys are a DTensor, of which this process holds a part, expected all keys: leave "
            "them out with fully_shard(model, ignored_params=set(memory.parameters())), or share out the "
            "cells with hmn.distributed.ShardedMemory"
        )
    return keys


def check_range(target: Tensor | None, count: int) -> None:
    """Refuse targets that are neither cells nor -1."""
    if target is None:
        return
    bad = (target < -1) | (target >= count)
    if bool(bad.any()):
        expected = f"expected cells from 0 to {count - 1}, or -1 for none"
        raise CellError(f"target holds cell {int(target[bad][0])}, {expected}")


def with_target(cell: Tensor, target: Tensor | None) -> Tensor:
    """Cells ``(B, K)`` with the target ``(B,)`` of each query in the last place, where it is not found."""
    if target is None:
        return cell
    absent = (target >= 0) & ~(cell == target.unsqueeze(1)).any(dim=1)
    cell = cell.clone()
    cell[:, -1] = torch.where(absent, target, cell[:, -1])
    return cell


def _in_step(indexed: Searched, keys: Tensor, training: bool) -> Searcher:
    """The index, after it has caught up with these keys: the memory's, unless a program has others."""
    memory = indexed.memory
    table = memory.table
    try:
        own = table.data_ptr() == keys.data_ptr() and table.shape == keys.shape
    except RuntimeError:  # torch.func has wrapped the memory's keys; those given are what it wrapped
        own = False
    # not the memory's snapshot: below autograd, a detached tensor does not count the changes of its source
    memory.show(table if own else keys)
    try:
        return indexed.in_step(training=training)
    finally:
        memory.show(None)


def _search(
    query: Tensor, keys: Tensor, target: Tensor | None, name: str, k: int, training: bool, mark: bool
) -> tuple[Tensor, Tensor]:
    """What the operator does: ``cell`` (B, K), -1 where unused, and ``reads`` (B,)."""
    indexed = _ALL.get(name)
    if indexed is None:
        raise ConfigError(
            f"this process has no memory named {name!r}, which the program searches: call "
            f"hmn.nn.register_search({name!r}, IndexedMemory(memory, index)) before it runs"
        )
    check_range(target, min(len(keys), len(indexed.memory)))  # a ring's keys have room for more
    with torch.no_grad():
        result = _in_step(indexed, keys, training).search(query, k)
        cell = with_target(result.cell, target)
    if mark:
        indexed.mark_read(cell[cell >= 0])
    return cell, result.reads


def _shapes(
    query: Tensor,
    keys: Tensor,  # noqa: ARG001 - the operator's signature
    target: Tensor | None,  # noqa: ARG001
    name: str,
    k: int,
    *flags: bool,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    """Tensors without numbers in place of what the operator returns, for compilers and exporters."""
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # later than PyTorch 2.6
    if exporting() and name.startswith(UNNAMED):
        raise ConfigError(
            "the memory has no name by which an exported program finds it, expected one: call "
            "hmn.nn.register_search('a name', attention.indexed) before torch.export"
        )
    batch = query.shape[0]
    return query.new_empty((batch, k), dtype=torch.int64), query.new_empty(batch, dtype=torch.float32)


def _mapped(
    info: Any,
    in_dims: tuple[int | None, ...],
    query: Tensor,
    keys: Tensor,
    target: Tensor | None,
    *settings: Any,
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    """Search for the queries of all places of a mapped dimension at once."""
    if in_dims[1] is not None:
        raise ConfigError(
            "torch.func.vmap maps over the keys of a memory, and an index serves one memory, expected to map "
            "over queries and targets: read each memory of an ensemble in a loop"
        )

    def folded(part: Tensor, dim: int | None) -> Tensor:
        """A part ``(B, ...)`` per place as ``(places * B, ...)``."""
        part = part.expand(info.batch_size, *part.shape) if dim is None else part.movedim(dim, 0)
        return part.flatten(0, 1)

    target = None if target is None else folded(target, in_dims[2])
    found = search(folded(query, in_dims[0]), keys, target, *settings)
    cell, reads = (part.unflatten(0, (info.batch_size, -1)) for part in found)
    return (cell, reads), (0, 0)


# an exported program that returns a Read can be saved
torch.utils._pytree._register_namedtuple(Read, serialized_type_name="hmn.results.Read")
LIBRARY.define(
    "search(Tensor query, Tensor keys, Tensor? target, str name, SymInt k, bool training, bool mark)"
    " -> (Tensor cell, Tensor reads)",
    tags=tuple(getattr(torch.Tag, name) for name in TAGS if hasattr(torch.Tag, name)),
)
# torch.library.custom_op and register_autograd take several times as long per call; cells have no gradients
LIBRARY.impl("search", _search, "CompositeExplicitAutograd")
LIBRARY.impl("search", torch.library.fallthrough_kernel, "Autograd")
torch.library.register_fake("hmn::search", _shapes, lib=LIBRARY)
torch.library.register_vmap("hmn::search", _mapped, lib=LIBRARY)

search = torch.ops.hmn.search.default
"""The operator.

Args:
    query: ``(B, D)``.
    keys: ``(N, D)`` that the index has to hold.
    target: ``(B,)`` cells that each query must be able to read, -1 for none; or None.
    name: of the memory.
    k: cells per query, K.
    training: whether the index may lag behind; see ``IndexedMemory.in_step``.
    mark: whether an optimiser's next step moves the keys that are read.
"""
