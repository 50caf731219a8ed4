from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from hmn.serve.writes.together import Together


class Doubling:
    """Doubles numbers, but for odd ones above 100, which it refuses; keeps the groups."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(numbers))
        self.go.wait(10)
        return [
            ValueError(f"{number} is odd") if number > 100 and number % 2 else 2 * number
            for number in numbers
        ]


def test_what_comes_meanwhile_is_one_group_and_each_has_its_result() -> None:
    work = Doubling()
    together = Together(work, most=4)
    first = together.submit(1)
    while not work.groups:
        time.sleep(0.001)
    later = [together.submit(number) for number in (2, 101, 3, 4, 5)]
    later[2].cancel()
    work.go.set()
    together.close()
    assert first.result() == 2
    assert [future.result() for future in (later[0], *later[3:])] == [4, 8, 10]
    with pytest.raises(ValueError, match="101 is odd"):
        later[1].result()
    assert work.groups == [[1], [2, 101, 4], [5]]
    with pytest.raises(RuntimeError, match="no more items"):
        together.submit(6)


def test_work_that_raises_fails_its_group_and_the_next_one_is_done() -> None:
    def work(numbers: Sequence[int]) -> list[int | Exception]:
        return [10 // number for number in numbers]

    together = Together(work)
    with pytest.raises(ZeroDivisionError):
        together.submit(0).result(10)
    assert together.submit(5).result(10) == 2
    together.close()
    together.close()
