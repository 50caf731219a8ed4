"""``manifest.json`` of a bundle: the format version, and the size and CRC32 of all other files.

::

    {"format": "hmn-bundle", "version": 2, "files": {"config.json": {"crc32": "0a1b2c3d", "size": 412}}}
"""

from __future__ import annotations

import json
import os
import re
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hmn.errors import BundleError
from hmn.store.atomic import sync_folder, write_synced

FORMAT = "hmn-bundle"
"""Name of the format, as manifests have it."""
FORMAT_VERSION = 2
"""Version of the format that this version writes; newer ones are refused. Since 2, models and checkpoints may
hold only some rows of a table; see ``hmn.store.rows``."""
MANIFEST = "manifest.json"
"""File of the manifest in a bundle's folder."""

_MANIFEST_BYTES = 16 * 2**20
"""Upper limit of a manifest's size in bytes; a larger one is refused before it is parsed."""
_CHUNK_BYTES = 2**20
"""Number of bytes read at a time."""
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,200}")
"""Pattern of the file names that a bundle may have."""
_CRC32 = re.compile(r"[0-9a-f]{8}")
"""Pattern of a checksum."""
_ADVICE = "restore it from a copy, or save the bundle again"
"""Next step in messages about damaged bundles."""

Identity = tuple[int, ...]
"""Numbers that change when another file takes the place of this one."""
Entry = tuple[int, str]
"""Size in bytes and CRC32 of a file, as the manifest has them."""


def seal(folder: Path, written: Mapping[str, Entry] | None = None) -> None:
    """Sync every file of a folder to disk, then write and sync its manifest.

    Args:
        folder: the folder.
        written: entries of files that are complete and on disk, as ``measured`` gives them. These files are
            not read, and may have been written by other machines.

    Raises:
        BundleError: the folder holds anything but plain files with simple names.
    """
    written = written or {}
    files = {
        checked_name(name, folder): {"size": size, "crc32": crc32} for name, (size, crc32) in written.items()
    }
    for file in sorted(folder.iterdir()):
        name = checked_name(file.name, folder)
        if name in written:
            continue
        if not stat.S_ISREG(file.lstat().st_mode):
            raise BundleError(
                f"{file}: got a folder, link or device, expected a plain file: put only plain files there"
            )
        size, crc32 = measured(file)
        files[name] = {"size": size, "crc32": crc32}
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, "files": files}
    write_synced(folder / MANIFEST, json_bytes(manifest))
    sync_folder(folder)


def checked_files(folder: Path) -> dict[str, Identity]:
    """Check all files against the manifest, sizes before checksums.

    Returns:
        The identity of each file when it was read.

    Raises:
        BundleError: the manifest or a file is missing or damaged, or the format is newer.
    """
    listed = listed_files(folder)
    for name, (size, _) in listed.items():
        _check_size(folder / name, size)
    return {name: check_file(folder / name, entry) for name, entry in listed.items()}


def check_file(file: Path, entry: Entry) -> Identity:
    """Check a file against its entry in the manifest, its size before its checksum.

    Returns:
        The identity of the file when it was read.

    Raises:
        BundleError: the file is missing or damaged.
    """
    size, crc32 = entry
    _check_size(file, size)
    got, got_crc32, known = _measured(file)
    if (got, got_crc32) != (size, crc32):
        raise BundleError(
            f"{file}: damaged, has {got} bytes with CRC32 {got_crc32}, "
            f"expected {size} with {crc32}: {_ADVICE}"
        )
    return known


def _check_size(file: Path, size: int) -> None:
    if not file.is_file():
        raise BundleError(f"{file}: missing, expected a file of {size} bytes: {_ADVICE}")
    if (got := file.stat().st_size) != size:
        raise BundleError(f"{file}: damaged, has {got} bytes, expected {size}: {_ADVICE}")


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle, of any version."""
    try:
        _manifest(folder)
    except (BundleError, OSError):
        return False
    return True


def identity(status: os.stat_result) -> Identity:
    """The numbers that change when another file takes the place of this one."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def is_file_name(name: str) -> bool:
    """Whether a bundle may hold a file with this name."""
    return _FILE_NAME.fullmatch(name) is not None and name != MANIFEST


