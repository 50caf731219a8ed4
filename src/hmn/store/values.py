"""Values as JSON with tensors beside it: what a training run remembers, such as the state of an optimiser.

JSON has no tensors, tuples, keys that are numbers, nor infinity. They are written as objects with one key::

    {"$tensor": "extra/table"}, {"$scalar": [12.0, "float32"]}, {"$tuple": [0.9, 0.999]},
    {"$items": [[3, 1]]}, {"$float": "inf"}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hmn.errors import ConfigError

MARK = "$"
"""Beginning of the keys that stand for what JSON does not have."""


def packed_values(values: Any, name: str) -> tuple[Any, dict[str, Tensor]]:
    """Values as JSON, and the tensors among them by name; those without dimensions are in the JSON itself.

    Args:
        values: None, numbers, texts, tensors, and lists, tuples and dictionaries of these.
        name: what the values are; names of tensors begin with it.

    Raises:
        ConfigError: there is something else among them; the message says where.
    """
    tensors: dict[str, Tensor] = {}
    return _packed(values, name, tensors), tensors


def unpacked_values(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The values that ``packed_values`` packed.

    Raises:
        ValueError, KeyError: a mark is unknown, or a tensor is missing.
    """
    if isinstance(packed, list):
        return [unpacked_values(part, tensors) for part in packed]
    if not isinstance(packed, dict):
        return packed
    if not any(key.startswith(MARK) for key in packed):
        return {key: unpacked_values(part, tensors) for key, part in packed.items()}
    (mark, content), *others = packed.items()
    if others:
        raise ValueError(f"got {sorted(packed)!r:.80}, expected {mark} alone")
    match mark:
        case "$tensor":
            return tensors[content]
        case "$scalar":
            number, kind = unpacked_values(content, tensors)
            return torch.tensor(number, dtype=_scalar_type(kind), device="cpu")
        case "$tuple":
            return tuple(unpacked_values(content, tensors))
        case "$items":
            return {key: unpacked_values(part, tensors) for key, part in content}
        case "$float":
            return float(content)
    raise ValueError(f"got {mark!r:.80}, expected $tensor, $scalar, $tuple, $items or $float")


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, Tensor) and value.dim() == 0 and not value.is_complex():
        return {"$scalar": [_packed(value.item(), name, tensors), str(value.dtype).removeprefix("torch.")]}
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"$tensor": name}
    if isinstance(value, Mapping):
        parts = [(key, _packed(part, f"{name}/{key}", tensors)) for key, part in value.items()]
        if all(isinstance(key, str) and not key.startswith(MARK) for key, _ in parts):
            return dict(parts)
        if all(isinstance(key, str | int) for key, _ in parts):
            return {"$items": [list(part) for part in parts]}
    if isinstance(value, list | tuple):
        items = [_packed(part, f"{name}/{place}", tensors) for place, part in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    raise ConfigError(
        f"{name} is of type {type(value).__name__}, expected None, a number, a text, a tensor, or a list, "
        "tuple or dictionary of these: leave it out, or save what it is made of"
    )


def _scalar_type(kind: str) -> torch.dtype:
    found = getattr(torch, kind, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"got the type {kind!r:.80}, expected one of PyTorch, such as float32")
    return found
