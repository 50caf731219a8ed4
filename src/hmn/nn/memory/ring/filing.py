"""Files the rows of a ring in its index as they are appended."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn.index.protocol import Index
from hmn.index.storage.fingerprint import Spots
from hmn.nn.memory.held import Held, Identity, scores_live
from hmn.nn.memory.stored import Memory
from hmn.nn.parts import CellMemory


def file_appended(index: Index, held: Held, memory: CellMemory) -> bool:
    """File the rows that were appended to a ring since its index was in step, at a cost of these rows alone.

    A structure that keeps the shape of its build, such as clusters, is built again each time that the number
    of rows that were ever appended has doubled: as the cells double in number, and later less and less often.

    Args:
        index: the index of the memory.
        held: what it holds.
        memory: any memory; nothing is done if it is not a ring.

    Returns:
        False if the index is to be built again.
    """
    known = held.identity
    if not isinstance(memory, Memory) or memory.appended is None:
        return True
    if known is None or known.appended == memory.appended:
        return True
    keys, capacity = memory.snapshot(), len(memory.table)
    now = Identity.of(memory, keys)
    if now.place != known.place:  # other rows were loaded, or all were forgotten
        held.due = None
        return True
    filled = min(known.appended, capacity)
    if held.due is None:
        held.due = 2 * known.appended
    if len(index) != filled or (now.appended >= held.due and not getattr(index, "adapts", False)):
        return False
    if not scores_live(index, keys):
        first = max(known.appended, now.appended - capacity)
        cells = torch.arange(first, now.appended, device=keys.device) % capacity
        _file(index, held, keys, cells[cells < filled], cells[cells >= filled].sort().values)
    held.identity = known._replace(appended=now.appended)
    return True


def _file(index: Index, held: Held, keys: Tensor, evicted: Tensor, filled: Tensor) -> None:
    """File keys ``(N, D)`` of cells whose rows were evicted, and of cells that were empty."""
    if len(evicted):
        index.update(evicted, keys[evicted])
        held.note_keys(evicted, keys[evicted], len(keys))
    if len(filled):
        index.add(filled, keys[filled])
        held.shares = None  # what was shared has been copied
        held.note_keys(filled, keys[filled], len(keys))
    held.spots = Spots(keys)