def checked_name(name: str, folder: Path) -> str:
    """Return a name that a bundle may hold; raise ``BundleError`` for any other."""
    if not is_file_name(name):
        raise BundleError(
            f"{folder}: a bundle cannot hold a file called {name!r}, expected ASCII letters, digits and _.+- "
            f"without folders, and not {MANIFEST}: choose another name"
        )
    return name


def json_bytes(obj: Mapping[str, Any]) -> bytes:
    """Encode an object as JSON; the same object gives the same bytes."""
    return (json.dumps(obj, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def parse_object(data: bytes, file: Path) -> dict[str, Any]:
    """Parse a JSON object without repeated keys; for anything else, a ``BundleError`` names ``file``."""
    try:
        parsed = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: not valid JSON ({error}): {_ADVICE}") from error
    if not isinstance(parsed, dict):
        raise BundleError(f"{file}: JSON of type {type(parsed).__name__}, expected an object: {_ADVICE}")
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("a key occurs twice in an object")
    return unique


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest and check the parts that are the same in all versions."""
    file = folder / MANIFEST
    if not folder.exists():
        raise BundleError(f"{folder}: no such folder, expected that of a saved model: check the path")
    if not file.is_file():
        raise BundleError(f"{folder}: not a bundle, it has no {MANIFEST}: check the path")
    with file.open("rb") as stream:
        data = stream.read(_MANIFEST_BYTES + 1)
    if len(data) > _MANIFEST_BYTES:
        raise BundleError(f"{file}: damaged, expected at most {_MANIFEST_BYTES} bytes: {_ADVICE}")
    manifest = parse_object(data, file)
    if manifest.get("format") != FORMAT:
        got = manifest.get("format")
        raise BundleError(
            f"{file}: not the manifest of a bundle: format is {got!r:.80}, expected {FORMAT!r}: "
            "check the path"
        )
    return manifest


def listed_files(folder: Path) -> dict[str, Entry]:
    """Read the manifest: the size and CRC32 of each file.

    Raises:
        BundleError: the manifest is missing or damaged, or the format is newer.
    """
    manifest, file = _manifest(folder), folder / MANIFEST
    version, files = manifest.get("version"), manifest.get("files")
    if type(version) is int and version > FORMAT_VERSION:
        raise BundleError(
            f"{file}: format version {version}, this hmn reads up to {FORMAT_VERSION}: install a newer hmn"
        )
    if type(version) is not int or version < 1:
        raise BundleError(f"{file}: damaged, version is {version!r:.80}, expected 1 or more: {_ADVICE}")
    if set(manifest) != {"format", "version", "files"} or not isinstance(files, dict):
        raise BundleError(
            f"{file}: damaged, has {sorted(manifest)!r:.80}, expected format, version and files: {_ADVICE}"
        )
    return {name: _entry(name, entry, file) for name, entry in files.items()}


def _entry(name: str, entry: Any, file: Path) -> Entry:
    """Check one entry of the manifest; gives size and CRC32."""
    if not is_file_name(name):
        raise BundleError(f"{file}: file name {name!r:.80}, expected a plain one without folders: {_ADVICE}")
    if not isinstance(entry, dict) or set(entry) != {"size", "crc32"}:
        raise BundleError(f"{file}: damaged, {name} has {entry!r:.80}, expected size and crc32: {_ADVICE}")
    size, crc32 = entry["size"], entry["crc32"]
    if type(size) is not int or size < 0:
        raise BundleError(f"{file}: damaged, {name} has size {size!r:.80}, expected bytes: {_ADVICE}")
    if not isinstance(crc32, str) or not _CRC32.fullmatch(crc32):
        raise BundleError(
            f"{file}: damaged, {name} has CRC32 {crc32!r:.80}, expected 8 hex digits: {_ADVICE}"
        )
    return size, crc32


def measured(file: Path) -> Entry:
    """Sync a file to disk; gives its entry for the manifest."""
    size, crc32, _ = _measured(file, sync=True)
    return size, crc32


def _measured(file: Path, sync: bool = False) -> tuple[int, str, Identity]:
    """Size, CRC32 and identity of a file; with ``sync``, it is also synced to disk."""
    size = crc32 = 0
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    with file.open("rb", buffering=0) as stream:
        if sync:
            os.fsync(stream.fileno())
        known = identity(os.fstat(stream.fileno()))
        while count := stream.readinto(buffer):
            size += count
            crc32 = zlib.crc32(buffer[:count], crc32)
    return size, f"{crc32:08x}", known
