"""Replacing one bundle by another, and finding the one that a crash left set aside."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

from hmn.errors import BundleError
from hmn.store.atomic import explaining, leftovers, name_beside, remove, resolved, sync_folder
from hmn.store.manifest import MANIFEST, Identity, is_bundle


def recover(path: Path | str) -> None:
    """Restore a bundle that a crash left set aside, and remove what dead processes left beside ``path``.

    ``writing_bundle`` does this itself. ``BundleReader`` does not need it: it reads a bundle set aside.

    Raises:
        BundleError: a bundle could not be restored.
    """
    path = resolved(path)
    with explaining("recover", path):
        aside = _set_aside(path)
        if aside is not None and _is_vacant(path):
            try:
                aside.rename(path)
            except OSError as error:
                # Another process may have put its own bundle there meanwhile.
                if not (_is_taken(error) or isinstance(error, FileNotFoundError)):
                    raise
        intact = is_bundle(path)
        for leftover in leftovers(path):
            if not leftover.alive and (leftover.kind == "new" or intact):
                remove(leftover.path)


def swap(new: Path, path: Path) -> None:
    """Rename ``new`` to ``path``; an existing bundle is set aside first, and removed at the end."""
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
            # Another process put its bundle there between the two renames: now replace that one.
            if swapped or not (isinstance(error, OSError) and _is_taken(error)):
                raise
            remove(aside)
        else:
            remove(aside)
            return


def find_bundle(path: Path) -> Path:
    """The folder of a bundle: ``path``, unless it is vacant and a crash left a bundle set aside."""
    return (_set_aside(path) or path) if _is_vacant(path) else path


def discard(path: Path) -> None:
    """Remove the bundle at ``path`` and those set aside for it, so that none is found again."""
    for leftover in leftovers(path):
        if leftover.kind == "old" or not leftover.alive:
            remove(leftover.path)
    remove(path)


def _set_aside(path: Path) -> Path | None:
    """The newest of the bundles set aside for ``path``."""
    asides: list[tuple[int, Path]] = []
    for leftover in leftovers(path):
        with suppress(OSError):
            if leftover.kind == "old" and is_bundle(leftover.path):
                asides.append(((leftover.path / MANIFEST).stat().st_mtime_ns, leftover.path))
    return max(asides)[1] if asides else None


def is_replaceable(path: Path) -> bool:
    """Whether there is a bundle at ``path``; ``BundleError`` if there is anything else."""
    while not _is_vacant(path):
        before = folder_identity(path)
        if is_bundle(path):
            return True
        # A bundle that another process is just moving does not look like one: look again.
        if before is not None and folder_identity(path) == before:
            raise BundleError(
                f"{path}: got a file, or a folder that is not a bundle, expected nothing, an empty folder or "
                "a bundle: choose another place, or remove it yourself; it is unchanged"
            )
    return False


def _is_vacant(path: Path) -> bool:
    """Whether there is nothing, or an empty folder, at ``path``."""
    try:
        return next(path.iterdir(), None) is None
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False


def _is_taken(error: OSError) -> bool:
    """Whether a rename failed because a folder with files has the new name."""
    return error.errno in (errno.ENOTEMPTY, errno.EEXIST)


def folder_identity(folder: Path) -> Identity | None:
    """Numbers that change when another folder takes the place of this one; None without a folder."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns
