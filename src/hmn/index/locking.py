"""A lock for many readers or one writer."""

from __future__ import annotations

from threading import Condition, Lock
from typing import Any


class ReadersWriterLock:
    """Lets threads read at the same time, and one write while no other reads or writes.

    ``with lock.reading:`` and ``with lock.writing:`` enclose what is guarded. Neither side starves: readers
    that arrive while a writer waits or writes go in together when that writer is done, before the next one.
    A thread must not enter again what it holds. Copies of an object get a lock of their own.

    Attributes:
        reading: the context of readers.
        writing: the context of writers.
    """

    def __init__(self) -> None:
        self.reading, self.writing = _Reading(self), _Writing(self)
        # Readers enter and leave without the mutex while no writer is there: a list grows and shrinks in one
        # step of the interpreter. A reader shows itself before it looks for writers, and a writer before it
        # looks for readers, so one of the two sees the other.
        self._readers: list[None] = []  # one entry per reader inside
        self._writers = 0  # waiting or writing
        self._changed = Condition(Lock())  # guards what follows, and all waiting
        self._queued = 0  # readers that wait until a writer is done
        self._writes = False
        self._turn = 0  # counts writers that are done

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is a free lock."""
        return ReadersWriterLock, ()

    def enter(self) -> None:
        """Enter as a reader; call ``leave`` in a ``finally``. This is faster than the context."""
        self._readers.append(None)
        if self._writers:
            self._wait()

    def leave(self) -> None:
        """Leave as a reader."""
        self._readers.pop()
        if self._writers:
            with self._changed:
                self._changed.notify_all()

    def _wait(self) -> None:
        """Wait, as a reader, until the writer that waits or writes is done; it counts its readers in."""
        with self._changed:
            if not self._writers:
                return
            turn = self._turn
            self._readers.pop()
            self._queued += 1
            self._changed.notify_all()
            try:
                while self._turn == turn:
                    self._changed.wait()
            except BaseException:  # such as Ctrl-C
                if self._turn == turn:
                    self._queued -= 1
                else:
                    self._readers.pop()
                    self._changed.notify_all()
                raise

    def _admit(self) -> None:
        """Let in the readers that wait."""
        self._turn += 1
        self._readers += [None] * self._queued
        self._queued = 0
        self._changed.notify_all()


class _Reading:
    def __init__(self, lock: ReadersWriterLock) -> None:
        self._enter, self._leave = lock.enter, lock.leave

    def __enter__(self) -> None:
        self._enter()

    def __exit__(self, *_: object) -> None:
        self._leave()


class _Writing:
    def __init__(self, lock: ReadersWriterLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        lock = self._lock
        with lock._changed:
            lock._writers += 1
            try:
                while lock._readers or lock._writes:
                    lock._changed.wait()
            except BaseException:
                lock._writers -= 1
                if not lock._writers:
                    lock._admit()
                raise
            lock._writes = True

    def __exit__(self, *_: object) -> None:
        lock = self._lock
        with lock._changed:
            lock._writes = False
            lock._writers -= 1
            lock._admit()
