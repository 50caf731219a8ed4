"""The load of other processes, and timings that it spoils."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from bench.index.load.quiet import Load, LoadedError, Quiet, Snapshot, load_between, snapshot

from bench.index.load import quiet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")

BUSY = "while True: pass"
DETACHED = f"""
import subprocess, sys
nowhere = {{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}
print(subprocess.Popen([sys.executable, "-c", {BUSY!r}], **nowhere).pid)
"""


def after_some_work(number: int, before: Snapshot) -> Snapshot:
    """A snapshot after a process has used a tenth of a second more, here or elsewhere."""
    for _ in range(200):
        time.sleep(0.1)
        after = snapshot()
        if number in after.others:
            done = after.others[number] - before.others[number]
        else:
            done = after.own - before.own
        if done > quiet.TICKS / 10:
            return after
    raise AssertionError("it did nothing in 20 s")


def test_a_child_counts_as_our_own_also_when_it_has_ended() -> None:
    before = snapshot()
    child = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        during = after_some_work(child.pid, before)
    finally:
        child.kill()
        child.wait()
    assert child.pid not in during.others
    assert snapshot().own >= during.own > before.own


def test_a_process_of_others_is_counted_and_named() -> None:
    # its parent ends at once, so that it descends from nobody here
    stranger = int(subprocess.run([sys.executable, "-c", DETACHED], capture_output=True, check=True).stdout)
    try:
        before = snapshot()
        after = after_some_work(stranger, before)
    finally:
        os.kill(stranger, signal.SIGKILL)
    assert os.getpid() not in after.others
    assert "python" in after.names[stranger]
    assert load_between(before, after).processors > 0


def test_load_is_what_the_machine_did_beyond_our_own() -> None:
    before = Snapshot(at=0.0, machine=1000, own=100, others={7: 50}, names={7: "make", 8: "cc1"})
    after = replace(before, at=2.0, machine=1000 + 3 * quiet.TICKS, own=100 + 2 * quiet.TICKS)
    after = replace(after, others={7: 50 + quiet.TICKS // 4, 8: quiet.TICKS // 2})
    load = load_between(before, after)
    assert load.processors == pytest.approx(0.5)
    assert load.most == (8, "cc1", pytest.approx(0.25))
    assert str(load) == "others used 0.50 processors, cc1 (8) 0.25 of them"
    assert load.exceeds(0.05)
    assert not replace(load, processors=0.06).exceeds(0.05), "rounding alone may explain it"
    assert load_between(before, replace(before, at=2.0, own=110)).processors == 0


def loads(monkeypatch: pytest.MonkeyPatch, *processors: float) -> None:
    """The loads that are found one after the other; the last one stays."""
    left = list(processors)

    def found(_before: Snapshot, _after: Snapshot) -> Load:
        return Load(left.pop(0) if len(left) > 1 else left[0], 0.0, None)

    monkeypatch.setattr(quiet, "load_between", found)
    monkeypatch.setattr(quiet, "SAMPLE", 0.001)


def counter() -> Callable[[], int]:
    calls: list[None] = []

    def call() -> int:
        calls.append(None)
        return len(calls)

    return call


def test_a_timing_beside_others_is_repeated_when_they_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    loads(monkeypatch, 1.0, 0.9, 0.8, 0.0)  # the timing, and two samples of the wait
    lines: list[str] = []
    assert Quiet(log=lines.append).timed("row", counter()) == (2, 0.0)
    assert lines == ["row: others used 1.00 processors, 0.05 at most; again when the machine is quiet"]


def test_a_row_that_is_never_quiet_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loads(monkeypatch, *[0.5, 0.0] * quiet.TRIES)
    call = counter()
    with pytest.raises(LoadedError, match=r"row: refused, since others used 0.50 processors"):
        Quiet(log=lambda _: None).timed("row", call)
    assert call() == quiet.TRIES + 1
    loads(monkeypatch, 0.5)
    with pytest.raises(LoadedError, match="raise --patience"):
        Quiet(patience=0.003, log=lambda _: None).timed("row", counter())


def test_what_takes_too_long_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    loads(monkeypatch, 0.5, 0.0)
    watch = Quiet()
    assert watch.seen(counter())[1] == Load(0.5, 0.0, None)
    assert watch.seen(counter()) == (1, None)


def test_without_a_limit_nothing_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    loads(monkeypatch, 2.0)
    watch = Quiet(limit=None)
    assert watch.timed("row", counter()) == (1, None)
    assert watch.seen(counter()) == (1, None)
    watch.wait("row")
