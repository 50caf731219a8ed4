"""A small bundle, and folders that are not bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from hmn.store.bundle import BundleReader, write_json, write_tensors, writing_bundle

NAMES = ["config.json", "facts.parquet", "model.safetensors"]


def save(path: Path, value: int) -> None:
    """A small bundle that says ``value`` in each of its files."""
    with writing_bundle(path) as folder:
        write_json(folder, "config.json", {"value": value, "name": "é"})
        write_tensors(folder, "model.safetensors", {"weight": torch.full((2, 3), float(value))})
        (folder / "facts.parquet").write_bytes(bytes([value]) * 50)


def load(path: Path) -> int:
    """Read every file, through every method, and check that all come from the same saving."""
    reader = BundleReader(path)
    value = reader.json("config.json")["value"]
    assert torch.equal(reader.tensors("model.safetensors")["weight"], torch.full((2, 3), float(value)))
    facts = reader.file("facts.parquet").read_bytes()
    reader.file("facts.parquet")
    assert facts == bytes([value]) * 50
    return int(value)


def forge(folder: Path, manifest: Any) -> None:
    data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(data)


def manifest_of(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_bytes())


def make_file(path: Path) -> None:
    path.write_text("mine")


def make_full_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("mine")


def make_other_manifest(path: Path) -> None:
    path.mkdir()
    (path / "manifest.json").write_text('{"format": "web-app"}')
