"""Putting a bundle in the place of another one, and finding the one that a crash left set aside."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

from hmn.errors import BundleError
from hmn.store.atomic import explaining, leftovers, name_beside, remove, resolved, sync_folder
from hmn.store.manifest import MANIFEST, Identity, is_bundle


def recover(path: Path | str) -> None:
    """Put back the bundle that a crash left set aside, and remove what dead processes left beside ``path``.

    ``writing_bundle`` does this by itself, and ``BundleReader`` reads a bundle where it lies set aside.

    Raises:
        BundleError: there is a bundle to put back, and the disk refused.
    """
    path = resolved(path)
    with explaining("recover", path):
        aside = _set_aside(path)
        if aside is not None and _is_vacant(path):
            try:
                aside.rename(path)
            except OSError as error:
                # A writer that is alive may have been faster in putting its own bundle there.
                if not (_is_taken(error) or isinstance(error, FileNotFoundError)):
                    raise
        intact = is_bundle(path)
        for leftover in leftovers(path):
            if not leftover.alive and (leftover.kind == "new" or intact):
                remove(leftover.path)


def swap(new: Path, path: Path) -> None:
    """Rename ``new`` to ``path``, with what was there set aside meanwhile and then removed."""
    while True:
        aside = name_beside(path, "old")
        swapped = False
        try:
            if is_replaceable(path):
                with suppress(FileNotFoundError):
                    path.rename(aside)
            new.rename(path)
            swapped = True
            sync_folder(path.parent)
        except BaseException as error:
            if swapped:
                with suppress(OSError):
                    path.rename(new)
            with suppress(OSError):
                aside.rename(path)
            # Another writer was faster between the two renames: its bundle is the one to replace.
            if swapped or not (isinstance(error, OSError) and _is_taken(error)):
                raise
            remove(aside)
        else:
            remove(aside)
            return


def find_bundle(path: Path) -> Path:
    """Where the bundle of ``path`` lies: there, or set aside by a crash; ``path`` if nowhere."""
    return (_set_aside(path) or path) if _is_vacant(path) else path


def _set_aside(path: Path) -> Path | None:
    """The newest bundle that lies set aside for ``path``."""
    asides: list[tuple[int, Path]] = []
    for leftover in leftovers(path):
        with suppress(OSError):
            if leftover.kind == "old" and is_bundle(leftover.path):
                asides.append(((leftover.path / MANIFEST).stat().st_mtime_ns, leftover.path))
    return max(asides)[1] if asides else None


def is_replaceable(path: Path) -> bool:
    """Whether there is a bundle at ``path`` (else nothing); anything else there is refused."""
    while not _is_vacant(path):
        before = folder_identity(path)
        if is_bundle(path):
            return True
        # What looks like no bundle may be one that another writer was just moving.
        if before is not None and folder_identity(path) == before:
            raise BundleError(
                f"{path}: there is a file, or a folder that is not a bundle, expected nothing, an empty "
                "folder or a bundle: choose another place, or remove it yourself; it is untouched"
            )
    return False


def _is_vacant(path: Path) -> bool:
    """Whether nothing, or an empty folder, is at ``path``."""
    try:
        return next(path.iterdir(), None) is None
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False


def _is_taken(error: OSError) -> bool:
    """Whether a folder could not be renamed because another one with files has that name."""
    return error.errno in (errno.ENOTEMPTY, errno.EEXIST)


def folder_identity(folder: Path) -> Identity | None:
    """What changes when another folder takes the place of this one."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns
