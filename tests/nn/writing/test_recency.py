"""The order of use against a plain list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hmn.nn.writing import recency
from hmn.nn.writing.recency import Recency

CELLS = 7
USES = st.lists(st.lists(st.integers(0, CELLS - 1), max_size=5), max_size=40)


@given(USES, st.integers(0, CELLS), st.integers(0, 9))
def test_the_oldest_are_those_of_a_list(uses: list[list[int]], count: int, spare: int) -> None:
    spared, recency.SPARE = recency.SPARE, spare  # outdated uses are dropped soon
    try:
        made, order = Recency(CELLS), list(range(CELLS))
        for cells in uses:
            made.use(cells)
            for cell in cells:
                order.remove(cell)
                order.append(cell)
            assert made.oldest(count) == order[:count]
            assert len(made._uses) <= 2 * CELLS + spare
        made.reset()
        assert made.oldest(CELLS) == list(range(CELLS))
    finally:
        recency.SPARE = spared
