"""The lock of a served model: one process at a time serves a folder, or folds its journal in."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType

from hmn.errors import InUseError
from hmn.store.atomic import explaining, make_parents, resolved

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

ATTEMPTS = 20
"""Upper limit of looks at a lock whose holder has not written its process id yet."""
PAUSE = 0.01
"""Seconds between looks."""


def lock_path(folder: Path | str) -> Path:
    """The lock of a bundle: a file beside its folder."""
    path = resolved(folder)
    return path.with_name(f"{path.name}.lock")


class ServeLock:
    """Held from the moment it is made; given back by ``close``, or by the end of the process in any way.

    Args:
        folder: The bundle.

    Raises:
        BundleError: The file cannot be made.
        InUseError: Another process holds the lock, or another object in this one.
    """

    def __init__(self, folder: Path | str) -> None:
        path = lock_path(folder)
        if fcntl is None:
            raise InUseError(f"{path}: this system has no flock, expected Linux or macOS: serve from there")
        with explaining("lock", path):
            make_parents(path)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUseError(
                    f"{resolved(folder)}: process {self._holder()} serves or changes it, expected no other: "
                    "stop that process first, or use a copy of the folder"
                ) from None
            with explaining("lock", path):
                os.ftruncate(self._file, 0)
                os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ServeLock:
        """The lock itself, which is held already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        self.close()

    def close(self) -> None:
        """Give the lock back; twice does no harm. The file stays, so that nobody locks one that is gone."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _holder(self) -> str:
        """The process id that the holder wrote; it writes it right after it has locked the file."""
        for _ in range(ATTEMPTS):
            text = os.pread(self._file, 32, 0).decode("ascii", "replace")
            if text.endswith("\n"):
                return text.strip()
            time.sleep(PAUSE)
        return "of an unknown id"
