"""A lock for many readers or one writer."""

from __future__ import annotations

from threading import Condition, RLock, get_ident
from typing import Any


class ReadersWriterLock:
    """Lets threads read at the same time, and one write while no other reads or writes.

    ``with lock.reading:`` and ``with lock.writing:`` enclose what is guarded. Neither side starves: readers
    that arrive while a writer waits or writes go in together when that writer is done, before the next one.
    A thread must not enter again what it holds. Copies of an object get a lock of their own.

    Ctrl-C may come between any two steps, even within ``__exit__``. So whoever enters is known by name, and
    all steps can be done again: a thread that enters first gives back what it still has, and a writer gives
    the lock back when it is destroyed.
    """

    def __init__(self) -> None:
        self.reading = _Reading(self)
        # Readers enter and leave without the mutex while no writer is there: each step of a dictionary is
        # one step of the interpreter. A reader shows itself before it looks for writers, and a writer before
        # it looks for readers, so one of the two sees the other.
        self._readers: dict[int, None] = {}  # threads inside
        self._writers: dict[object, int] = {}  # waiting or writing: a token of each, and its thread
        self._mutex = RLock()  # guards what follows; leaving it is one step, unlike leaving a condition
        self._changed = Condition(self._mutex)
        self._queued: dict[int, None] = {}  # threads that wait as readers until a writer is done
        self._writes: object = None  # token of the writer inside
        self._turn = 0  # counts writers that are done

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is a free lock."""
        return ReadersWriterLock, ()

    @property
    def writing(self) -> Writing:
        """A context for one writer."""
        return Writing(self)

    def enter(self) -> None:
        """Enter as a reader; call it in a ``try``, with ``leave`` in its ``finally``.

        This is faster than the context.
        """
        self._readers[get_ident()] = None
        if self._writers:
            self._wait()

    def leave(self) -> None:
        """Leave as a reader; leaving twice does no harm."""
        self._readers.pop(get_ident(), None)
        if self._writers:
            with self._mutex:
                self._changed.notify_all()

    def _wait(self) -> None:
        """Wait, as a reader, until the writer that waits or writes is done; it counts its readers in."""
        thread = get_ident()
        with self._mutex:
            self._give_back(thread)
            turn = self._turn
            if not self._writers:
                self._readers[thread] = None
                return
            try:
                self._queued[thread] = None
                self._changed.notify_all()
                while self._turn == turn:
                    self._changed.wait()
            except BaseException:  # such as Ctrl-C
                self._queued.pop(thread, None)
                self._readers.pop(thread, None)
                self._changed.notify_all()
                raise

    def _give_back(self, thread: int) -> None:
        """Take out what a thread still has since it was interrupted."""
        self._readers.pop(thread, None)
        for token in [token for token, owner in self._writers.items() if owner == thread]:
            self._release(token)

    def _write(self, token: object) -> None:
        """Wait, as a writer, until nobody else reads or writes."""
        with self._mutex:
            self._give_back(get_ident())
            self._writers[token] = get_ident()
            while self._readers or self._writes is not None:
                self._changed.wait()
            self._writes = token

    def _release(self, token: object) -> None:
        """Stop waiting or writing, and let in the readers that wait; doing so twice does no harm."""
        if token not in self._writers:
            return
        with self._mutex:
            if self._writes is token or len(self._writers) == 1:
                self._readers.update(self._queued)
                self._queued.clear()
                self._turn += 1
            if self._writes is token:
                self._writes = None
            self._writers.pop(token, None)
            self._changed.notify_all()


class _Reading:
    """The context of readers."""

    def __init__(self, lock: ReadersWriterLock) -> None:
        self._enter, self._leave = lock.enter, lock.leave

    def __enter__(self) -> None:
        try:
            self._enter()
        except BaseException:
            self._leave()
            raise

    def __exit__(self, *_: object) -> None:
        self._leave()


class Writing:
    """The context of one writer."""

    def __init__(self, lock: ReadersWriterLock) -> None:
        self._release, self._write = lock._release, lock._write
        self._token = object()

    def __enter__(self) -> None:
        """Wait until nobody else reads or writes."""
        try:
            self._write(self._token)
        except BaseException:
            self._release(self._token)
            raise

    def __exit__(self, *_: object) -> None:
        """Let others in."""
        self._release(self._token)

    def __del__(self) -> None:
        """Let others in, if an interruption kept ``__exit__`` from doing so."""
        self._release(self._token)
