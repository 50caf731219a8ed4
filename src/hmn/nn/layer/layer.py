"""A layer of a Transformer that reads a large memory, in place of a feed-forward block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hmn.errors import ConfigError, ShapeError, check_flag
from hmn.index.protocol import Index
from hmn.index.tuning import Tuned
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.attention.scoring import uncompiled
from hmn.nn.layer.keeping import RecallKeeper
from hmn.nn.layer.keys import clustered_keys
from hmn.nn.layer.use import CellUse
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.nn.settings import check_seed, check_whole

INDEX = "hierarchy:codes=int4"
"""Search structure that a layer has by default: it follows keys that move, and is made for many queries."""
TUNED_ON = 512
"""Number of queries that a search is tuned on; random ones join where there are fewer."""
KEPT_ON = 64
"""Number of queries that show what a search finds now and then."""
KEPT_AT = (2, 5, 10, 20, 40)
"""Reads in training at which they do, besides every ``KEPT_EVERY``."""
KEPT_EVERY = 50
"""Reads in training from one time to the next."""
REFILED = 1024
"""Number of moved cells that are filed again per step and index."""


class MemoryLayer(nn.Module):
    """A memory of many cells in place of a feed-forward block of a Transformer.

    Each position asks one query per head. A query reads the ``k`` cells of largest inner product with it,
    through a softmax. The values that the heads read are added up, gated by the position, and mapped back:
    the form of "Memory Layers at Scale" (Berges et al. 2024), with free keys in place of product keys.

    Queries are scaled to a mean square of 1 and by a temperature that is learned, which begins at
    ``key_features ** -0.5``. Keys begin as ``clustered_keys``, which an index searches well, and are free
    from the first step on. The index is built at the first read, and tuned to ``recall`` on its queries. Keys
    and queries move in training: a few queries show now and then how much is found, and the search looks
    further, or less far, from then on.

    Keys and values have sparse gradients: give them to ``hmn.nn.RowAdam``, call ``follow`` with it, and give
    all others to the optimiser of the model. ``split_parameters`` parts them.

    Args:
        d_model: features of the input and of the output.
        cells: number of cells, N.
        heads: number of queries per position.
        k: number of cells that a query reads.
        key_features: features of keys and queries.
        value_features: features of values; as ``d_model`` if not given.
        index: name of a search structure, as ``make_index`` takes it.
        recall: share of the k best cells that a search is kept at finding; None leaves the index as its name
            says.
        shared_keys: whether all heads read the same keys. Otherwise each has keys of its own, with an index,
            for the same values.
        values: ``(N, V)`` values of another layer that this one shares, ``other.values``.
        gated: whether a gate, ``silu`` of a map of the input, multiplies what was read.
        dropout: share of the features of what was read that training sets to 0.
        refiled: upper limit of moved cells that are filed again per step; see ``IndexedMemory``.
        seed: seed of the keys, and of what is filed again.

    Attributes:
        use: counts reads while it is a ``CellUse``; see ``count_use``.

    Raises:
        ConfigError: a setting is out of its range.
        ShapeError: ``values`` do not fit.
    """

    def __init__(
        self,
        d_model: int,
        cells: int,
        heads: int = 4,
        k: int = 32,
        *,
        key_features: int = 64,
        value_features: int | None = None,
        index: str = INDEX,
        recall: float | None = 0.95,
        shared_keys: bool = True,
        values: nn.Parameter | None = None,
        gated: bool = True,
        dropout: float = 0.0,
        refiled: int = REFILED,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.d_model = check_whole("d_model", d_model, "the features of the input")
        self.heads = check_whole("heads", heads, "the number of queries per position")
        self.cells = check_whole("cells", cells, "the number of cells")
        if recall is not None and not 0 < recall <= 1:
            raise ConfigError(f"recall is {recall!r}, expected above 0 and at most 1, or None")
        self.recall, self.seed = recall, check_seed(seed)
        self.key_features = check_whole("key_features", key_features, "the features of a key")
        usual = torch.empty(0, dtype=torch.get_default_dtype(), device=torch.get_default_device())
        values = _values(values, cells, d_model if value_features is None else value_features, usual)
        tables = 1 if check_flag("shared_keys", shared_keys) else heads
        keys = [clustered_keys(cells, key_features, seed + table).to(usual) for table in range(tables)]
        self.attention = nn.ModuleList(
            KMIPSAttention(
                IndexedMemory(Memory(own, values, trainable=True), index, refiled=refiled, seed=seed), k
            )
            for own in keys
        )
        self.query = nn.Linear(d_model, heads * key_features)
        self.scaling = nn.RMSNorm(key_features, elementwise_affine=False)
        self.log_scale = nn.Parameter(usual.new_full((), -0.5 * math.log(key_features)))
        value_features = values.shape[1]
        self.gate = nn.Linear(d_model, value_features) if check_flag("gated", gated) else None
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(value_features, d_model, bias=False)
        self.use: CellUse | None = None
        self._reads = 0
        self._keepers = [RecallKeeper() for _ in self.attention]

    def forward(self, inputs: Tensor) -> Tensor:
        """Read the memory: ``(..., d_model)`` from ``(..., d_model)``."""
        if inputs.shape[-1] != self.d_model:
            raise ShapeError(
                f"the input has {inputs.shape[-1]} features, expected d_model, {self.d_model}: one row per "
                "position"
            )
        query = self._queries(inputs)
        self._keep_tuned(query.detach())
        query = query * self.log_scale.exp()
        total: Tensor | int = 0
        for layer, own in zip(self._layers(), self._by_table(query), strict=True):
            read = layer(own)
            total = total + read.value.sum(dim=-2)
            if self.use is not None:
                self.use.add(read.cell, read.weight)
        assert isinstance(total, Tensor)
        if self.gate is not None:
            total = total * nn.functional.silu(self.gate(inputs))
        outputs: Tensor = self.output(self.dropout(total))
        return outputs

    @property
    def values(self) -> nn.Parameter:
        """``(N, V)`` values, which other layers may share."""
        return cast("nn.Parameter", self._layers()[0].memory.values)

    def indexes(self) -> list[Index]:
        """The search structures: one, or one per head."""
        return [layer.index for layer in self._layers()]

    def follow(self, optimizer: Optimizer) -> None:
        """Let the indexes follow the optimiser that trains the keys; see ``IndexedMemory.follow``."""
        for layer in self._layers():
            layer.follow(optimizer)

    def count_use(self) -> CellUse:
        """Count reads from now on, until ``use`` is set to None; the counts are those of all heads."""
        self.use = CellUse(self.cells)
        return self.use

    @torch.no_grad()
    def tune(self, inputs: Tensor) -> list[Tuned]:
        """Tune each index to ``recall`` for inputs ``(..., d_model)``, by one exact search of their queries.

        Raises:
            ConfigError: the layer has no ``recall``.
        """
        if self.recall is None:
            raise ConfigError("recall is None, expected a share of the k best cells: set layer.recall")
        return self._tune(self._queries(inputs), self.recall)

    def _queries(self, inputs: Tensor) -> Tensor:
        """Queries ``(..., heads, D)`` of a mean square of 1."""
        query: Tensor = self.scaling(self.query(inputs).unflatten(-1, (self.heads, self.key_features)))
        return query

    @uncompiled
    @torch.no_grad()
    def _keep_tuned(self, query: Tensor) -> None:
        """Tune the searches at the first read; correct them now and then in training by what they find."""
        if self.recall is None or not (self.training or not self._reads):
            return
        self._reads += 1
        if self._reads != 1 and self._reads not in KEPT_AT and self._reads % KEPT_EVERY:
            return
        position = query.reshape(-1, *query.shape[-2:])  # (P, heads, D)
        generator = torch.Generator().manual_seed(self._reads)
        chosen = torch.randperm(len(position), generator=generator, device=generator.device)
        own = position[chosen[: TUNED_ON // self.heads].to(position.device)].float()
        if any(keeper.is_due for keeper in self._keepers):
            missing = -(-TUNED_ON // self.heads) - len(own)
            shape = (max(0, missing), self.heads, self.key_features)
            noise = torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device)
            self._tune(torch.cat([own, self.scaling(noise).to(own.device)]), self.recall)
            return
        own = own[: -(-KEPT_ON // self.heads)]
        for keeper, layer, part in zip(self._keepers, self._layers(), self._by_table(own), strict=True):
            keys = layer.indexed.memory.snapshot()
            keeper.keep(layer.indexed.in_step(training=True), keys, part.flatten(0, -2), layer.k, self.recall)

    def _tune(self, query: Tensor, recall: float) -> list[Tuned]:
        found = [
            keeper.tune(layer.indexed.in_step(), own.flatten(0, -2), layer.k, recall)
            for keeper, layer, own in zip(self._keepers, self._layers(), self._by_table(query), strict=True)
        ]
        return [tuned for tuned in found if tuned is not None]

    def _by_table(self, query: Tensor) -> Sequence[Tensor]:
        """Queries ``(..., heads, D)`` of each table of keys."""
        return [query] if len(self.attention) == 1 else torch.split(query, 1, dim=-2)

    def _layers(self) -> list[KMIPSAttention]:
        """The reads: of all heads, or one per head."""
        return list(cast("Sequence[KMIPSAttention]", self.attention))


def split_parameters(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters of a model whose gradients are dense, and those whose gradients are sparse rows.

    The first are for the optimiser of the model, the second for ``hmn.nn.RowAdam``.
    """
    kinds = nn.Embedding | nn.EmbeddingBag
    tables = {id(each.weight) for each in module.modules() if isinstance(each, kinds) and each.sparse}
    parameters = list(module.parameters())
    dense = [each for each in parameters if id(each) not in tables]
    return dense, [each for each in parameters if id(each) in tables]


def _values(values: nn.Parameter | None, cells: int, features: int, usual: Tensor) -> nn.Parameter:
    """Values ``(N, V)``: those given, or new ones of about length 1, of the usual type and device."""
    if values is None:
        shape = (cells, check_whole("value_features", features, "the features of a value"))
        return nn.Parameter(torch.randn(shape, dtype=usual.dtype, device=usual.device) * features**-0.5)
    if not isinstance(values, nn.Parameter) or values.dim() != 2 or len(values) != cells:
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ShapeError(f"values are {got}, expected an nn.Parameter ({cells}, V): those of another layer")
    return values
