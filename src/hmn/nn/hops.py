"""Reading in several hops: each query is made from the one before and from what it read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hmn.errors import ConfigError
from hmn.nn.settings import check_whole
from hmn.results import Read


class HopsRead(NamedTuple):
    """What was read in T hops.

    Attributes:
        value: ``(..., V)`` what the last hop read.
        query: ``(..., D)`` the query after the last hop: the one that the next hop would ask.
        hops: what each hop read, with its own cells, weights and reads.
    """

    value: Tensor
    query: Tensor
    hops: tuple[Read, ...]

    @property
    def reads(self) -> Tensor:
        """Reads ``(...)`` of all hops together."""
        return torch.stack([hop.reads for hop in self.hops]).sum(dim=0)


class QueryUpdate(nn.Module):
    """The next query from the query and from what it read: the sum of a linear map of each.

    End-to-End Memory Networks (Sukhbaatar et al. 2015) map the query alone, and Key-Value Memory Networks
    (Miller et al. 2016) map both alike; this holds either. Maps begin as the identity.

    Args:
        features: features of a query, D.
        hops: number of hops, T.
        values: features of what is read, V; D if not given.
        tied: whether all hops share their maps.

    Raises:
        ConfigError: a size is not a whole number of at least 1.
    """

    def __init__(self, features: int, hops: int, values: int | None = None, *, tied: bool = False) -> None:
        super().__init__()
        check_whole("features", features, "the features of a query")
        check_whole("hops", hops, "the number of reads")
        values = check_whole("values", features if values is None else values, "the features of a value")
        maps = 1 if tied else hops
        self.of_query = nn.ModuleList(nn.Linear(features, features, bias=False) for _ in range(maps))
        self.of_value = nn.ModuleList(nn.Linear(values, features, bias=False) for _ in range(maps))
        for map_ in [*self.of_query, *(self.of_value if values == features else [])]:
            nn.init.eye_(map_.weight)

    def forward(self, query: Tensor, value: Tensor, hop: int) -> Tensor:
        """Queries ``(..., D)`` of the next hop.

        Args:
            query: ``(..., D)`` what the hop asked.
            value: ``(..., V)`` what it read.
            hop: number of the hop, from 0. Hops past the last map use the last one.
        """
        number = min(hop, len(self.of_query) - 1)
        updated: Tensor = self.of_query[number](query) + self.of_value[number](value)
        return updated


class HopReader(nn.Module):
    """Reads in T hops through attention layers: ask, read, make the next query, ask again.

    Gradients flow through all hops: to the first query, to the updates, and to every key and value that was
    read. Each hop searches by itself and counts its own reads.

    Args:
        attention: layer that every hop reads with, such as ``KMIPSAttention``; or one layer per hop. Layers
            that share an ``IndexedMemory`` read the same cells; others may read memories of their own.
        hops: number of hops, T; the number of layers if there is one per hop.
        update: module that is called with query ``(..., D)``, value ``(..., V)`` and number of the hop, and
            returns the next query. ``QueryUpdate(D, hops)``, with D and V of the memory, if not given.

    Raises:
        ConfigError: the number of hops is missing, out of range, or not that of the layers.
    """

    def __init__(
        self,
        attention: nn.Module | Sequence[nn.Module],
        hops: int | None = None,
        update: nn.Module | None = None,
    ) -> None:
        super().__init__()
        layers = [attention] if isinstance(attention, nn.Module) else list(attention)
        if not layers or not all(isinstance(layer, nn.Module) for layer in layers):
            raise ConfigError(
                f"attention is {attention!r:.80}, expected a layer such as hmn.KMIPSAttention, or one per hop"
            )
        if hops is None and len(layers) == 1:
            raise ConfigError("hops is missing, expected how often the layer reads: HopReader(layer, hops=2)")
        self.hops = check_whole("hops", len(layers) if hops is None else hops, "the number of reads")
        if len(layers) not in {1, self.hops}:
            raise ConfigError(
                f"there are {len(layers)} layers for {self.hops} hops, expected one or one per hop"
            )
        self.layers = nn.ModuleList(layers)
        self.update = self._usual_update(layers[0]) if update is None else update

    def _usual_update(self, layer: nn.Module) -> QueryUpdate:
        memory = getattr(layer, "memory", None)
        if memory is None:
            raise ConfigError(
                f"update is missing and {type(layer).__name__} has no memory to take its sizes from: "
                "give update=hmn.nn.QueryUpdate(features, hops)"
            )
        features = memory.snapshot().shape[1]
        values = getattr(memory, "values", None)
        return QueryUpdate(features, self.hops, None if values is None else values.shape[1])

    def forward(self, query: Tensor, target: Tensor | Sequence[Tensor | None] | None = None) -> HopsRead:
        """Read the memory T times.

        Args:
            query: ``(..., D)`` what the first hop asks.
            target: for training, cells ``(...)`` that the last hop must be able to read; or such cells for
                each hop, None where there are none. See ``KMIPSAttention.forward``.

        Raises:
            ConfigError: there are targets for another number of hops.
        """
        wanted = self._targets(target)
        hops: list[Read] = []
        for hop in range(self.hops):
            layer = self.layers[min(hop, len(self.layers) - 1)]
            hops.append(layer(query, wanted[hop]))
            query = self.update(query, hops[-1].value, hop)
        return HopsRead(hops[-1].value, query, tuple(hops))

    def _targets(self, target: Tensor | Sequence[Tensor | None] | None) -> list[Tensor | None]:
        if target is None or isinstance(target, Tensor):
            return [None] * (self.hops - 1) + [target]
        if len(target) != self.hops:
            raise ConfigError(f"target has {len(target)} parts, expected {self.hops}: one per hop, or None")
        return list(target)
