"""Arrays of text, compared without pyarrow's functions, whose import takes as long as reading a table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

WIDEST = 64
"""Upper limit of the bytes of texts that are laid out in equal widths."""

FixedWidth = NDArray[np.bytes_]


def large(texts: pa.Array) -> pa.Array:
    """An array of string or large_string, without gaps, as large_string."""
    if pa.types.is_large_string(texts.type) or not len(texts):
        return texts if len(texts) else pa.array([], pa.large_string())
    start, data = _parts(texts)
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(start), data)


def lengths(texts: pa.Array) -> NDArray[np.int64]:
    """Bytes of each text of an array without gaps."""
    return np.diff(_parts(texts)[0]) if len(texts) else np.zeros(0, np.int64)


def fixed_width(texts: pa.Array) -> FixedWidth | None:
    """Texts as NumPy holds them, in the same order by the alphabet; None if they are too long for that."""
    if not len(texts):
        return np.zeros(0, "S1")
    start, data = _parts(texts)
    length, flat = np.diff(start), np.frombuffer(data, np.uint8)[start[0] : start[-1]]
    width = max(1, int(length.max()))
    if width > WIDEST or not flat.all():  # NumPy takes a NUL for the end of a text
        return None
    cells = np.zeros((len(texts), width), np.uint8)
    cells[np.arange(width) < length[:, None]] = flat
    return cells.view(f"S{width}")[:, 0]


def is_ascending(texts: FixedWidth) -> bool:
    """Whether each text comes after the one before."""
    return bool((texts[1:] > texts[:-1]).all())


def places_in(texts: pa.Array, among: pa.Array) -> NDArray[np.int64]:
    """The place of each text among distinct ones; -1 where it is not there. Quick if both are in order."""
    wanted, known = fixed_width(texts), fixed_width(among)
    if wanted is None or known is None:
        import pyarrow.compute as pc

        places = pc.fill_null(pc.index_in(texts, value_set=among), -1)
        return np.asarray(places.to_numpy(zero_copy_only=False), np.int64)
    both = np.concatenate([known, wanted])
    order = np.argsort(both, kind="stable")  # which merges what is in order, and leaves known ones first
    both = both[order]
    is_first = np.ones(len(both), bool)
    is_first[1:] = both[1:] != both[:-1]
    first = order[np.maximum.accumulate(np.where(is_first, np.arange(len(both)), 0))]
    places = np.empty(len(both), np.int64)
    places[order] = np.where(first < len(known), first, -1)
    return places[len(known) :]


def _parts(texts: pa.Array) -> tuple[NDArray[np.int64], pa.Buffer]:
    """Where each text of an array that has any begins and where the last ends, and the bytes of all."""
    kind = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    _, start, data = texts.buffers()
    offsets = np.frombuffer(start, kind)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    return offsets, pa.py_buffer(b"") if data is None else data
