"""Readers share the lock, a writer has it alone, and nobody waits for ever."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hmn.index.locking import ReadersWriterLock

SOON = 10.0
"""Seconds after which a thread counts as stuck."""


def started(action: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.001)


def joined(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive(), "a thread is stuck"


@contextmanager
def held_elsewhere(lock: ReadersWriterLock, kind: str) -> Iterator[None]:
    """Another thread reads or writes meanwhile."""
    inside, end = threading.Event(), threading.Event()

    def hold() -> None:
        with getattr(lock, kind):
            inside.set()
            end.wait(SOON)

    thread = started(hold)
    inside.wait(SOON)
    try:
        yield
    finally:
        end.set()
        joined(thread)


def test_readers_read_at_the_same_time() -> None:
    lock, both = ReadersWriterLock(), threading.Barrier(2)

    def read() -> None:
        with lock.reading:
            both.wait(SOON)  # passes only if both are inside

    joined(started(read), started(read))
    assert not both.broken


def test_a_writer_is_alone() -> None:
    lock, held, inside = ReadersWriterLock(), [0, 0], threading.Event()
    wrong: list[tuple[int, ...]] = []

    def work(kind: int) -> None:
        for _ in range(300):
            with lock.writing if kind else lock.reading:
                held[kind] += 1
                time.sleep(0)
                if held[1] > 1 or (held[1] and held[0]) or (kind and held != [0, 1]):
                    wrong.append(tuple(held))
                held[kind] -= 1
        inside.set()

    # counters of readers are not atomic: one reader thread at a time counts, two writers do
    joined(*(started(lambda kind=kind: work(kind)) for kind in (0, 1, 1)))  # type: ignore[misc]
    assert inside.is_set() and not wrong


def test_a_writer_goes_before_readers_who_come_later_and_these_before_the_next_writer() -> None:
    lock, order = ReadersWriterLock(), list[str]()

    def enter(name: str) -> None:
        with lock.writing if name.startswith("write") else lock.reading:
            order.append(name)
            time.sleep(0.02)

    with held_elsewhere(lock, "reading"):
        first = started(lambda: enter("write 1"))
        until(lambda: len(lock._writers) == 1)
        second = started(lambda: enter("write 2"))
        until(lambda: len(lock._writers) == 2)
        readers = [started(lambda: enter("read")) for _ in range(2)]
        until(lambda: len(lock._queued) == 2)
    joined(first, second, *readers)
    assert order in (["write 1", "read", "read", "write 2"], ["write 2", "read", "read", "write 1"])


@pytest.mark.parametrize("busy", ["reading", "writing"])
def test_whoever_is_interrupted_while_waiting_blocks_nobody(
    busy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = ReadersWriterLock()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with held_elsewhere(lock, busy), monkeypatch.context() as patch:
        patch.setattr(lock._changed, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt), lock.writing:
            pass
        if busy == "writing":
            with pytest.raises(KeyboardInterrupt), lock.reading:
                pass

    def both() -> None:
        with lock.reading:
            pass
        with lock.writing:
            pass

    joined(started(both))


def test_an_interrupted_writer_lets_in_the_readers_that_waited_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lock = ReadersWriterLock()
    wait, late = lock._changed.wait, list[threading.Thread]()

    def queue_one_and_stop() -> None:
        monkeypatch.setattr(lock._changed, "wait", wait)
        late.append(started(lambda: lock.reading.__enter__()))
        while not lock._queued:
            wait(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(lock._changed, "wait", queue_one_and_stop)
    with held_elsewhere(lock, "reading"):
        with pytest.raises(KeyboardInterrupt), lock.writing:
            pass
        joined(*late)


def test_errors_leave_it_free_and_copies_have_their_own() -> None:
    lock = ReadersWriterLock()
    for context in (lock.reading, lock.writing):
        with pytest.raises(ValueError, match="inside"), context:
            raise ValueError("inside")
    with lock.writing, copy.deepcopy({"lock": lock})["lock"].writing:
        pass


@pytest.mark.parametrize("left", ["reading", "writing"])
def test_what_a_thread_was_kept_from_giving_back_it_gives_back_when_it_enters_again(left: str) -> None:
    lock, done = ReadersWriterLock(), list[str]()

    def work() -> None:
        kept = getattr(lock, left)
        kept.__enter__()  # and is interrupted before it leaves
        for kind in ("reading", "writing", "reading"):
            with getattr(lock, kind):
                done.append(kind)

    joined(started(work))
    with lock.writing:
        assert done == ["reading", "writing", "reading"]


def test_a_writer_that_is_destroyed_lets_others_in() -> None:
    lock = ReadersWriterLock()
    kept = lock.writing
    kept.__enter__()
    late = started(lambda: lock.reading.__enter__())
    until(lambda: len(lock._queued) == 1)
    del kept
    joined(late)
