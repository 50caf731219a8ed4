"""Reads the tensors of a saved state: each is checked, so that no number in it can lead astray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import torch
from torch import Tensor

from hmn._native.finite import LONGEST, check_vectors
from hmn.errors import NonFiniteError, ShapeError

ANY = -1
"""Size of a dimension that may have any."""
LARGEST = 2.0**100
"""Upper limit of numbers that are multiplied by products of vectors, which float32 must still hold."""


class Saved:
    """The tensors of a state, by name. What is read is a copy on the device of the keys.

    Args:
        state: tensors by name; others than those read are left alone.
        device: device of the copies.
        owner: what the state should be of, for messages: ``"a ClusterIndex"``.

    Raises:
        ShapeError: from every method, if the tensor is missing or damaged, or the state is no dictionary.
    """

    def __init__(self, state: Mapping[str, Tensor], device: torch.device, owner: str) -> None:
        if not isinstance(state, Mapping):
            raise ShapeError(
                f"the state is of type {type(state).__name__}, expected a dictionary of tensors by name: "
                "give what state_dict returned"
            )
        self._state, self.device, self._owner = state, device, owner

    def __contains__(self, name: str) -> bool:
        """Whether the state has a tensor of this name."""
        return name in self._state

    def numbered(self, before: str, after: str = "") -> int:
        """How many tensors are called ``before``, a number, ``after``; the numbers run from 0."""
        count = 0
        while f"{before}{count}{after}" in self._state:
            count += 1
        return count

    def tensor(self, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """A tensor of a type and shape, in which ``ANY`` stands for any size."""
        if name not in self._state:
            raise ShapeError(
                f"the state has no {name}, expected the state of {self._owner}: "
                "it is of another structure, or incomplete"
            )
        found = self._state[name]
        if not isinstance(found, Tensor):
            refuse(name, f"of type {type(found).__name__}", "a tensor")
        plain = found.layout == torch.strided and not found.is_nested and found.device.type != "meta"
        if not plain:
            refuse(name, f"{found.layout} on {found.device}", "a dense tensor with numbers")
        fits = found.dim() == len(shape) and all(
            wanted in (ANY, got) for got, wanted in zip(found.shape, shape, strict=True)
        )
        if found.dtype != dtype or not fits:
            wanted = f"({', '.join('any' if size == ANY else str(size) for size in shape)})"
            refuse(name, f"{tuple(found.shape)} of {found.dtype}", f"{wanted} of {dtype}")
        copied = torch.empty(found.shape, dtype=dtype, device=self.device)
        return copied.copy_(found.detach())

    def floats(self, name: str, shape: tuple[int, ...], least: float = -LARGEST) -> Tensor:
        """Finite float32 numbers from ``least`` to ``LARGEST``."""
        found = self.tensor(name, torch.float32, shape)
        if found.numel():
            low, high = (float(end) for end in found.aminmax())  # NaN where there is one
            if not (least <= low and high <= LARGEST):
                refuse(name, f"from {low} to {high}", f"numbers from {least:.3g} to {LARGEST:.3g}")
        return found

    def vectors(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Finite float32 vectors, short enough for inner products."""
        found = self.tensor(name, torch.float32, shape)
        try:
            check_vectors(found, name)
        except NonFiniteError as error:
            refuse(name, f"not of vectors ({error})", "finite numbers of usual size")
        return found

    def whole(
        self, name: str, shape: tuple[int, ...], low: int, end: int, dtype: torch.dtype = torch.int64
    ) -> Tensor:
        """Whole numbers from ``low`` to ``end`` - 1."""
        found = self.tensor(name, dtype, shape)
        if found.numel():
            least, most = (int(number) for number in found.aminmax())
            if least < low or most >= end:
                refuse(name, f"from {least} to {most}", f"numbers from {low} to {end - 1}")
        return found

    def number(self, name: str, low: int, end: int) -> int:
        """One whole number from ``low`` to ``end`` - 1."""
        return int(self.whole(name, (), low, end))

    def real(self, name: str, least: float, dtype: torch.dtype = torch.float64) -> float:
        """One number from ``least`` to the longest length of a vector."""
        number = float(self.tensor(name, dtype, ()))
        if not least <= number <= LONGEST:
            refuse(name, f"{number}", f"a number from {least} to {LONGEST:.3g}")
        return number


def refuse(name: str, got: str, expected: str) -> NoReturn:
    """Refuse a tensor of a state.

    Raises:
        ShapeError: always.
    """
    raise ShapeError(
        f"{name} is {got}, expected {expected}: the state is damaged, or of an index with other settings"
    )


def runs_apart(begin: Tensor, size: Tensor) -> bool:
    """Whether runs of numbers, from ``begin`` (n,) on and ``size`` (n,) long, have none in common."""
    begin, size = begin[size > 0], size[size > 0]
    order = begin.argsort()
    begin, end = begin[order], (begin + size)[order]
    return bool((end[:-1] <= begin[1:]).all())


def is_each_once(numbers: Tensor, count: int) -> bool:
    """Whether numbers ``(n,)``, none negative, are 0 to ``count`` - 1, each once, in any order."""
    if len(numbers) != count:
        return False
    return torch.equal(numbers.sort().values, torch.arange(count, device=numbers.device).to(numbers.dtype))


def check_filed(live: Tensor, filed: Tensor, name: str) -> None:
    """Refuse a state that files other rows ``(used,)`` than the rows ``live`` (n,), which hold a cell."""
    held = torch.zeros_like(filed)
    held[live] = True
    if not torch.equal(filed, held):
        refuse(name, f"of {int(filed.sum())} cells", f"of the {len(live)} cells of the keys")


def filed_codes(live: Tensor, code: Tensor, name: str) -> Tensor:
    """Codes ``(used, T)`` of a state, -1 for rows without a cell, whatever the state says of these.

    Raises:
        ShapeError: a row of ``live`` (n,) has none.
    """
    filed = torch.full_like(code, -1)
    filed[live] = code[live]
    check_filed(live, (filed >= 0).all(dim=1), name)
    return filed
