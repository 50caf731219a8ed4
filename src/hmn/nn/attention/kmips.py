"""K-MIPS attention over a stored or an encoded memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from hmn.errors import ConfigError, check_flag
from hmn.index.allowed import Allowed, check_no_allowed, flattened
from hmn.index.checks import check_k
from hmn.index.protocol import Index
from hmn.nn.attention.rows import GatheredRows, Rows, RowsInPlace, can_read_in_place, has_plain_rows
from hmn.nn.attention.scoring import (
    checked,
    checked_either,
    shaped,
    softmax,
    uncompiled,
)
from hmn.nn.candidates.draw import candidates
from hmn.nn.candidates.strategy import Candidates, Strategy, as_strategy
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.operator import check_range, search, searchable, with_target
from hmn.nn.memory.over_ranks import IndexedOverRanks, RemoteMemory, is_indexed, is_remote
from hmn.nn.memory.stored import Memory
from hmn.nn.products import scaled
from hmn.nn.settings import check_seed, check_whole, keep_scale, stream
from hmn.results import Read


class _Found(NamedTuple):
    """Cells that an index proposed, and their live rows.

    ``cell`` is (B, K), -1 where unused, with keys (B, K, D) and values (B, K, V); or with none of them, where
    the rows of the memory are read in place. For candidates that serve the whole batch it is (C,), with keys
    (C, D) and values (C, V).
    """

    cell: Tensor
    keys: Tensor | None
    values: Tensor | None
    reads: Tensor  # (B,)
    probability: Tensor | None = None  # (C,)


class KMIPSAttention(nn.Module):
    """K-MIPS attention (Chandar et al. 2016): a softmax over the K cells of largest inner product.

    An index proposes the cells, the memory's live keys decide: scores, weights and the read come from the
    keys as they are now, and gradients reach query, keys and values through the cells that were read. Where
    a memory is trained, call ``follow`` once with its optimiser, so that the index follows the keys that
    move; ``IndexedMemory`` says what happens otherwise. The search is an operator, ``hmn::search``,
    so ``torch.compile(fullgraph=True)``, ``torch.export`` and ``torch.func`` take the layer as it is. Encoded
    memories, ``ShardedMemory`` and, in training, strategies are searched outside the graph.

    The index is built at the first search. It is not part of ``state_dict``: see ``load_index``.

    Args:
        memory: N cells, stored or encoded; or an ``IndexedMemory``, which several layers may share; or an
            ``hmn.distributed.ShardedMemory``, whose cells lie on several machines. An encoded memory is
            encoded again where it is read, and gradients reach its encoder. Its keys are what is read.
        k: cells per query, K; may exceed N.
        index: search structure, or its name as ``make_index`` takes it; exact search if not given. Leave it
            out where ``memory`` has its index already.
        strategy: in training, read the candidates of the whole batch instead of each query's K cells (see
            ``hmn.Strategy``); text is parsed.
        scale: factor of the scores in the softmax; a number, or an ``nn.Parameter`` that is trained.
        corrected: in training with a strategy, count each candidate ``1 / probability`` times, so that the
            softmax estimates the one over all cells. The paper's does not.
        refiled: upper limit of moved cells that the index files again per step; see ``IndexedMemory``.
        seed: number that is mixed into the draws. They come from PyTorch's generator, so that
            ``torch.manual_seed`` makes them repeatable and activation checkpointing draws the same twice.
            Processes of a distributed training that share ``torch.manual_seed`` need different seeds.

    Attributes:
        indexed: the memory with its index.

    Raises:
        ConfigError: a setting is out of its range, or the index serves another memory.
        ShapeError: a built index has another number of cells than the memory.
    """

    scale: float | Tensor
    indexed: IndexedMemory[Memory | EncodedMemory]

    def __init__(
        self,
        memory: Memory
        | EncodedMemory
        | IndexedMemory[Memory]
        | IndexedMemory[EncodedMemory]
        | IndexedOverRanks,
        k: int,
        index: Index | str | None = None,
        strategy: Strategy | str | None = None,
        scale: float | Tensor = 1.0,
        *,
        corrected: bool = False,
        refiled: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        k = check_k(check_whole("k", k, "the number of cells that a query reads"))
        seed = check_seed(seed)
        if is_indexed(memory):
            if index is not None or refiled is not None:
                given = "index" if index is not None else "refiled"
                raise ConfigError(
                    f"{given} is given twice, expected it once: the {type(memory).__name__} has its own, "
                    "leave it out here"
                )
            self.indexed = cast("IndexedMemory[Memory | EncodedMemory]", memory)
        else:
            self.indexed = IndexedMemory(
                checked_either(cast("Memory | EncodedMemory", memory)), index, refiled=refiled, seed=seed
            )
        remote = is_remote(self.indexed.memory)
        self.memory = self.indexed.memory if remote else checked_either(self.indexed.memory)
        self.indexed.attach(self)
        self.k = k
        self.strategy: Strategy | None = as_strategy(strategy, k, self.index)
        keep_scale(self, scale)
        self.corrected = check_flag("corrected", corrected)
        self.seed = seed

    def __setattr__(self, name: str, value: Any) -> None:
        """Search another memory where ``memory`` is replaced; read a strategy that is given as text."""
        replica = "_is_replica" in vars(self)  # of DataParallel: it reads rows of its own device
        if name == "memory" and "memory" in self._modules and not replica:
            self.indexed.memory = checked_either(value)
        if name == "strategy":
            value = as_strategy(value, self.k, self.index)
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy, whose memory is replaced together with that of the other layers that read it."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.indexed.attach(self)

    @property
    def index(self) -> Index:
        """The search structure of the memory."""
        return self.indexed.index

    def forward(self, query: Tensor, target: Tensor | None = None, allowed: Allowed | None = None) -> Read:
        """Read the memory.

        Args:
            query: ``(..., D)`` float, finite. Leading dimensions are kept; B stands for all of them below.
            target: ``(...)`` int64, for training: a cell that each query must be able to read, ``-1`` for
                none. It takes the last place if the search did not find it, even where it is not allowed.
            allowed: cells that may be found; see ``Index.search``. A ``Where`` may have limits ``(...)``, one
                for each query. A query that may find no cell reads zeros. The search is then no operator: it
                runs outside compiled graphs.

        Returns:
            ``value`` (B, V), ``weight``, ``cell`` and ``score`` (B, K), in the order in which the index
            found the cells: best first unless it lags or a target was put in. In training with a strategy
            there are the batch's C candidates instead of K cells, ascending by cell; ``reads`` (B,) is then
            their number, in units of a float32 key.

        Raises:
            ShapeError: query, target or ``allowed`` do not fit.
            CellError: a target, or an id in ``allowed``, is not among the cells.
            NonFiniteError: query holds NaN or infinity.
            ConfigError: ``allowed`` is given to a strategy in training, or to a ``ShardedMemory``.
        """
        # the search proposes cells; scores, weights and value come from their live rows
        flat, wanted = checked(query, target, self.memory)  # (B, D), (B,)
        if allowed is None and self._calls_operator():
            found = self._cells_of_each(flat, wanted)
        else:
            found = self._find(flat, wanted, flattened(allowed, query))
        rows: Rows
        if found.keys is None or found.values is None:
            rows = RowsInPlace(cast("Memory", self.memory), found.cell)
        else:
            rows = GatheredRows(found.keys, found.values)
        score, cell = rows.scores(flat), found.cell  # (B, C) or (B, K)
        if cell.dim() == 1:
            cell = cell.expand(len(flat), -1)
        unused = cell < 0
        logit = scaled(self.scale, score)
        if self.corrected and found.probability is not None:
            logit = logit - found.probability.log()
        weight = softmax(logit, unused)
        value = rows.mean(weight).to(torch.promote_types(flat.dtype, rows.dtype))  # (B, V)
        return shaped(Read(value, weight, cell, score.masked_fill(unused, -torch.inf), found.reads), query)

    def candidates(self, query: Tensor, target: Tensor | None = None) -> Candidates:
        """Draw the strategy's candidates for a batch of queries, with their probabilities.

        For a loss of your own, such as ``sampled_nll``; ``forward`` draws its own candidates. Arguments as in
        ``forward``.

        Raises:
            ConfigError: the layer has no strategy.
        """
        if self.strategy is None:
            raise ConfigError(
                "the layer has no strategy, expected one: KMIPSAttention(..., strategy='k-mips')"
            )
        flat, wanted = checked(query, target, self.memory)
        check_range(wanted, len(self.memory))
        index = self.indexed.in_step(training=self.training)
        wanted = flat.new_empty(0, dtype=torch.int64) if wanted is None else wanted
        generator = stream(self.seed) if self.strategy.draws else torch.Generator("cpu")
        drawn = candidates(self.strategy, index, flat, wanted[wanted >= 0], generator=generator)
        self._mark(drawn.cell)
        return drawn

    def refresh(self, cells: Tensor | None = None) -> None:
        """File cells whose keys moved: after each step of the optimiser. See ``IndexedMemory.refresh``."""
        self.indexed.refresh(cells)

    def follow(self, optimizer: Optimizer) -> RemovableHandle:
        """Call ``refresh`` after each step of an optimiser, from now on. See ``IndexedMemory.follow``."""
        return self.indexed.follow(optimizer)

    def rebuild(self) -> None:
        """Build the index from scratch on all keys as they are now. See ``IndexedMemory.rebuild``."""
        self.indexed.rebuild()

    def load_index(self, state: Mapping[str, Tensor], keys: Tensor | None = None) -> None:
        """Take back what ``index.state_dict`` returned. See ``IndexedMemory.load_index``."""
        self.indexed.load_index(state, keys)

    def _calls_operator(self) -> bool:
        """Whether the search is an operator: of stored cells that are here, K for each query."""
        memory = self.memory
        if not isinstance(memory, Memory) or not has_plain_rows(memory) or not len(memory.table):
            return False
        return isinstance(self.indexed, IndexedMemory) and not (self.training and self.strategy is not None)

    def _cells_of_each(self, query: Tensor, target: Tensor | None) -> _Found:
        """K cells for each query ``(B, D)``, found by the operator, and live rows unless read in place."""
        memory = cast("Memory", self.memory)
        keys = searchable(memory.storage())
        name = self.indexed.search_name
        cell, reads = search(query.detach(), keys, target, name, self.k, self.training, self._trains_keys())
        if can_read_in_place(query, memory):
            return _Found(cell, None, None, reads)
        return _Found(cell, *memory.gather(_filled(cell)), reads)

    # encoders and strategies read a number of cells that only the search knows, which no graph can hold
    @uncompiled
    def _find(self, query: Tensor, target: Tensor | None, allowed: Allowed | None) -> _Found:
        """Cells for queries ``(B, D)`` and their live rows, which carry gradients."""
        memory, k = self.memory, self.k
        if self.training and self.strategy is not None:
            check_no_allowed(allowed, "a strategy in training", "train without a strategy")
            drawn = self.candidates(query, target)
            reads = len(drawn.cell) * memory.snapshot().element_size() / 4
            all_reads = torch.full((len(query),), reads, dtype=torch.float32, device=query.device)
            return _Found(drawn.cell, *_rows(memory, drawn.cell), all_reads, drawn.probability)
        check_range(target, len(memory))
        with torch.no_grad():
            given = () if allowed is None else (allowed,)  # an index of your own may know no filters
            result = self.indexed.in_step(training=self.training).search(query, k, *given)
        cell = with_target(result.cell, target)
        self._mark(cell[cell >= 0])
        return _Found(cell, *_rows(memory, _filled(cell)), result.reads)

    def _mark(self, cells: Tensor) -> None:
        """Note the cells that training reads: the next step moves their keys."""
        if self._trains_keys():
            self.indexed.mark_read(cells)

    def _trains_keys(self) -> bool:
        """Whether the next step of an optimiser moves the keys that are read."""
        memory = self.memory
        return isinstance(memory, Memory) and memory.table.requires_grad and torch.is_grad_enabled()


def _filled(cell: Tensor) -> Tensor:
    """Cells ``(B, K)`` with one that the query reads anyway in unused places.

    Any other would get a gradient of zero.
    """
    return torch.where(cell < 0, cell.amax(dim=1, keepdim=True), cell).clamp(min=0)


def _rows(memory: Memory | EncodedMemory, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Live keys and values of cells; zeros from an empty memory.

    Each place of a stored memory is gathered by itself. Gathering distinct cells first took up to twice as
    long forward, unless eight queries or more read each cell. An encoder encodes each distinct cell once.
    """
    if not len(memory):
        keys, values = memory.snapshot(), getattr(memory, "values", None)
        nothing = keys.new_zeros(*cells.shape, keys.shape[1])
        return nothing, nothing if values is None else values.new_zeros(*cells.shape, values.shape[1])
    if is_remote(memory):
        return cast("RemoteMemory", memory).rows_of(cells)
    if isinstance(memory, EncodedMemory):
        distinct, place = torch.unique(cells, return_inverse=True)
        keys = memory.keys_of(distinct)[place]
        return keys, keys
    keys = memory.keys_of(cells)
    return keys, keys if memory.values is None else memory.values_of(cells)
