"""A bundle: a flat folder of safetensors, JSON and other files with checksums, replaced as a whole.

A bundle is written into a temporary folder beside its final path, synced, and renamed. An existing bundle is
first renamed too, and removed afterwards. After a crash between the two renames, readers still find it.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hmn.errors import BundleError
from hmn.store.atomic import (
    PROBE,
    explaining,
    make_parents,
    name_beside,
    remove,
    resolved,
    uninterrupted,
    write_synced,
)
from hmn.store.contents import check_finite, fitting
from hmn.store.manifest import (
    Entry,
    Identity,
    checked_files,
    checked_name,
    identity,
    json_bytes,
    parse_object,
    seal,
)
from hmn.store.replace import find_bundle, folder_identity, is_replaceable, recover, swap

_READ_ATTEMPTS = 20
"""Upper limit of attempts to open a bundle that is being replaced."""
_READ_PAUSE = 0.005
"""Seconds between attempts."""


@contextmanager
def writing_bundle(
    path: Path | str,
    *,
    on_sealed: Callable[[Path], None] | None = None,
    written: Mapping[str, Entry] | None = None,
) -> Iterator[Path]:
    """Give a temporary folder to write into; when the block ends, it becomes the bundle at ``path``.

    Missing parent folders are made. An existing bundle is replaced at the very end; it is unchanged if the
    block or the saving fails or is interrupted. Ctrl-C in the moment of the replacement itself takes effect
    right after it. Of two writers at once, the last one wins.

    Args:
        path: path of the bundle: there must be nothing, an empty folder or a bundle. A link is followed.
        on_sealed: called with the temporary folder when it is complete and on disk, before it is renamed.
        written: filled by the block with the entries of files that it has measured and synced itself, or had
            other processes write; see ``seal``.

    Yields:
        The temporary folder, beside ``path``. It may hold only plain files, no folders.

    Raises:
        BundleError: ``path`` is a file or another kind of folder, the block left anything but plain files
            with simple names, or the write failed. Exceptions of the block are passed on unchanged.
    """
    path = resolved(path)
    with explaining("write", path):
        make_parents(path)
        recover(path)
        is_replaceable(path)
    new = name_beside(path, "new")
    try:
        with explaining("write", path):
            new.mkdir()
        yield new
        with explaining("write", path):
            seal(new, written)
        if on_sealed is not None:
            on_sealed(new)
        with explaining("write", path), uninterrupted():
            swap(new, path)
    except BaseException:
        with uninterrupted():
            remove(new)
        raise


def check_writable(path: Path | str) -> None:
    """Refuse now, before hours of work, a path at which ``writing_bundle`` would fail at the end.

    Missing parent folders are made.

    Raises:
        BundleError: there is a file or a folder that is not a bundle, or nothing can be written there.
    """
    path = resolved(path)
    with explaining("write", path):
        make_parents(path)
        is_replaceable(path)
        new = name_beside(path, "new")
        try:
            new.mkdir()
            write_synced(new / PROBE, PROBE.encode())
        finally:
            remove(new)


class BundleReader:
    """Reads a bundle after checking every file against the manifest.

    If the bundle is replaced after it was opened, the reader raises ``BundleError``: it never mixes files of
    two bundles. Files that the manifest does not list are ignored.
    """

    def __init__(self, path: Path | str) -> None:
        """Read the manifest and check the size, then the CRC32, of each file.

        Args:
            path: the folder; if a crash left its bundle set aside, that one is read.

        Raises:
            BundleError: the folder is missing, is not a bundle, or has a newer format; or a file is missing
                or damaged. The message names the file.
        """
        path = resolved(path)
        with explaining("read", path):
            self._folder, self._identity = _opened(path)

    def has(self, name: str) -> bool:
        """Whether the bundle holds a file ``name``."""
        return name in self._identity

    def file(self, name: str) -> Path:
        """Return the path of the checked file ``name``.

        If another process may save there, call this again after reading, as ``json`` and ``tensors`` do: if
        it raises no error, the bytes that were read are the bytes that were checked.

        Raises:
            BundleError: the bundle has no such file, or has been replaced since it was opened.
        """
        if not self.has(name):
            held = ", ".join(sorted(self._identity)) or "no files"
            raise BundleError(f"{self._folder}: no file {name!r} in the bundle, it has {held}: save it again")
        file = self._folder / name
        with suppress(OSError):
            if identity(file.stat()) == self._identity[name]:
                return file
        raise BundleError(f"{file}: replaced or changed since the bundle was opened: open the bundle again")

    def json(self, name: str) -> dict[str, Any]:
        """Read the JSON object in the file ``name``.

        Raises:
            BundleError: as for ``file``; or the content is not a JSON object.
        """
        file = self.file(name)
        with explaining("read", file):
            data = file.read_bytes()
        self.file(name)
        return parse_object(data, file)

    def tensors(self, name: str, *, finite: bool = False) -> dict[str, Tensor]:
        """Load the tensors of the safetensors file ``name``, on the CPU.

        Args:
            name: the file.
            finite: refuse NaN and infinity.

        Raises:
            BundleError: as for ``file``; or the content is not safetensors, or not finite.
        """
        file = self.file(name)
        try:
            tensors: dict[str, Tensor] = load_file(file)
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            self.file(name)
            raise BundleError(
                f"{file}: cannot be read as safetensors ({error}): save the bundle again"
            ) from error
        self.file(name)
        if finite:
            with fitting(file):
                check_finite(tensors)
        return tensors


def write_json(folder: Path, name: str, obj: Mapping[str, Any]) -> None:
    """Write a JSON object with sorted keys to ``folder/name``; the same object gives the same bytes.

    Raises:
        BundleError: ``obj`` cannot be written as JSON (a NaN, a tensor, keys that are equal as text), a
            bundle cannot hold a file called ``name``, or the write failed.
    """
    file = folder / checked_name(name, folder)
    try:
        data = json_bytes(obj)
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"{file}: cannot be written as JSON ({error}): use plain finite values") from error
    parse_object(data, file)
    with explaining("write", file):
        file.write_bytes(data)


def write_tensors(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Write dense tensors of any shape, type and device as safetensors to ``folder/name``.

    Tensors that share memory no longer share it when they are loaded.

    Raises:
        BundleError: a tensor is sparse or has no data, a bundle cannot hold a file called ``name``, or the
            write failed.
    """
    file = folder / checked_name(name, folder)
    plain: dict[str, Tensor] = {}
    storages: set[int] = set()
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta:
            kind = "meta" if tensor.is_meta else str(tensor.layout)
            raise BundleError(f"{file}: tensor {key!r} is {kind}, expected a dense one: convert it first")
        # Conjugated and negated views are flags on a tensor, which the file format cannot express.
        dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        storage = dense.untyped_storage().data_ptr()
        plain[key] = dense.clone() if storage in storages else dense
        storages.add(storage)
    with explaining("write", file):
        # safetensors makes files that only their owner can read: give it the mode of a new empty file.
        file.touch()
        mode = stat.S_IMODE(file.stat().st_mode)
        try:
            save_file(plain, file)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        file.chmod(mode)


def _opened(path: Path) -> tuple[Path, dict[str, Identity]]:
    """Find the bundle of ``path`` and check its files; gives its folder and the identity of each file."""
    attempt = 0
    while True:
        attempt += 1
        folder = find_bundle(path)
        before = folder_identity(folder)
        try:
            return folder, checked_files(folder)
        except (BundleError, OSError):
            # A bundle that is being replaced can look damaged or missing: try again until it has settled.
            settled = before is not None and folder_identity(folder) == before and find_bundle(path) == folder
            if settled or attempt == _READ_ATTEMPTS:
                raise
        time.sleep(_READ_PAUSE)
