"""A bundle: a flat folder of safetensors, JSON and other files with checksums, replaced as a whole.

It is written in a temporary folder beside its place, synced, and renamed. The bundle that was there is set
aside for the moment between the two renames, and whoever comes after a crash finds it there.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hmn.errors import BundleError
from hmn.store.atomic import explaining, make_parents, name_beside, remove, resolved
from hmn.store.manifest import Identity, checked_files, checked_name, identity, json_bytes, parse_object, seal
from hmn.store.replace import find_bundle, folder_identity, is_replaceable, recover, swap

_READ_ATTEMPTS = 20
_READ_PAUSE = 0.005


@contextmanager
def writing_bundle(path: Path | str) -> Iterator[Path]:
    """Give a temporary folder to write into; when the block ends well, it becomes the bundle at ``path``.

    Missing parent folders are made. A bundle at ``path`` is replaced; until then, and if the block or the
    saving fails or is interrupted, it stays as it was. Of two writers at once, the last one wins.

    Args:
        path: where the bundle goes: nothing, an empty folder, or another bundle. A link is followed.

    Yields:
        The temporary folder, beside ``path``. Only plain files, without folders, may be put there.

    Raises:
        BundleError: ``path`` is a file or another kind of folder, the block left something else than plain
            files with simple names, or the disk refused. Exceptions of the block come through unchanged.
    """
    path = resolved(path)
    with explaining("write", path):
        make_parents(path)
        recover(path)
        is_replaceable(path)
        new = name_beside(path, "new")
        new.mkdir()
    try:
        yield new
        with explaining("write", path):
            seal(new)
            swap(new, path)
    except BaseException:
        remove(new)
        raise


class BundleReader:
    """A bundle, every file of which has been compared with the manifest.

    If the bundle is replaced while a reader is open, the reader raises ``BundleError`` and never mixes files
    of two bundles. Files that the manifest does not list are ignored.
    """

    def __init__(self, path: Path | str) -> None:
        """Read the manifest and check the size, then the CRC32, of each file.

        Args:
            path: the folder; where a crash left it set aside, it is read from there.

        Raises:
            BundleError: the folder is missing, is not a bundle, or has a newer format; a file is missing,
                has another size or other bytes than were written. The message names the file.
        """
        path = resolved(path)
        with explaining("read", path):
            self._folder, self._identity = _opened(path)

    def has(self, name: str) -> bool:
        """Whether the bundle holds a file ``name``."""
        return name in self._identity

    def file(self, name: str) -> Path:
        """Return where the checked file ``name`` lies.

        Whoever reads it while others may save there calls this again afterwards, as ``json`` and ``tensors``
        do: no error means that what was read is what was checked.

        Raises:
            BundleError: there is no such file in the bundle, or the bundle has been replaced since.
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
            BundleError: as ``file``; or the content is not a JSON object.
        """
        file = self.file(name)
        with explaining("read", file):
            data = file.read_bytes()
        self.file(name)
        return parse_object(data, file)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Load the tensors of the safetensors file ``name``, on the CPU.

        Raises:
            BundleError: as ``file``; or the content is not safetensors.
        """
        file = self.file(name)
        try:
            tensors: dict[str, Tensor] = load_file(file)
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            self.file(name)
            raise BundleError(f"{file}: not read as safetensors ({error}): save the bundle again") from error
        self.file(name)
        return tensors


def write_json(folder: Path, name: str, obj: Mapping[str, Any]) -> None:
    """Write a JSON object, keys sorted, as ``folder/name``: the same object gives the same bytes.

    Raises:
        BundleError: ``obj`` has no JSON form (a NaN, a tensor, keys that become equal as text), ``name``
            cannot stand in a bundle, or the disk refused.
    """
    file = folder / checked_name(name, folder)
    try:
        data = json_bytes(obj)
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"{file}: no JSON form ({error}): use plain finite values") from error
    parse_object(data, file)
    with explaining("write", file):
        file.write_bytes(data)


def write_tensors(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Write dense tensors of any shape, type and device as safetensors in ``folder/name``.

    Tensors that share memory are written once each and come back separate.

    Raises:
        BundleError: a tensor is sparse or has no data, ``name`` cannot stand in a bundle, or the disk
            refused.
    """
    file = folder / checked_name(name, folder)
    plain: dict[str, Tensor] = {}
    storages: set[int] = set()
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta:
            kind = "meta" if tensor.is_meta else str(tensor.layout)
            raise BundleError(f"{file}: tensor {key!r} is {kind}, expected a dense one: convert it first")
        # A conjugated or negated view is a flag on other bytes, which the file format cannot express.
        dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        storage = dense.untyped_storage().data_ptr()
        plain[key] = dense.clone() if storage in storages else dense
        storages.add(storage)
    with explaining("write", file):
        # safetensors makes files that only their owner can read; an empty one tells the usual mode.
        file.touch()
        mode = stat.S_IMODE(file.stat().st_mode)
        try:
            save_file(plain, file)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        file.chmod(mode)


def _opened(path: Path) -> tuple[Path, dict[str, Identity]]:
    """Find the bundle of ``path`` and check its files: where it lies, and the identity of each file."""
    attempt = 0
    while True:
        attempt += 1
        folder = find_bundle(path)
        before = folder_identity(folder)
        try:
            return folder, checked_files(folder)
        except (BundleError, OSError):
            # What looks damaged may be two bundles, and what looks missing may lie between two renames, if a
            # writer is putting a new one there.
            settled = before is not None and folder_identity(folder) == before and find_bundle(path) == folder
            if settled or attempt == _READ_ATTEMPTS:
                raise
        time.sleep(_READ_PAUSE)
