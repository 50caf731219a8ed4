"""A table that stays as it was saved until all of it is needed: a few rows are restored by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from hmn.store.rows import KeptRows

SHARE = 1 / 4
"""Share of a table's rows; once lookups have restored as many, the whole table takes less time."""
LOOKS = {
    *(
        getattr(Tensor, name).__get__
        for name in ("shape", "dtype", "device", "is_meta", "grad_fn", "requires_grad")
    ),
    Tensor.requires_grad_,
    Tensor.is_floating_point,
    Tensor.__len__,
    Tensor.__hash__,
}
"""Functions of PyTorch that need none of a table's numbers."""


_RESTORING = Lock()
"""Lock under which a table changes its class."""


class KeptTable(nn.Parameter):
    """A parameter ``(rows, features)`` that is restored when PyTorch first does anything with its numbers.

    From then on it is a plain parameter, the same object. Before, it holds no numbers of its own.

    Args:
        kept: The rows that were saved, and what the others are.
    """

    _kept: KeptRows
    _asked: int

    def __new__(cls, kept: KeptRows) -> KeptTable:
        """Make a parameter of the right shape, all of whose places are one number."""
        table = super().__new__(cls, torch.zeros((), dtype=kept.dtype, device="cpu").expand(kept.shape))
        table._kept, table._asked = kept, 0
        return table

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Restore the tables among the arguments, then do what was asked."""
        if func not in LOOKS:
            for table in _tables_in((args, kwargs)):
                KeptTable.restore(table)  # by its class, which another thread may be changing
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Parameter:
        """A plain parameter."""
        self.restore()
        return nn.Parameter.__deepcopy__(self, memo)  # type: ignore[no-untyped-call, no-any-return]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle it as a plain parameter."""
        self.restore()
        return nn.Parameter.__reduce_ex__(self, protocol)  # type: ignore[no-untyped-call]

    def restore(self) -> None:
        """Become a plain parameter with all rows."""
        with _RESTORING:
            if type(self) is not KeptTable:  # another thread was first
                return
            with torch.no_grad(), torch.inference_mode(False), torch._C.DisableTorchFunctionSubclass():
                self.data = self._kept.whole()
            del self._kept, self._asked
            self.__class__ = nn.Parameter  # type: ignore[assignment]


def restore_tables(network: nn.Module) -> None:
    """Restore all tables of a network, so that no question waits for it."""
    for table in _tables_in(list(network.parameters())):
        KeptTable.restore(table)


def some_rows(table: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """A table in which some rows can be looked up, and their numbers there; without gradients, it is small.

    Args:
        table: ``(rows, features)``.
        rows: ``(n,)`` numbers of the rows.
    """
    if isinstance(table, KeptTable) and not torch.is_grad_enabled():
        distinct, number = torch.unique(rows, return_inverse=True)
        kept = _for_some(table, len(distinct))
        if kept is not None:
            return kept.take(distinct), number
    return table, rows


def _for_some(table: Tensor, count: int) -> KeptRows | None:
    """The rows of a table as they were saved; None if looking up ``count`` more would cost more than all."""
    with _RESTORING:
        if type(table) is not KeptTable:
            return None
        table._asked += count
        return None if table._asked > SHARE * len(table) else table._kept


def _tables_in(values: Any) -> Iterator[KeptTable]:
    """The tables that are not restored yet, among values and in lists of them."""
    if isinstance(values, KeptTable):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tables_in(value)
    elif isinstance(values, dict):
        yield from _tables_in(list(values.values()))
