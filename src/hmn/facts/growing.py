"""Columns and rows of numbers that grow and change at a cost that does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hmn.facts.ragged import Ragged, offsets, spans

FEW = 8
"""Upper limit of the numbers that are put in one by one, which takes less time for so few."""


class Rows(Protocol):
    """Rows of numbers of different lengths: a ``Ragged``, or a ``ChangingRagged``."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def length(self) -> NDArray[np.int64]:
        """``(rows,)`` lengths."""
        ...

    def row(self, row: int) -> NDArray[np.int64]:
        """One row."""
        ...

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """The given rows, in that order."""
        ...


class Column:
    """A column of numbers that grows at its end.

    The array that it is made of is never written to: the first change copies it.

    Args:
        numbers: The first numbers.
    """

    def __init__(self, numbers: NDArray[Any]) -> None:
        self._room, self._count, self._is_own = numbers, len(numbers), False

    def __len__(self) -> int:
        """Number of numbers."""
        return self._count

    def __getitem__(self, place: int) -> int:
        """One number."""
        return int(self._room[place])

    def __setitem__(self, place: int, number: int) -> None:
        """Put one number in the place of another."""
        if not self._is_own:
            self._make_own(self._count)
        self._room[place] = number

    @property
    def numbers(self) -> NDArray[Any]:
        """All numbers, to read. Later changes show in it, but for numbers that are appended."""
        view = self._room[: self._count]
        view.flags.writeable = False
        return view

    def part(self, first: int, end: int) -> NDArray[Any]:
        """Some numbers, to write: the change shows in the column."""
        self._make_own(self._count)
        return self._room[first:end]

    def put(self, places: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        """Put numbers in the places of others."""
        self._make_own(self._count)
        self._room[places] = numbers

    def append(self, numbers: Sequence[int] | NDArray[Any]) -> None:
        """Add numbers at the end."""
        count = self._count + len(numbers)
        self._make_own(count)
        self._room[self._count : count] = numbers
        self._count = count

    def push(self, number: int) -> None:
        """Add one number at the end."""
        if not self._is_own or self._count == len(self._room):
            self._make_own(self._count + 1)
        self._room[self._count] = number
        self._count += 1

    def _make_own(self, count: int) -> None:
        """Make an array that may be written to and has room for ``count`` numbers."""
        if self._is_own and count <= len(self._room):
            return
        # doubling makes the cost per number constant, whatever the size of the steps
        room = np.zeros(count if count <= self._count else max(count, 2 * self._count), self._room.dtype)
        room[: self._count] = self._room[: self._count]
        self._room, self._is_own = room, True


class ChangingRagged:
    """Rows of different lengths, all ascending or in an order of the caller's, that change one by one.

    A row that outgrows its place moves to the end, with room to double.

    Args:
        rows: The first rows.
    """

    def __init__(self, rows: Rows) -> None:
        ragged = rows if isinstance(rows, Ragged) else rows.take(np.arange(rows.rows))
        self._start, self._length = Column(ragged.start[:-1]), Column(ragged.length)
        self._space = Column(ragged.length)
        self._flat = Column(ragged.flat)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self._start)

    @property
    def length(self) -> NDArray[np.int64]:
        """``(rows,)`` lengths."""
        return self._length.numbers

    def row(self, row: int) -> NDArray[np.int64]:
        """One row, to read."""
        start = self._start[row]
        return self._flat.numbers[start : start + self._length[row]]

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """The given rows, in that order."""
        start = self._start.numbers[rows]
        offset, places = spans(start, start + self._length.numbers[rows])
        return Ragged(offset, self._flat.numbers[places])

    def add_row(self, numbers: Sequence[int] = ()) -> int:
        """Add a row at the end; returns its number."""
        self._start.push(len(self._flat))
        self._length.push(len(numbers))
        self._space.push(len(numbers))
        if numbers:
            self._flat.append(numbers)
        return self.rows - 1

    def add_rows(self, count: int) -> None:
        """Add empty rows at the end."""
        self._start.append(np.full(count, len(self._flat), np.int64))
        self._length.append(np.zeros(count, np.int64))
        self._space.append(np.zeros(count, np.int64))

    def insert_many(self, rows: NDArray[np.integer[Any]], numbers: NDArray[np.int64]) -> None:
        """Put numbers ``(n,)`` into ascending rows ``(n,)`` that do not hold them yet, and keep these so."""
        if len(rows) <= FEW:
            for row, number in zip(rows.tolist(), numbers.tolist(), strict=True):
                self.insert(row, number)
            return
        # 1. Put what each row holds, and what comes, in order.
        # 2. A row that outgrows its place moves to the end, with room to double.
        changed, of_row = np.unique(rows, return_inverse=True)
        held = self.take(changed)
        all_rows = np.concatenate([np.repeat(np.arange(len(changed)), held.length), of_row])
        flat = np.concatenate([held.flat, numbers])
        flat = flat[np.lexsort((flat, all_rows))]
        length = held.length + np.bincount(of_row, minlength=len(changed))
        outgrown = length > self._space.numbers[changed]
        space = 2 * length[outgrown]
        begin = len(self._flat) + offsets(space)
        self._flat.append(np.zeros(begin[-1] - begin[0], np.int64))
        self._start.put(changed[outgrown], begin[:-1])
        self._space.put(changed[outgrown], space)
        self._length.put(changed, length)
        start = self._start.numbers[changed]
        self._flat.put(spans(start, start + length)[1], flat)

    def insert(self, row: int, number: int, place: int | None = None) -> None:
        """Put a number into a row.

        Args:
            row: The row.
            number: The number.
            place: Where in the row it goes; where it keeps the row ascending if not given.
        """
        length = self._length[row]
        if not length and not self._space[row]:  # a new row, which most are that get a number
            self._start[row], self._space[row], self._length[row] = len(self._flat), 2, 1
            self._flat.push(number)
            self._flat.push(0)
            return
        if place is None:
            place = int(np.searchsorted(self.row(row), number))
        if length == self._space[row]:
            self._move(row)
        start = self._start[row]
        held = self._flat.part(start, start + length + 1)
        held[place + 1 :] = held[place:-1].copy()
        held[place] = number
        self._length[row] = length + 1

    def discard(self, row: int, number: int) -> None:
        """Take a number out of a row that holds it."""
        start, length = self._start[row], self._length[row]
        held = self._flat.part(start, start + length)
        place = int(np.flatnonzero(held == number)[0])
        held[place:-1] = held[place + 1 :].copy()
        self._length[row] = length - 1

    def _move(self, row: int) -> None:
        """Give a row twice its room, at the end."""
        held = self.row(row).copy()
        self._start[row], self._space[row] = len(self._flat), max(2, 2 * len(held))
        self._flat.append(held)
        self._flat.append(np.zeros(self._space[row] - len(held), np.int64))
