"""Times calls while the machine is quiet; a timing beside other processes is repeated, or refused.

The load of others is what they used of the processors during a timing, on average: 1.0 is one processor. It
is the growth of the busy times in ``/proc/stat``, which has every process of the machine and what the
hypervisor took, less that of this process and its descendants in ``/proc/PID/stat``. So the busy processes
that the benchmark starts itself do not count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

LIMIT = 0.05
"""Processors that others may use during a timing."""
COUNTING = 3
"""Ticks by which the two sources may differ, since each rounds."""
TRIES = 5
"""Timings of one thing before it is refused."""
SAMPLE = 1.0
"""Seconds for which the load is watched while waiting."""
BUSY = (1, 2, 3, 6, 7, 8)
"""Columns of ``/proc/stat`` in which a processor is not free: user, nice, system, irq, softirq and steal."""
TICKS = os.sysconf("SC_CLK_TCK")
"""Ticks per second."""

Result = TypeVar("Result")


class LoadedError(Exception):
    """Other processes used the machine during every timing."""


@dataclass(frozen=True)
class Snapshot:
    """Ticks that processes had used at a time.

    Attributes:
        at: seconds of ``time.perf_counter``.
        machine: ticks in which a processor was busy.
        own: ticks of this process and its descendants, with those that have ended.
        others: ticks of every other process, by its number.
        names: names of these processes.
    """

    at: float
    machine: int
    own: int
    others: dict[int, int]
    names: dict[int, str]


@dataclass(frozen=True)
class Load:
    """What others used of the processors between two snapshots.

    Attributes:
        processors: processors in use on average, 0 or more.
        counting: how far this may be off.
        most: number and name of the process that used the most, with its share; None if none did.
    """

    processors: float
    counting: float
    most: tuple[int, str, float] | None

    def exceeds(self, limit: float) -> bool:
        """Whether it is above the limit for certain."""
        return self.processors > limit + self.counting

    def __str__(self) -> str:
        text = f"others used {self.processors:.2f} processors"
        if self.most is not None:
            number, name, share = self.most
            text += f", {name} ({number}) {share:.2f} of them"
        return text


def snapshot() -> Snapshot:
    """Ticks used until now."""
    columns = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()
    used: dict[int, int] = {}
    with_ended: dict[int, int] = {}
    parent: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        number = int(folder.name)
        # the name stands in brackets and may hold any others
        names[number] = text[text.index("(") + 1 : text.rindex(")")]
        rest = text[text.rindex(")") + 2 :].split()
        parent[number] = int(rest[1])
        used[number] = int(rest[11]) + int(rest[12])
        with_ended[number] = used[number] + int(rest[13]) + int(rest[14])
    own = {number for number in parent if _descends(number, os.getpid(), parent)}
    return Snapshot(
        time.perf_counter(),
        sum(int(columns[column]) for column in BUSY),
        sum(with_ended[number] for number in own),
        {number: ticks for number, ticks in used.items() if number not in own},
        names,
    )


def _descends(number: int, root: int, parent: dict[int, int]) -> bool:
    while number in parent and number != root:
        number = parent[number]
    return number == root


def load_between(before: Snapshot, after: Snapshot) -> Load:
    """What others used of the processors."""
    ticks = max((after.at - before.at) * TICKS, 1e-9)
    others = (after.machine - before.machine) - (after.own - before.own)
    grown = {number: used - before.others.get(number, 0) for number, used in after.others.items()}
    number, most = max(grown.items(), key=lambda entry: entry[1], default=(0, 0))
    named = (number, after.names[number], most / ticks) if most > 0 else None
    return Load(max(0, others) / ticks, COUNTING / ticks, named)


@dataclass
class Quiet:
    """Times calls, and repeats those during which others used more than ``limit`` processors.

    Attributes:
        limit: processors that others may use; None checks nothing.
        patience: seconds to wait for a quiet machine, of all waits together.
        log: called with a line when it waits.
        waited: seconds waited until now.
    """

    limit: float | None = LIMIT
    patience: float = 3600.0
    log: Callable[[str], None] = print
    waited: float = field(default=0.0, init=False)

    def timed(self, what: str, call: Callable[[], Result]) -> tuple[Result, float | None]:
        """The result of a call, and the processors that others used meanwhile; None if not checked.

        Raises:
            LoadedError: others used more than the limit each time, or the machine did not become quiet.
        """
        if self.limit is None:
            return call(), None
        for _ in range(TRIES):
            before = snapshot()
            result = call()
            load = load_between(before, snapshot())
            if not load.exceeds(self.limit):
                return result, round(load.processors, 3)
            self.log(f"{what}: {load}, {self.limit:g} at most; again when the machine is quiet")
            self.wait(what)
        raise LoadedError(f"{what}: refused, since {load} in the last of {TRIES} timings")

    def wait(self, what: str) -> None:
        """Wait until others use no more than the limit.

        Raises:
            LoadedError: it took longer than the patience that is left.
        """
        if self.limit is None:
            return
        while True:
            before = snapshot()
            time.sleep(SAMPLE)
            load = load_between(before, snapshot())
            self.waited += SAMPLE
            if not load.exceeds(self.limit):
                return
            if self.waited > self.patience:
                raise LoadedError(
                    f"{what}: refused, since {load} after {self.waited:.0f} s of waiting, expected "
                    f"{self.limit:g} at most: stop other work, or raise --patience"
                )

    def seen(self, call: Callable[[], Result]) -> tuple[Result, Load | None]:
        """The result of a call that takes too long to repeat, and the load meanwhile if it is over the limit.

        Figures that were measured under such a load are not to be published.
        """
        if self.limit is None:
            return call(), None
        before = snapshot()
        result = call()
        load = load_between(before, snapshot())
        return result, load if load.exceeds(self.limit) else None
