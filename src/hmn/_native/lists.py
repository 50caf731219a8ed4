"""Lists of coded entries that change: entries go in and out, are written, and have means."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn._native import codes
from hmn._native.backend import STORAGE, kernels_for
from hmn._native.fallback import lists as pytorch
from hmn._native.level import Level


def write_entries(
    level: Level, place: Tensor, vectors: Tensor, rows: Tensor, lists: Tensor, direction: Tensor
) -> None:
    """Write entries of a level: the part along the direction of their list in full, the rest in codes.

    Args:
        level: is changed: codes, along and step at these places.
        place: ``(n,)`` int64, distinct.
        vectors: ``(rows, D)`` float32, float16 or bfloat16.
        rows: ``(n,)`` int64 which of them the entries are.
        lists: ``(n,)`` int64 list of each entry.
        direction: ``(L, D)`` float32 vectors of the lists; ``(L, 1)`` where they have none.
    """
    kernels = kernels_for(vectors)
    if kernels is None or level.bits == 16:
        codes.write_entries(level, place, vectors, rows, lists, direction)
        return
    vectors, direction = vectors.contiguous(), direction.contiguous()
    rows, place, lists = rows.contiguous(), place.contiguous(), lists.contiguous()
    directed = direction.shape[1] == vectors.shape[1]
    kernels.encode(
        level.compiled(kernels),
        vectors.data_ptr(),
        vectors.shape[1],
        STORAGE[vectors.dtype],
        rows.data_ptr(),
        len(rows),
        lists.data_ptr(),
        direction.data_ptr() if directed else 0,
        place.data_ptr(),
        torch.get_num_threads(),
    )


def take_out(level: Level, lists: Tensor, place: Tensor, where: Tensor) -> None:
    """Take entries out of their lists; the last of each list take their places.

    Args:
        level: is changed.
        lists: ``(n,)`` int64 list of each entry.
        place: ``(n,)`` int64, distinct.
        where: by child, int64: the place of each is followed; -1 for those that are taken out.
    """
    kernels = kernels_for(lists)
    if kernels is None:
        pytorch.take_out(level, lists, place, where)
        return
    lists, place = lists.contiguous(), place.contiguous()
    kernels.take_out(
        level.compiled(kernels), lists.data_ptr(), place.data_ptr(), len(lists), where.data_ptr()
    )


def enter(level: Level, room: Tensor, used: int, lists: Tensor, child: Tensor, where: Tensor) -> int:
    """Enter children at the ends of lists, without codes; a full list moves, to have room for twice as many.

    Args:
        level: is changed.
        room: ``(L,)`` int64 panels that each list may fill; is changed.
        used: panels in use.
        lists: ``(n,)`` int64 list of each child.
        child: ``(n,)`` int64, distinct.
        where: by child, int64: the place of each is followed.

    Returns:
        Panels in use then. If they are more than the level has nothing was changed.
    """
    kernels = kernels_for(lists)
    if kernels is None:
        return pytorch.enter(level, room, used, lists, child, where)
    lists, child = lists.contiguous(), child.contiguous()
    found: int = kernels.enter(
        level.compiled(kernels),
        room.data_ptr(),
        used,
        lists.data_ptr(),
        child.data_ptr(),
        len(lists),
        where.data_ptr(),
    )
    return found


def means(level: Level, lists: Tensor, vectors: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Means of what is in lists, longer vectors counting more; see ``hmn._native.fallback.lists.means_of``.

    Args:
        level: of the lists.
        lists: ``(n,)`` int64.
        vectors: by child, ``(rows, D)`` float32, float16 or bfloat16.
        weight: by child, float32; None where all weigh 1.

    Returns:
        ``(n, D)`` float32 means and ``(n,)`` float32 sums of weights.
    """
    kernels = kernels_for(lists)
    if kernels is None:
        return pytorch.means(level, lists, vectors, weight)
    lists, vectors = lists.contiguous(), vectors.contiguous()
    mean, total = torch.empty(len(lists), vectors.shape[1]), torch.empty(len(lists))
    kernels.means(
        level.compiled(kernels),
        lists.data_ptr(),
        len(lists),
        vectors.data_ptr(),
        vectors.shape[1],
        STORAGE[vectors.dtype],
        0 if weight is None else weight.data_ptr(),
        mean.data_ptr(),
        total.data_ptr(),
        torch.get_num_threads(),
    )
    return mean, total
