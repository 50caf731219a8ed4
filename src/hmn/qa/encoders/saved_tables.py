"""The hashed tables of a network as they are saved: the rows that training has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hmn.errors import ShapeError
from hmn.nn.weights import FLOATS, load_weights, weights_of
from hmn.qa.encoders.first_values import FirstValues
from hmn.qa.encoders.kept_table import KeptTable
from hmn.store.rows import NUMBERS, KeptRows, Usual, kept_rows, packed_rows, zero_rows


class _Table(NamedTuple):
    """A table of a network.

    Attributes:
        name: Name of the weight.
        seed: Name of the buffer with its seed.
        first: Its first values; None for counts, which begin with 0 and are exact.
    """

    name: str
    seed: str
    first: FirstValues | None

    def usual(self, table: Tensor, seed: Tensor) -> Usual:
        """The rows that need not be saved."""
        return zero_rows(table) if self.first is None else partial(self.first.of, seed)


def packed_tables(
    network: nn.Module, weights: Mapping[str, Tensor], *, half: bool = False
) -> dict[str, Tensor]:
    """A network's weights as tensors to save.

    Args:
        network: The network.
        weights: Its weights by name.
        half: Keep the rows of tables in half precision.
    """
    packed = dict(weights)
    for table in _tables_of(network):
        whole = packed.pop(table.name)
        usual = table.usual(whole, weights[table.seed])
        packed |= packed_rows(table.name, whole, usual, half=half and table.first is not None)
    return packed


def unpacked_tables(
    network: nn.Module, saved: Mapping[str, Tensor], *, later: bool = False
) -> dict[str, Tensor]:
    """The weights by name that ``packed_tables`` saved; or those of an earlier version, which had no seeds.

    Args:
        network: A network of the same sizes, perhaps without storage.
        saved: Tensors by name.
        later: Restore a table when all of it is first needed, see ``KeptTable``.

    Raises:
        ShapeError: A table is not there, or does not fit.
    """
    tables, weights = list(_tables_of(network)), dict(saved)
    own, names = weights_of(network), {table.name for table in _tables_of(network)}
    # only tables are saved in half precision, so the type of any other weight is that of all
    others = [name for name, _ in network.named_parameters() if name in saved.keys() - names]
    kind = saved[others[0]].dtype if others and saved[others[0]].dtype in FLOATS else torch.float32
    for table in tables:
        seed = saved.get(table.seed)
        if seed is None and table.first and table.name + NUMBERS in saved:
            raise ShapeError(f"{table.seed} is missing, which the rows of {table.name} follow from")
        if seed is None:
            seed = torch.zeros((), dtype=torch.int64)
        if seed.shape or seed.dtype != torch.int64:
            raise ShapeError(
                f"{table.seed} is {tuple(seed.shape)} of {seed.dtype}, expected () of torch.int64"
            )
        # not torch.empty_like, which imports half of PyTorch on the device meta
        like = torch.empty(own[table.name].shape, dtype=kind, device="meta")
        kept = kept_rows(saved, table.name, like, table.usual(like, seed))
        weights = {name: weights[name] for name in weights if not name.startswith(table.name + "|")}
        if not isinstance(kept, KeptRows):
            weights[table.name] = kept
        else:
            weights[table.name] = KeptTable(kept) if later and table.first is not None else kept.whole()
        weights[table.seed] = seed
    return weights


def round_tables(network: nn.Module) -> None:
    """Round the tables of a network to what is saved of them, so that a loaded model answers as this one."""
    packed = packed_tables(network, weights_of(network), half=True)
    load_weights(network, unpacked_tables(network, packed))


def _tables_of(network: nn.Module) -> Iterator[_Table]:
    """The tables of a network."""
    for path, module in network.named_modules():
        firsts: Mapping[str, FirstValues | None] = getattr(module, "first_values", {})
        for name, first in firsts.items():
            yield _Table(f"{path}.{name}", f"{path}.seed", first)
