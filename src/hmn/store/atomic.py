"""Replacing a file so that a crash leaves the old or the new one, and cleaning up after dead processes.

Temporary files and folders lie beside ``NAME``, under a hidden name that identifies the process that made
them: ``.NAME.hmn-new-HOST-PID-RANDOM``. A folder that is set aside while it is replaced has ``hmn-old``.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import signal
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hmn.errors import BundleError

_POSIX = os.name == "posix"
"""Whether folders can be synced: they cannot on Windows."""


PROBE = "x" * 64
"""Name of a file that tries whether a folder can be written; none that is written later is longer."""


class Leftover(NamedTuple):
    """A temporary file or folder.

    Attributes:
        path: its path.
        kind: ``new`` while it is being written, ``old`` if it was set aside.
        alive: whether the process that made it may still be running.
    """

    path: Path
    kind: str
    alive: bool


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the content of the file ``path``; a crash leaves either all of the old or all of the new.

    Missing parent folders are made; a link is followed.

    Raises:
        BundleError: ``path`` is a folder or a device, or the write failed; the old content is unchanged.
    """
    path = resolved(path)
    with explaining("write", path):
        if path.exists() and not path.is_file():
            raise BundleError(f"{path}: got a folder or a device, expected a file: choose another name")
        make_parents(path)
        for leftover in leftovers(path):
            if leftover.kind == "new" and not leftover.alive:
                remove(leftover.path)
        new = name_beside(path, "new")
        try:
            write_synced(new, data)
            new.replace(path)
        except BaseException:
            with uninterrupted():
                remove(new)
            raise
        sync_folder(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Create a file and sync it to disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk, where the system can."""
    if not _POSIX:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_parents(path: Path) -> None:
    """Make the missing parent folders of ``path``, and sync their names."""
    missing = [parent for parent in path.parents if not parent.exists()]
    above = path.parents[len(missing)] if len(missing) < len(path.parents) else path
    if not above.is_dir():
        raise BundleError(f"{path}: got the file {above}, expected a folder: choose another place")
    made: list[Path] = []
    try:
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            made.append(folder)
            sync_folder(folder.parent)
    except BaseException:
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        raise


def resolved(path: Path | str) -> Path:
    """Make a path absolute and follow its links; ``BundleError`` if it is not a valid path."""
    try:
        absolute = Path(path).resolve()
        str(absolute).encode()  # Arrow and safetensors open files by their names in UTF-8
        return absolute
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise BundleError(f"{str(path)!r:.300}: not a valid path ({error}): choose another") from error


def check_folder(folder: Path | str) -> None:
    """Refuse now, before hours of work, a folder that files cannot be written to; it is made if missing.

    Raises:
        BundleError: it is a file, or a file cannot be made in it.
    """
    folder = resolved(folder)
    with explaining("write into", folder):
        probe = name_beside(folder / PROBE, "new")
        make_parents(probe)
        try:
            write_synced(probe, PROBE.encode())
        finally:
            remove(probe)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and other signals with a Python handler wait until the block has ended.

    Python runs these handlers in the main thread, so a block in another thread is never interrupted.
    """
    waiting: list[int] = []
    handlers: dict[int, Any] = {}

    def note(number: int, _: Any) -> None:
        waiting.append(number)

    try:
        if threading.current_thread() is threading.main_thread():
            for kind in (signal.SIGINT, signal.SIGTERM):
                if callable(signal.getsignal(kind)):
                    handlers[kind] = signal.signal(kind, note)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in waiting:
            signal.raise_signal(number)


@contextmanager
def explaining(action: str, path: Path) -> Iterator[None]:
    """Turn an error of the operating system into a ``BundleError``."""
    try:
        yield
    except OSError as error:
        raise BundleError(
            f"{path}: could not {action} it ({error}): check free space and permissions; a mount point "
            "cannot be replaced, use a folder inside it"
        ) from error


def name_beside(path: Path, kind: Literal["new", "old"]) -> Path:
    """Make up a new temporary name beside ``path``."""
    return path.with_name(f".{path.name}.hmn-{kind}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}")


def leftovers(path: Path) -> list[Leftover]:
    """List the temporary files and folders beside ``path``, of this process and of others."""
    name = re.escape(f".{path.name}.hmn-")
    pattern = re.compile(name + r"(new|old)-([0-9a-f]{8})-([0-9]{1,9})-[0-9a-f]{8}")
    result: list[Leftover] = []
    if path.parent.is_dir():
        with os.scandir(path.parent) as entries:
            for entry in entries:
                if match := pattern.fullmatch(entry.name):
                    kind, host, pid = match.groups()
                    # Another machine may share the disk; whether its process is alive cannot be known.
                    alive = host != _host() or _is_alive(int(pid))
                    result.append(Leftover(path.with_name(entry.name), kind, alive))
    return result


def remove(path: Path) -> None:
    """Remove a temporary file or folder, ignoring errors."""
    # The manifest goes first, so that a half-removed folder does not look like a bundle.
    with suppress(OSError):
        (path / "manifest.json").unlink()
    with suppress(OSError):
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def _host() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_alive(pid: int) -> bool:
    # Signal 0 only asks whether a process exists; on Windows it would kill the process.
    if not _POSIX:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
