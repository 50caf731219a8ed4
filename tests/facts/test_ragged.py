"""Spans of an array are joined as slices of it are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hmn.facts.ragged import Ragged, spans


@given(pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted), max_size=6))
def test_spans_agree_with_slices(pairs: list[list[int]]) -> None:
    flat = np.arange(10) * 7
    start, end = np.array(pairs, np.int64).reshape(-1, 2).T
    offset, places = spans(start, end)
    joined = Ragged(offset, flat[places])
    assert [joined.row(row).tolist() for row in range(joined.rows)] == [
        flat[first:last].tolist() for first, last in pairs
    ]
