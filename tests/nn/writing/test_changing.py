"""The order of changes to rows that several heads write."""

from __future__ import annotations

from hmn.nn.writing.changing import rounds


def test_rounds_keep_the_order() -> None:
    assert rounds([4, 2, 4, 4, 1, 2]) == [[0, 1, 4], [2, 5], [3]]
    assert rounds([4, 2, 1]) == [[0, 1, 2]]
