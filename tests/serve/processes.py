"""Processes that write to a journal or a served model until they are killed.

A process that has imported all that is needed forks one child per task, which so begins at once. A child
prints ``ack VERSION`` for each write that was acknowledged.
"""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hmn.qa import saved_model
from hmn.serve.compact import compact
from hmn.serve.journal import Entry, Journal, Written
from hmn.serve.served import ServedModel
from hmn.serve.writes.operations import Operation, checked, packed
from hmn.serve.writes.together import Together

CRASHED = 77
"""Exit status of a process that ended at the step that it was given."""
STEPS = ("saving", "sealed", "noted", "set aside", "swapped", "folding", "folded")
"""Moments of a compaction, in order, at which it can be ended."""


def batch(writer: int, number: int) -> list[Operation]:
    """Write ``number`` of a writer: three facts, which tell what they belong to."""
    return checked([{"add": [[f"w{writer}n{number}", f"part{part}", "kept"] for part in range(3)]}])


class Appender:
    """Threads' writes to a journal alone, one commit for those that come together."""

    def __init__(self, journal: Journal) -> None:
        self.journal, self.commits = journal, 0
        self.together = Together(self._append)

    def _append(self, writes: Sequence[list[Operation]]) -> list[Written]:
        first = self.journal.version + 1
        written = [Written(first + place, 0, 0, 0) for place in range(len(writes))]
        pairs = zip(written, writes, strict=True)
        self.journal.append([Entry(one, packed(operations)) for one, operations in pairs])
        self.commits += 1
        return written


def write_journal(path: str, writers: str, start: str) -> None:
    """Let threads write to a journal without an end."""
    appender = Appender(Journal(path, "bundle"))

    def write(writer: int) -> None:
        number = int(start)
        while True:
            written = appender.together.submit(batch(writer, number)).result()
            os.write(1, f"ack {written.version} {writer} {number}\n".encode())
            number += 1

    for writer in range(int(writers)):
        threading.Thread(target=write, args=(writer,), daemon=True).start()
    signal.pause()


def write_model(folder: str) -> None:
    """Write to a served model without an end; a person's job is always the number of the write."""
    served = ServedModel.open(folder)
    while True:
        job = f"job of version {served.version + 1}"
        written = served.write([{"replace": [["p0", "person/job", job], ["p1", "person/job", job]]}])
        os.write(1, f"ack {written.version}\n".encode())


def hold(folder: str) -> None:
    """Serve a folder and do nothing."""
    served = ServedModel.open(folder)
    os.write(1, f"ack {served.version}\n".encode())
    signal.pause()


def compact_until(folder: str, step: str) -> None:
    """Fold a journal in, and end the process at a step, as a crash would."""

    def ends(*_: Any) -> None:
        os._exit(CRASHED)

    def and_ends(function: Callable[..., Any]) -> Callable[..., None]:
        return lambda *arguments: (function(*arguments), ends())[0]

    if step == "saving":
        saved_model.write_tensors = and_ends(saved_model.write_tensors)  # type: ignore[assignment]
    elif step == "sealed":
        Journal.begin_fold = ends  # type: ignore[assignment, method-assign]
    elif step == "noted":
        Journal.begin_fold = and_ends(Journal.begin_fold)  # type: ignore[method-assign]
    elif step == "set aside":
        pathlib.Path.rename = and_ends(pathlib.Path.rename)  # type: ignore[method-assign, assignment]
    elif step == "swapped":
        Journal.finish_fold = ends  # type: ignore[method-assign, assignment]
    elif step == "folding":
        finish = Journal.finish_fold

        def half(journal: Journal) -> None:
            Journal._drop_fold = ends  # type: ignore[method-assign, assignment]
            finish(journal)

        Journal.finish_fold = half  # type: ignore[method-assign]
    elif step == "folded":
        Journal.finish_fold = and_ends(Journal.finish_fold)  # type: ignore[method-assign]
    compact(folder)


TASKS: dict[str, Callable[..., None]] = {
    task.__name__: task for task in (write_journal, write_model, hold, compact_until)
}


class Forks:
    """Starts tasks in processes of their own; ``with`` ends them."""

    def __enter__(self) -> Forks:
        command = [sys.executable, "-m", "tests.serve.processes"]
        root = Path(__file__).parents[2]
        self._parent = subprocess.Popen(
            command, cwd=root, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._parent.stdin
        self._parent.stdin.close()
        self._parent.wait(timeout=60)
        assert self._parent.stdout
        self._parent.stdout.close()

    def start(self, task: str, *arguments: object) -> int:
        """Start a task; returns its process id."""
        assert self._parent.stdin
        print(task, *arguments, sep="\t", file=self._parent.stdin, flush=True)
        return int(self.line()[1])

    def line(self) -> list[str]:
        """The words of the next line that a task printed, or of ``end STATUS``."""
        assert self._parent.stdout
        return self._parent.stdout.readline().split()

    def until_end(self) -> tuple[list[list[str]], int]:
        """What the task printed until its end, and its exit status; of a signal, minus its number."""
        lines = []
        while (line := self.line())[0] != "end":
            lines.append(line)
        return lines, int(line[1])


def serve_tasks() -> None:
    """Fork a child for each line of standard input."""
    while line := sys.stdin.readline():
        task, *arguments = line.rstrip("\n").split("\t")
        ready, go = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.read(ready, 1)  # the first line is that of the process id
                TASKS[task](*arguments)
            finally:
                os._exit(1)
        os.write(1, f"pid {child}\n".encode())
        os.write(go, b".")
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(ready)
        os.close(go)
        os.write(1, f"end {status}\n".encode())


if __name__ == "__main__":
    serve_tasks()
