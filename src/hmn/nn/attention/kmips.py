"""K-MIPS attention over a stored memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hmn.errors import ConfigError, ShapeError
from hmn.index.protocol import Index
from hmn.index.registry import make_index
from hmn.nn.attention.scoring import (
    check_range,
    checked,
    checked_memory,
    checked_scale,
    shaped,
    softmax,
    uncompiled,
    weighted,
    wide,
)
from hmn.nn.candidates.draw import candidates
from hmn.nn.candidates.strategy import Candidates, Strategy, clustered
from hmn.nn.memory.stored import Memory
from hmn.results import Read

TOGETHER = 16
"""Steps whose moved cells are filed anew together, where not all of them are."""


class _Found(NamedTuple):
    """Cells that an index proposed, and their live rows.

    ``cell`` is (B, K), -1 where unused, with keys (B, K, D) and values (B, K, V); or (C,) for candidates
    that serve the whole batch, with keys (C, D) and values (C, V).
    """

    cell: Tensor
    keys: Tensor
    values: Tensor
    reads: Tensor  # (B,)
    probability: Tensor | None = None  # (C,)


class KMIPSAttention(nn.Module):
    """K-MIPS attention (Chandar et al. 2016): a softmax over the K cells of largest inner product.

    An index proposes the cells, the memory's live keys decide: scores, weights and the read are of the keys
    as they are, whatever the index knows of them, and gradients reach query, keys and values through the
    cells that were read. While a memory is trained, call ``refresh`` after each step of the optimiser, so
    that the index learns which keys moved. Under ``torch.compile`` there is one graph break, the search.

    The index is built when it is first needed, and again when the memory was loaded, copied or moved. It is
    no part of ``state_dict``: see ``load_index``.

    Args:
        memory: N cells.
        k: cells a query, K; may exceed N.
        index: a search structure, or its name, as ``make_index`` takes it; exact search if not given. One
            that has cells already is searched as it is, and must have been built on this memory's keys.
        strategy: in training, read the candidates of a whole batch in place of each query's K cells (see
            ``hmn.nn.candidates.draw``); text is parsed.
        scale: weights are a softmax of ``scale`` times the scores.
        corrected: in training with a strategy, count each candidate ``1 / probability`` times, so that the
            softmax estimates the one over all cells; the paper's does not.
        refiled: the index looks at so many of the cells that a step moved, drawn among them, and files those
            anew that belong elsewhere now; it does so for several steps together. All of them after every
            step if not given, which may take longer than the step itself.
        seed: of all draws; give each process of a distributed training another.

    Raises:
        ConfigError: a setting is out of its range.
        ShapeError: an index with cells has another number of them than the memory.
    """

    def __init__(
        self,
        memory: Memory,
        k: int,
        index: Index | str | None = None,
        strategy: Strategy | str | None = None,
        scale: float = 1.0,
        *,
        corrected: bool = False,
        refiled: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(k, int) or k < 1:
            raise ConfigError(
                f"k is {k!r}, expected a whole number of at least 1: how many cells a query reads"
            )
        if refiled is not None and (not isinstance(refiled, int) or refiled < 1):
            raise ConfigError(
                f"refiled is {refiled!r}, expected a whole number of at least 1, or None: how many of the "
                "cells that a step moved the index looks at again"
            )
        self.memory = checked_memory(memory)
        self.k = k
        self.index = _index_of(index)
        self.strategy = _strategy_of(strategy, k, self.index)
        self.scale = checked_scale(scale)
        self.corrected = corrected
        self.refiled = refiled
        self._generator = torch.Generator().manual_seed(seed)
        self._searched: tuple[object, ...] | None = None
        self._read: list[Tensor] = []  # cells that were read since the last refresh
        self._due: list[Tensor] = []  # cells to be filed anew
        if len(self.index):
            self._take_index()

    def forward(self, query: Tensor, target: Tensor | None = None) -> Read:
        """Read the memory.

        Args:
            query: ``(..., D)`` float, finite. Leading dimensions are kept; B stands for all of them below.
            target: ``(...)`` int64, in training: a cell that each query must be able to read, ``-1`` for
                none. It takes the last place where the search did not find it.

        Returns:
            ``value`` (B, V), ``weight``, ``cell`` and ``score`` (B, K), in the order in which the index
            found them, that is best first unless it lags or a target was put in. In training with a strategy
            the batch's C candidates stand in place of K, ascending; ``reads`` (B,) is then their number, in
            units of a float32 key.

        Raises:
            ShapeError: query or target do not fit.
            CellError: a target is not among the cells.
            NonFiniteError: query holds NaN or infinity.
        """
        flat, wanted = checked(query, target, self.memory)
        found = self._find(flat, wanted)
        dtype = torch.promote_types(flat.dtype, found.keys.dtype)
        flat, keys = flat.to(dtype), found.keys.to(dtype)
        if found.cell.dim() == 1:
            score, cell = flat @ keys.T, found.cell.expand(len(flat), -1)  # (B, C)
        else:
            score, cell = torch.bmm(keys, flat.unsqueeze(2)).squeeze(2), found.cell  # (B, K)
        score = wide(score)
        unused = cell < 0
        logit = self.scale * score
        if self.corrected and found.probability is not None:
            logit = logit - found.probability.log()
        weight = softmax(logit, unused)
        value = weighted(weight, found.values, dtype)
        return shaped(Read(value, weight, cell, score.masked_fill(unused, -torch.inf), found.reads), query)

    def candidates(self, query: Tensor, target: Tensor | None = None) -> Candidates:
        """Candidates that the strategy draws for a batch of queries, with their probabilities.

        For a loss of one's own, such as ``sampled_nll``; ``forward`` draws its own. Arguments as there.

        Raises:
            ConfigError: the layer has no strategy.
        """
        if self.strategy is None:
            raise ConfigError(
                "the layer has no strategy, expected one: KMIPSAttention(..., strategy='k-mips')"
            )
        flat, wanted = checked(query, target, self.memory)
        self._ready()
        check_range(wanted, len(self.memory))
        wanted = flat.new_empty(0, dtype=torch.int64) if wanted is None else wanted
        drawn = candidates(self.strategy, self.index, flat, wanted[wanted >= 0], generator=self._generator)
        self._mark(drawn.cell)
        return drawn

    @torch.no_grad()
    def refresh(self, cells: Tensor | None = None) -> None:
        """Tell the index that keys moved: after each step of the optimiser, before gradients are zeroed.

        Args:
            cells: ``(n,)`` those whose keys moved; if not given, those that were read in training since the
                last refresh, by this process or, where gradients were summed over several, by any of them.

        Raises:
            CellError: a cell is not there, or given twice.
            NonFiniteError: a key has become NaN or infinite.
        """
        if self._ready():
            return
        if cells is None:
            cells = torch.unique(torch.cat([self.memory.touched(), *self._read]))
        self._read = []
        if self.refiled is not None:
            drawn = torch.randperm(len(cells), generator=self._generator)[: self.refiled]
            self._due.append(cells[drawn.to(cells.device)])
            if len(self._due) < TOGETHER:
                return
            cells, self._due = torch.unique(torch.cat(self._due)), []
        if len(cells):
            self.index.update(cells, self.memory.keys_of(cells))

    def rebuild(self) -> None:
        """Build the index anew on all keys as they are: now and then in a long training."""
        self.index.build(self.memory.snapshot())
        self._take_index()

    def load_index(self, state: Mapping[str, Tensor], keys: Tensor | None = None) -> None:
        """Take back what ``index.state_dict`` gave, in place of building the index anew.

        Load the memory first. Arguments and errors as in ``Index.load_state_dict``.
        """
        self.index.load_state_dict(state, keys)
        self._take_index()

    def _take_index(self) -> None:
        if len(self.index) != len(self.memory):
            raise ShapeError(
                f"the index has {len(self.index)} cells but the memory has {len(self.memory)}: "
                "build it on the memory's keys, or give one without cells"
            )
        self._searched, self._read, self._due = self._identity(), [], []

    # a search is no graph of tensors, nor does the compiler know sparse gradients
    @uncompiled
    def _find(self, query: Tensor, target: Tensor | None) -> _Found:
        """Cells for queries ``(B, D)`` and their live rows, which carry gradients."""
        memory, k = self.memory, self.k
        if self.training and self.strategy is not None:
            drawn = self.candidates(query, target)
            reads = len(drawn.cell) * memory.keys.element_size() / 4
            all_reads = torch.full((len(query),), reads, device=query.device)
            return _Found(drawn.cell, *_rows(memory, drawn.cell), all_reads, drawn.probability)
        check_range(target, len(memory))
        self._ready()
        with torch.no_grad():
            result = self.index.search(query, k)
            cell = result.cell
            if target is not None:
                absent = (target >= 0) & ~(cell == target.unsqueeze(1)).any(dim=1)
                cell = cell.clone()
                cell[:, -1] = torch.where(absent, target, cell[:, -1])
        self._mark(cell[cell >= 0])
        # unused places take a row that the query reads anyway: another would get gradients, of zero
        rows = torch.where(cell < 0, cell.amax(dim=1, keepdim=True), cell).clamp(min=0)
        return _Found(cell, *_rows(memory, rows), result.reads)

    def _mark(self, cells: Tensor) -> None:
        if not (self.memory.trainable and torch.is_grad_enabled()):
            return
        self._read.append(cells.flatten())
        if len(self._read) > TOGETHER:  # of a loop that never calls refresh
            self._read = [torch.unique(torch.cat(self._read))]

    def _ready(self) -> bool:
        """Build the index if it was not built on the memory as it is; whether it had to be."""
        stale = self._searched != self._identity()
        if stale:
            self.rebuild()
        return stale

    def _identity(self) -> tuple[object, ...]:
        """Changes when the memory's keys are other storage, or other rows were loaded into it."""
        keys = self.memory.snapshot()
        return keys.data_ptr(), keys.shape, keys.dtype, keys.device, self.memory.times_loaded


