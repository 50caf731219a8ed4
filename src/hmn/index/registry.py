"""Makes search structures from their names, as the command line and configuration files give them."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import torch

from hmn.errors import ConfigError, expected_one_of
from hmn.index.protocol import Index

STRUCTURES = {
    "exact": ("hmn.index.structures.exact", "ExactIndex"),
    "cluster": ("hmn.index.structures.cluster", "ClusterIndex"),
    "hierarchy": ("hmn.index.structures.hierarchy.index", "HierarchicalIndex"),
    "wta-hash": ("hmn.index.structures.wta_hash", "WTAHashIndex"),
    "pca-tree": ("hmn.index.structures.pca_tree", "PCATreeIndex"),
    "faiss": ("hmn.index.structures.faiss", "FaissIndex"),
}
"""Module and class of each structure, by its name."""
STORAGE = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Types in which keys can be kept, by their names in text."""
WORDS = {"true": True, "false": False, "none": None}
"""Values that are words in text."""
NOT_SETTINGS = {"self", "keys"}
"""Parameters of a structure that text cannot set."""


def make_index(name: str, **settings: Any) -> Index:
    """Make a search structure. It has no cells until ``build`` or ``load_state_dict`` is called.

    Args:
        name: ``exact``, ``cluster``, ``hierarchy``, ``wta-hash``, ``pca-tree`` or ``faiss``, and settings
            after a colon if wanted: ``cluster:num_clusters=1000,num_probes=16``,
            ``faiss:IVF1024,Flat,num_probes=16``.
        settings: as the structure's class takes them; ``reduction`` and ``storage`` may be names.

    Raises:
        ConfigError: there is no such structure or setting, one is given twice, or is out of its range.
        MissingPackageError: the structure needs a package that is not installed.
    """
    if not isinstance(name, str):
        raise ConfigError(
            f"index is {name!r:.80}, expected text such as 'cluster:num_probes=16': name a structure"
        )
    structure, _, text = name.partition(":")
    if structure not in STRUCTURES:
        raise ConfigError(f"there is no index {structure!r}, {expected_one_of(structure, STRUCTURES)}")
    module, class_name = STRUCTURES[structure]
    made = getattr(importlib.import_module(module), class_name)
    accepted = [setting for setting in inspect.signature(made).parameters if setting not in NOT_SETTINGS]
    for key, value in _parsed(structure, text).items():
        if key in settings:
            raise ConfigError(
                f"{structure} is given {key} twice, in {name!r} and as an argument, expected it once: "
                "leave one of them out"
            )
        settings[key] = value
    for key in settings:
        if key not in accepted:
            raise ConfigError(f"{structure} has no setting {key!r}, {expected_one_of(key, accepted)}")
    if isinstance(settings.get("storage"), str):
        if settings["storage"] not in STORAGE:
            wanted = settings["storage"]
            raise ConfigError(f"storage is {wanted!r}, {expected_one_of(wanted, STORAGE)}")
        settings["storage"] = STORAGE[settings["storage"]]
    index: Index = made(**settings)
    return index


def settings_in(name: str) -> dict[str, Any]:
    """Settings in the text of an index: ``{"num_probes": 8}`` from ``cluster:num_probes=8``."""
    structure, _, text = name.partition(":")
    return _parsed(structure, text)


def with_setting(name: str, index: Index, setting: str) -> str:
    """The text of an index, with one setting as it is in the index now; ``make_index`` reads it back."""
    structure, _, text = name.partition(":")
    value = getattr(index, setting)
    shown = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    others = [part for part in text.split(",") if part and part.partition("=")[0].strip() != setting]
    return f"{structure}:{','.join([*others, f'{setting}={shown}'])}"


def _parsed(structure: str, text: str) -> dict[str, Any]:
    """Settings from ``name=value,name=value``; for faiss, parts without ``=`` are its factory string."""
    settings: dict[str, Any] = {}
    factory = []
    for part in text.split(",") if text else ():
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals and structure == "faiss":
            factory.append(part)
        elif not equals or not key:
            raise ConfigError(
                f"{part!r} is not a setting of {structure}, expected name=value, as in cluster:num_probes=16"
            )
        elif key in settings:
            raise ConfigError(f"{structure} is given {key} twice, expected it once: leave one of them out")
        else:
            settings[key] = _value(key, value.strip())
    if factory:
        settings["factory"] = ",".join(factory)
    return settings


def _value(key: str, text: str) -> int | float | bool | str | None:
    """The value that text stands for: a number, true, false, none, or the text itself."""
    if key == "reduction":
        return text  # none is the name of a reduction
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
