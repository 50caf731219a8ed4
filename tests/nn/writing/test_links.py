"""The order of writing against plain lists."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from hmn.nn.writing.links import Links

CELLS = 6
PAIR = st.lists(st.integers(-1, CELLS - 1), min_size=2, max_size=2).filter(
    lambda pair: pair[0] != pair[1] or pair[0] < 0
)


@given(st.lists(PAIR, max_size=25))
def test_two_heads_have_chains_of_their_own(written: list[list[int]]) -> None:
    links = Links(1, CELLS, torch.device("cpu"))
    after: dict[int, int] = {}
    last = [-1, -1]
    for pair in written:
        links.append(torch.tensor([pair]))
        new = [cell for cell in pair if cell >= 0]
        after = {one: two for one, two in after.items() if one not in new and two not in new}
        for head, cell in enumerate(pair):
            before = -1 if last[head] in new else last[head]
            if cell >= 0 and before >= 0:
                after[before] = cell
            last[head] = cell if cell >= 0 else before
        cells = torch.arange(-1, CELLS)
        assert links.follow(cells).tolist() == [-1] + [after.get(cell, -1) for cell in range(CELLS)]
        before_of = {two: one for one, two in after.items()}
        assert links.follow(cells, back=True)[1:].tolist() == [before_of.get(c, -1) for c in range(CELLS)]
    links.reset(torch.arange(CELLS))
    assert links.follow(torch.arange(CELLS)).tolist() == [-1] * CELLS
