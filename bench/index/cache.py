"""Finished parts of the benchmark, kept on disk so that an interrupted run resumes."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import hmn
from bench.index.systems import ROWS
from bench.index.systems.base import version_of_package
from hmn.store.atomic import write_atomically


class Kept:
    """A folder of JSON files, each with a key of versions, data and settings.

    A file with another key is ignored: a newer version of a package, other data or other settings.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str, key: dict[str, Any]) -> Any:
        """The value that was written with this key; None if there is none."""
        file = self.folder / f"{name}.json"
        if not file.exists():
            return None
        stored = json.loads(file.read_text(encoding="utf-8"))
        return stored["found"] if stored["key"] == json.loads(json.dumps(key)) else None

    def write(self, name: str, key: dict[str, Any], value: Any) -> None:
        """Keep a value under a key."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(
            self.folder / f"{name}.json", json.dumps({"key": key, "found": value}, indent=1).encode()
        )


def slug(*names: object) -> str:
    """A file name made of names and settings."""
    text = "-".join(str(name) for name in names)
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in text)


def version_of(row: str) -> str | None:
    """Version of a row's package; our own has a checksum of the sources appended."""
    version = version_of_package(ROWS[row].package)
    if ROWS[row].package != "hmn" or version is None:
        return version
    return f"{version}+{sources_checksum('index', '_native')}"


def sources_checksum(*rooms: str) -> str:
    """Checksum of all files in some rooms of ``hmn``."""
    package, crc = Path(hmn.__file__).parent, 0
    for room in rooms:
        for file in sorted((package / room).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                crc = zlib.crc32(file.read_bytes(), crc)
    return f"{crc:08x}"
