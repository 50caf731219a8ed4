"""The order of use against a plain list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmn.nn.writing import recency
from hmn.nn.writing.recency import Recency

CELLS, SEQUENCES = 7, 2
USE = st.lists(st.lists(st.integers(-1, CELLS - 1), min_size=3, max_size=3), min_size=2, max_size=2)
WANTED = st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=2, max_size=2)


@pytest.mark.parametrize("most_in_table", [0, CELLS])
@given(uses=st.lists(st.tuples(USE, WANTED), max_size=40), spare=st.integers(0, 9))
def test_the_oldest_are_those_of_a_list(
    most_in_table: int, uses: list[tuple[list[list[int]], list[list[bool]]]], spare: int
) -> None:
    kept = recency.SPARE, recency.MOST_IN_TABLE
    recency.SPARE, recency.MOST_IN_TABLE = spare, most_in_table  # outdated uses are dropped soon
    try:
        made, orders = Recency(SEQUENCES, CELLS), [list(range(CELLS)) for _ in range(SEQUENCES)]
        for cells, wanted in uses:
            made.use(np.array(cells))
            for order, own in zip(orders, cells, strict=True):
                for cell in own:
                    if cell >= 0:
                        order.remove(cell)
                        order.append(cell)
            expected = []
            for order, places in zip(orders, wanted, strict=True):
                oldest = iter(order)
                expected.append([next(oldest) if place else -1 for place in places])
            assert made.oldest(np.array(wanted)).tolist() == expected
            assert all(len(queue._uses) <= 2 * CELLS + spare for queue in made._queues)
        assert bool(made._queues) == (most_in_table == 0)
        made.reset()
        every = np.ones((SEQUENCES, CELLS), dtype=bool)
        assert made.oldest(every).tolist() == [list(range(CELLS))] * SEQUENCES
    finally:
        recency.SPARE, recency.MOST_IN_TABLE = kept