def _index_of(index: Index | str | None) -> Index:
    if index is None or isinstance(index, str):
        return make_index(index or "exact")
    if not callable(getattr(index, "search", None)):
        got = type(index).__name__
        raise ConfigError(f"index is {got}, expected a search structure, its name, or None for exact search")
    return index


def _strategy_of(strategy: Strategy | str | None, k: int, index: Index) -> Strategy | None:
    if isinstance(strategy, str):
        strategy = Strategy.parse(strategy, k)
    if strategy is not None:
        if not isinstance(strategy, Strategy):
            raise ConfigError(f"strategy is {strategy!r}, expected hmn.Strategy or text such as 'top-k:8'")
        if strategy.needs_clusters:
            clustered(strategy, index)
    return strategy


def _rows(memory: Memory, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Live keys and values of cells, zeros from an empty memory.

    Each place is gathered by itself: gathering distinct cells first took longer, up to twice as long
    forward, unless each cell was read by eight queries or more.
    """
    if not len(memory):
        nothing = memory.keys.new_zeros(*cells.shape, memory.keys.shape[1])
        values = memory.values
        return nothing, nothing if values is None else values.new_zeros(*cells.shape, values.shape[1])
    keys = memory.keys_of(cells)
    return keys, keys if memory.values is None else memory.values_of(cells)
