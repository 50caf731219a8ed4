"""Checks of what files hold: records with fields of the right types, tensors of the right type and shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from hmn.errors import BundleError

Record = TypeVar("Record")


@contextmanager
def fitting(file: Path | str) -> Iterator[None]:
    """Turn any failure to use the content of ``file`` into a ``BundleError`` that names it."""
    try:
        yield
    except BundleError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        kind = "" if error.__class__.__module__.startswith("hmn") else f"{type(error).__name__}: "
        raise BundleError(
            f"{file}: its content does not fit ({kind}{error!s:.300}): "
            "restore it from a copy, or save it again"
        ) from error


def record_of(kind: type[Record], values: Any) -> Record:
    """Make a dataclass from the JSON object that its fields were written to.

    Raises:
        ValueError: a field is missing, unknown, of another type or not finite.
    """
    if not isinstance(values, dict):
        raise ValueError(f"got {values!r:.80}, expected an object")
    types = get_type_hints(kind)
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if names != values.keys():
        odd = sorted(names ^ values.keys())
        raise ValueError(
            f"the field {odd[0]!r:.80} is missing or unknown, expected {', '.join(sorted(names))}"
        )
    for name, value in values.items():
        allowed = _allowed(types[name])
        if type(value) not in allowed or (isinstance(value, float) and not math.isfinite(value)):
            expected = " or ".join(sorted(type_.__name__ for type_ in allowed))
            raise ValueError(f"{name} is {value!r:.80}, expected {expected}")
    return kind(**values)


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: names the tensor that holds them.
    """
    for name, tensor in tensors.items():
        # a finite sum proves all numbers finite, and is faster; an infinite one may only have overflowed
        if tensor.dtype in (torch.float16, torch.float32, torch.float64) and math.isfinite(
            float(tensor.sum())
        ):
            continue
        numbers = tensor.float() if tensor.dtype.itemsize == 1 and tensor.is_floating_point() else tensor
        if not bool(torch.isfinite(numbers).all()):
            raise ValueError(f"tensor {name!r:.80} holds NaN or infinity")


def tensor_like(tensors: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """The tensor ``name``, of the same type and shape as ``like``.

    Raises:
        ValueError: it is missing, or has another type or shape.
    """
    value = tensors.get(name)
    if value is None:
        raise ValueError(f"there is no tensor {name}")
    if value.shape != like.shape or value.dtype != like.dtype:
        got, wanted = (f"{tuple(tensor.shape)} of {tensor.dtype}" for tensor in (value, like))
        raise ValueError(f"{name} is {got}, expected {wanted}")
    return value


def _allowed(hint: Any) -> set[type]:
    """Types that JSON may give for a field; a whole number may stand for any number."""
    kinds = {get_origin(part) or part for part in get_args(hint) or (hint,)}
    if get_origin(hint) in {list, dict}:
        kinds = {get_origin(hint)}
    kinds = {NoneType if kind is None else kind for kind in kinds}
    return kinds | ({int} if float in kinds else set())
