"""Lists of coded entries that change: enter and take out entries, write their codes, average their vectors.

An entry's *slot* is its position in the arrays of its level: ``16 * panel + lane``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hmn._native import codes
from hmn._native.arguments import address, key_rows
from hmn._native.backend import kernels_for
from hmn._native.fallback import lists as pytorch
from hmn._native.fallback import ordered
from hmn._native.level import Encoder, Level

CENTROIDS = 16
"""Centroids per part of a short code: as many as 4 bits can name."""


def write_entries(
    level: Level, slot: Tensor, vectors: Tensor, rows: Tensor, lists: Tensor, direction: Tensor
) -> None:
    """Encode vectors into slots: the part along the list's direction as a float, the rest in codes.

    Args:
        level: modified in place: codes, along and step at these slots.
        slot: ``(n,)`` int64, distinct.
        vectors: ``(rows, D)`` float32, float16 or bfloat16.
        rows: ``(n,)`` int64 row of ``vectors`` for each entry.
        lists: ``(n,)`` int64 list of each entry.
        direction: ``(L, D)`` float32 vectors of the lists, or ``(L, 1)`` if they have none.
    """
    kernels = kernels_for(vectors)
    if kernels is None or level.bits == 16:
        codes.write_entries(level, slot, vectors, rows, lists, direction)
        return
    vectors, direction = vectors.contiguous(), direction.contiguous()
    rows, lists, slot = rows.contiguous(), lists.contiguous(), slot.contiguous()
    features, count = vectors.shape[-1], len(rows)
    directed = direction.shape[-1] != 1 or features == 1
    kernels.encode(
        level.compiled(kernels),
        *key_rows(vectors, features, "vectors"),
        features,
        address(rows, torch.int64, (count,), "rows"),
        count,
        address(lists, torch.int64, (count,), "lists"),
        address(direction, torch.float32, (len(direction), features), "directions") if directed else 0,
        len(direction),
        address(slot, torch.int64, (count,), "slots"),
        torch.get_num_threads(),
    )


def write_screen(
    level: Level,
    slot: Tensor,
    vectors: Tensor,
    rows: Tensor,
    lists: Tensor,
    direction: Tensor,
    short: Encoder,
) -> None:
    """Write short codes, rows of codes and sizes of entries whose codes ``write_entries`` has written.

    Args:
        level: modified in place: screen, fine and size at these slots.
        slot, vectors, rows, lists, direction: as for ``write_entries``.
        short: the short codes.
    """
    kernels, features = kernels_for(vectors), vectors.shape[-1]
    directed = direction.shape[-1] != 1 or features == 1
    if kernels is None:
        towards = direction[lists] if directed else direction.new_zeros(1, 1)
        ordered.write_screen(level, slot, vectors[rows].float(), towards, short)
        return
    vectors, direction = vectors.contiguous(), direction.contiguous()
    rows, lists, slot = rows.contiguous(), lists.contiguous(), slot.contiguous()
    count, (parts, width, _) = len(rows), short.centroid.shape
    order, rotation = short.order, short.rotation
    kernels.write_screen(
        level.compiled(kernels),
        *key_rows(vectors, features, "vectors"),
        features,
        address(rows, torch.int64, (count,), "rows"),
        count,
        address(lists, torch.int64, (count,), "lists"),
        address(direction, torch.float32, (len(direction), features), "directions") if directed else 0,
        len(direction),
        address(slot, torch.int64, (count,), "slots"),
        address(short.centroid, torch.float32, (parts, width, CENTROIDS), "centroids"),
        parts,
        width,
        0 if order is None else address(order, torch.int32, (parts * width,), "the order of features"),
        0 if rotation is None else address(rotation, torch.float32, (parts * width, features), "rotation"),
        torch.get_num_threads(),
    )


def take_out(level: Level, lists: Tensor, slot: Tensor, slot_of: Tensor) -> None:
    """Take entries out of their lists; the last entries of each list fill the gaps.

    Args:
        level: modified in place.
        lists: ``(n,)`` int64 list of each entry.
        slot: ``(n,)`` int64, distinct.
        slot_of: ``(children,)`` int64 slot of each child, updated in place; -1 for children taken out.
    """
    kernels = kernels_for(lists)
    if kernels is None:
        pytorch.take_out(level, lists, slot, slot_of)
        return
    lists, slot = lists.contiguous(), slot.contiguous()
    count, children = len(lists), len(slot_of)
    kernels.take_out(
        level.compiled(kernels),
        address(lists, torch.int64, (count,), "lists"),
        address(slot, torch.int64, (count,), "slots"),
        count,
        address(slot_of, torch.int64, (children,), "the slots of children"),
        children,
    )


def enter(level: Level, room: Tensor, used: int, lists: Tensor, child: Tensor, slot_of: Tensor) -> int:
    """Append children to lists, without codes; a full list moves to a place with twice the room.

    Args:
        level: modified in place.
        room: ``(L,)`` int64 panels reserved for each list; modified in place.
        used: panels in use.
        lists: ``(n,)`` int64 list of each child.
        child: ``(n,)`` int64, distinct.
        slot_of: ``(children,)`` int64 slot of each child, updated in place.

    Returns:
        Panels in use afterwards. If the level has fewer than that, nothing was changed.
    """
    kernels = kernels_for(lists)
    if kernels is None:
        return pytorch.enter(level, room, used, lists, child, slot_of)
    lists, child = lists.contiguous(), child.contiguous()
    count, children = len(lists), len(slot_of)
    panels: int = kernels.enter(
        level.compiled(kernels),
        address(room, torch.int64, level.length.shape, "the room of lists"),
        used,
        address(lists, torch.int64, (count,), "lists"),
        address(child, torch.int64, (count,), "children"),
        count,
        address(slot_of, torch.int64, (children,), "the slots of children"),
        children,
    )
    return panels


def write_bounds(level: Level, lists: Tensor, features: int) -> None:
    """Write the bounds of all panels of lists with short codes.

    The first bound of a panel says how large a part along the direction an entry of it may have: the longest
    length times the share of these parts in the lengths, each summed up, so that short entries beside long
    ones count little. The second is the same of the rests, for one feature: the longest length times the root
    of the share of their squares in those of the lengths, over the root of ``features``. Both are raised to
    the largest of the panels that follow in the list: a search may stop at the first low one.

    Args:
        level: modified in place.
        lists: ``(m,)`` int64.
        features: D, at least 1.
    """
    kernels = kernels_for(lists)
    if kernels is None:
        ordered.write_bounds(level, lists, features)
        return
    lists = lists.contiguous()
    kernels.write_bounds(
        level.compiled(kernels), address(lists, torch.int64, (len(lists),), "lists"), len(lists), features
    )


def disorder(level: Level, lists: Tensor) -> Tensor:
    """How much looser the bounds of lists ``(m,)`` are than after sorting: ``(m,)``, 1 for sorted lists.

    For each panel, the longest vector in it or after it is compared with the longest that would be there if
    the list were sorted; the largest quotient counts.
    """
    kernels = kernels_for(lists)
    if kernels is None:
        return ordered.disorder(level, lists)
    lists = lists.contiguous()
    worst = torch.empty(len(lists), dtype=torch.float32, device="cpu")
    kernels.disorder(
        level.compiled(kernels),
        address(lists, torch.int64, (len(lists),), "lists"),
        len(lists),
        worst.data_ptr(),
    )
    return worst


def settle(level: Level, lists: Tensor, slot_of: Tensor, loose: float) -> None:
    """Move entries of lists with short codes to panels of their length; bounds stay as they are.

    Args:
        level: modified in place.
        lists: ``(m,)`` int64, distinct.
        slot_of: ``(children,)`` int64 slot of each child, updated in place.
        loose: upper limit of the lists' ``disorder`` afterwards, at least 1.
    """
    kernels = kernels_for(lists)
    if kernels is None:
        ordered.settle(level, lists, slot_of, loose)
        return
    lists, children = lists.contiguous(), len(slot_of)
    kernels.settle(
        level.compiled(kernels),
        address(lists, torch.int64, (len(lists),), "lists"),
        len(lists),
        loose,
        address(slot_of, torch.int64, (children,), "the slots of children"),
        children,
    )


def means(level: Level, lists: Tensor, vectors: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean vector of the children of each list; longer vectors count more, see ``fallback.lists.means_of``.

    Args:
        level: level of the lists.
        lists: ``(n,)`` int64.
        vectors: ``(children, D)`` float32, float16 or bfloat16.
        weight: ``(children,)`` float32; None if all weigh 1.

    Returns:
        ``(n, D)`` float32 means and ``(n,)`` float32 sums of weights.
    """
    kernels = kernels_for(lists)
    if kernels is None:
        return pytorch.means(level, lists, vectors, weight)
    lists, vectors = lists.contiguous(), vectors.contiguous()
    rows = key_rows(vectors, vectors.shape[-1], "vectors")
    mean = torch.empty(len(lists), vectors.shape[1], dtype=torch.float32, device="cpu")
    total = mean.new_empty(len(lists))
    kernels.means(
        level.compiled(kernels),
        address(lists, torch.int64, (len(lists),), "lists"),
        len(lists),
        *rows,
        vectors.shape[1],
        0 if weight is None else address(weight, torch.float32, (len(vectors),), "weights"),
        mean.data_ptr(),
        total.data_ptr(),
        torch.get_num_threads(),
    )
    return mean, total
