"""Replacing files so that a crash leaves the old or the new one, and cleaning up after processes that died.

Temporary content lies beside its place under a hidden name that says whose it is:
``.NAME.hmn-new-HOST-PID-RANDOM``, or ``hmn-old`` for a folder set aside while another one takes its place.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from hmn.errors import BundleError

_POSIX = os.name == "posix"


class Leftover(NamedTuple):
    """Temporary content beside its place.

    Attributes:
        path: where it lies.
        kind: ``new`` was being written, ``old`` was set aside.
        alive: whether the process that made it may still be at work.
    """

    path: Path
    kind: str
    alive: bool


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file ``path`` by ``data``: a crash leaves the old content or the new one, whole.

    Missing parent folders are made; a link is followed.

    Raises:
        BundleError: ``path`` is a folder or a device, or the disk refused; the old content is untouched.
    """
    path = resolved(path)
    with explaining("write", path):
        if path.exists() and not path.is_file():
            raise BundleError(f"{path}: a folder or a device, expected a file: choose another name")
        make_parents(path)
        for leftover in leftovers(path):
            if leftover.kind == "new" and not leftover.alive:
                remove(leftover.path)
        new = name_beside(path, "new")
        try:
            write_synced(new, data)
            new.replace(path)
        except BaseException:
            remove(new)
            raise
        sync_folder(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet, through to the disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlast a power cut, where the system can."""
    if not _POSIX:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_parents(path: Path) -> None:
    """Make the missing folders above ``path``, and sync their names."""
    missing = [parent for parent in path.parents if not parent.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def resolved(path: Path | str) -> Path:
    """Make a path absolute and follow its links; ``BundleError`` if it can be no path at all."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise BundleError(f"{str(path)!r}: not a usable path ({error}): choose another") from error


@contextmanager
def explaining(action: str, path: Path) -> Iterator[None]:
    """Turn what the operating system says into a ``BundleError``."""
    try:
        yield
    except OSError as error:
        raise BundleError(
            f"{path}: could not {action} it ({error}): check free space and permissions; a mounted folder "
            "cannot be replaced, use one below it"
        ) from error


def name_beside(path: Path, kind: Literal["new", "old"]) -> Path:
    """Make up a fresh temporary name for content of ``path``."""
    return path.with_name(f".{path.name}.hmn-{kind}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}")


def leftovers(path: Path) -> list[Leftover]:
    """List the temporary content of ``path``, of this process and of others."""
    name = re.escape(f".{path.name}.hmn-")
    pattern = re.compile(name + r"(new|old)-([0-9a-f]{8})-([0-9]{1,9})-[0-9a-f]{8}")
    found: list[Leftover] = []
    if path.parent.is_dir():
        with os.scandir(path.parent) as entries:
            for entry in entries:
                if match := pattern.fullmatch(entry.name):
                    kind, host, pid = match.groups()
                    # Of a process on another machine that shares the disk, nothing is known.
                    alive = host != _host() or _is_alive(int(pid))
                    found.append(Leftover(path.with_name(entry.name), kind, alive))
    return found


def remove(path: Path) -> None:
    """Remove a temporary folder or file as far as possible; half a folder must not look like a bundle."""
    with suppress(OSError):
        (path / "manifest.json").unlink()
    with suppress(OSError):
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def _host() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_alive(pid: int) -> bool:
    # Elsewhere than on POSIX, signal 0 is not a question but a kill.
    if not _POSIX:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
