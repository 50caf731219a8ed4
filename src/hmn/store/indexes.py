"""Search structures in folders: what they were made of, with their settings as tuned."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from hmn.errors import ConfigError
from hmn.index.clustering.reduction import Reduction, make_reduction
from hmn.index.protocol import Index
from hmn.index.registry import STORAGE, STRUCTURES, make_index
from hmn.store.bundle import BundleReader, write_json, write_tensors, writing_bundle
from hmn.store.contents import fitting

SETTINGS = "index.json"
"""File of the name and the settings."""
TENSORS = "index.safetensors"
"""File of the tensors."""
NOT_SAVED = ("self", "keys", "on_progress")
"""Parameters of structures that are no settings."""
KEYS = "rows.keys"
"""Name of the keys among the tensors."""


def save_index(index: Index, path: Path | str) -> None:
    """Save an index with its keys and settings to a folder, in which there is nothing or a saved index.

    Of two writers at once the last one wins, and a crash leaves the old folder or the new one.

    Args:
        index: a built index of ``hmn.index``.
        path: the folder; missing parent folders are made.

    Raises:
        ConfigError: the index is not one that ``make_index`` makes, or has a reduction of your own.
        NotFittedError: the index was not built.
        BundleError: the folder cannot be written.
    """
    name, state = _name_of(index), index.state_dict()
    about = {"structure": name, "settings": _settings_of(index)}
    with writing_bundle(path) as folder:
        write_json(folder, SETTINGS, about)
        write_tensors(folder, TENSORS, state)


def load_index(path: Path | str, *, mmap: bool = True) -> Index:
    """Load an index that ``save_index`` saved, with its settings.

    Args:
        path: the folder.
        mmap: whether the keys stay in the file, of which the system reads the pages that searches touch. The
            file must not be changed in place meanwhile; saving there again is safe.

    Raises:
        BundleError: there is no such folder, it is damaged, or it holds something else.
    """
    bundle = BundleReader(path)
    about, state = bundle.json(SETTINGS), bundle.tensors(TENSORS)
    with fitting(f"{path}/{SETTINGS}"):
        settings = dict(about["settings"])
        if isinstance(settings.get("reduction"), dict):
            settings["reduction"] = _reduction(settings["reduction"])
        fills = settings.pop("fills", None)
        index = make_index(about["structure"], **settings)
        if fills is not None:
            index.fills = fills  # type: ignore[attr-defined]
    with fitting(f"{path}/{TENSORS}"):
        keys = state.pop(KEYS)
        index.load_state_dict(state, keys if mmap else keys.clone())
    return index


def _name_of(index: Index) -> str:
    kind = type(index)
    for name, (module, class_name) in STRUCTURES.items():
        if (kind.__module__, kind.__qualname__) == (module, class_name):
            return name
    raise ConfigError(
        f"the index is {kind.__name__}, expected one of {', '.join(STRUCTURES)}: save its state_dict yourself"
    )


def _settings_of(index: Index) -> dict[str, Any]:
    """Settings, as JSON has them."""
    settings: dict[str, Any] = {}
    for name in inspect.signature(type(index)).parameters:
        if name not in NOT_SAVED:
            settings[name] = _plain(getattr(index, name if hasattr(index, name) else f"_{name}"))
    if hasattr(index, "fills"):
        settings["fills"] = index.fills
    return settings


def _plain(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return next(name for name, kind in STORAGE.items() if kind == value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Reduction):
        return _described(value)
    return value


def _described(reduction: Reduction) -> dict[str, Any]:
    """Name and settings of a reduction."""
    if type(make_reduction(reduction.name)) is not type(reduction):
        raise ConfigError(
            f"the reduction is {type(reduction).__name__}, expected one of hmn: save the state_dict of the "
            "index yourself"
        )
    names = inspect.signature(type(reduction)).parameters
    return {"name": reduction.name, **{name: getattr(reduction, name) for name in names}}


def _reduction(about: dict[str, Any]) -> Reduction:
    settings = {name: value for name, value in about.items() if name != "name"}
    made: Reduction = type(make_reduction(about["name"]))(**settings)
    return made
