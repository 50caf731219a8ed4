"""The results file: one JSON line per finished run, under a key of everything that the run depends on."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hmn.paper.grid import FORMAT, OUR_CLUSTERS, TEXT, Row
from hmn.paper.preset import Preset
from hmn.paper.runs.constants import constants

ADDED_LATER = ("speed_up",)
"""Settings of rows that enter the key only where they are set, so that older rows keep their keys."""
OLDER_TEXTS = {OUR_CLUSTERS: "cluster"}
"""Older texts of indexes, by the present ones; they enter the key, for the same reason."""

FIELDS: dict[str, type] = {
    "name": str,
    "seed": int,
    "device": str,
    "data": str,
    "preset": str,
    "tested": dict,
}
"""Fields that every run has beside its key, and their types; a report leaves out runs without them."""


def key_of(checksum: str, row: Row, preset: Preset, seed: int, device: str, model: str = "") -> str:
    """16 hexadecimal digits that differ between runs that may end differently.

    Args:
        checksum: checksum of the data.
        row: row that is run.
        preset: sizes of the row.
        seed: seed of the run.
        device: device that computes.
        model: checksum of the trained model; only a row with that model's cells depends on it.
    """
    data = checksum + (model if row.cells == TEXT else "")
    settings = {name: value for name, value in asdict(row).items() if value or name not in ADDED_LATER}
    settings["index"] = OLDER_TEXTS.get(row.index, row.index)
    parts = json.dumps([FORMAT, constants(), data, settings, asdict(preset), seed, device], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


class Results:
    """Finished runs on disk.

    Args:
        file: results file, made with the first result. A last line that a kill has cut short is ignored, and
            removed with the next result; if only its line end is missing, it counts.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.runs: dict[str, dict[str, Any]] = {}
        if file.exists():
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                run = _run_of(line)
                if run is not None:
                    self.runs[run["key"]] = run

    def __contains__(self, key: str) -> bool:
        """Whether a run is finished."""
        return key in self.runs

    def add(self, run: dict[str, Any]) -> None:
        """Append a finished run, and wait until it is on the disk."""
        self.runs[run["key"]] = run
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a+b") as file:
            content = file.read() if not file.seek(0) else b""
            last = content[content.rfind(b"\n") + 1 :]
            if last and _run_of(last) is None:
                file.truncate(len(content) - len(last))
                last = b""
            file.write((b"\n" if last else b"") + (json.dumps(run, sort_keys=True) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())


def _run_of(line: str | bytes) -> dict[str, Any] | None:
    """The run of a line of the file; None if it is no whole run."""
    try:
        run = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return run if isinstance(run, dict) and isinstance(run.get("key"), str) else None
