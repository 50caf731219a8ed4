"""Failures while files are written: errors, full disks, killed processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hmn.errors
from hmn.store import atomic


class PowerCut(BaseException):
    """Nothing may catch this one."""


CALLS = ["rename", "replace", "fsync"]


def fail_at(patch: pytest.MonkeyPatch, step: int, error: BaseException, onwards: bool) -> list[str]:
    """Let the ``step``-th call raise (and, ``onwards``, all later ones); return the log of calls."""
    log: list[str] = []

    def failing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            log.append(name)
            if len(log) == step or (onwards and len(log) > step):
                raise error
            return real(*arguments, **options)

        return call

    for name in CALLS:
        patch.setattr(os, name, failing(name, getattr(os, name)))
    return log


SOURCE = Path(hmn.errors.__file__).parents[1]


# Makes a function kill its process just before it runs, if that is the change `step` to the disk.
DEADLY = """\
def deadly(real, step):
    def call(*arguments, **options):
        global seen
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call
"""

# Forks one writer per step; it kills itself with SIGKILL just before its n-th change to the disk.
KILLER = (
    DEADLY
    + """
import os, shutil, signal, sys
from pathlib import Path
from hmn.store.atomic import write_atomically
from hmn.store.bundle import write_json, writing_bundle
root, seen = Path(sys.argv[1]), 0
def put(path, value):
    if value.startswith("file"):
        write_atomically(path, value.encode())
        return
    with writing_bundle(path) as folder:
        write_json(folder, "config.json", {"value": value})
for kind in ("bundle", "file"):
    status, step = -9, 0
    while status:
        step += 1
        path = root / f"{kind}{step}" / "it"
        put(path, kind + " old")
        child = os.fork()
        if not child:
            for name in ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir"):
                setattr(os, name, deadly(getattr(os, name), step))
            put(path, kind + " new")
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -9), status
put(root / "waiting" / "it", "bundle old")
with writing_bundle(root / "waiting" / "it") as folder:
    write_json(folder, "config.json", {"value": "half"})
    print("writing", flush=True)
    sys.stdin.read()
"""
)


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def lay_aside(path: Path, host: str | None = None) -> Path:
    """What a crash between the two renames leaves."""
    aside = path.with_name(f".{path.name}.hmn-old-{host or atomic._host()}-{dead_pid()}-{'0' * 8}")
    path.rename(aside)
    return aside
