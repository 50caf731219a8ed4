"""A memory that a network writes while it reads it: one per sequence of a batch, or one that all share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hmn.errors import ConfigError, NotFittedError, ShapeError, check_flag
from hmn.index.checks import as_tensor, check_keys
from hmn.index.registry import make_index
from hmn.nn.attention.scoring import softmax, uncompiled
from hmn.nn.products import at_full_precision
from hmn.nn.settings import check_whole
from hmn.nn.writing.blending import merged, read_cells, shaped
from hmn.nn.writing.changing import LEAST_WEIGHT, change_cells, planned
from hmn.nn.writing.finding import Finder
from hmn.nn.writing.links import Links
from hmn.nn.writing.recency import Recency
from hmn.nn.writing.tape import Tape
from hmn.results import Read


class WrittenMemory(nn.Module):
    """N cells per sequence that begin empty, or with given rows, and change as they are written.

    This is the memory of Sparse Access Memory (Rae et al. 2016). A write goes to the K cells whose keys match
    best and to the cell that was used longest ago. Gradients pass from every read to all that was written
    before it, exactly. An index follows every write, so a step costs what it reads and writes, whatever N is.

    ``begin`` starts a batch of sequences; ``read`` and ``write`` follow in any order. Leading dimensions of
    queries are heads: ``(S, ..., D)`` where each sequence has a memory of its own, and ``(..., D)`` where one
    memory serves all. Heads that write together see the memory as it was before. Their changes are made one
    after another, in order.

    A weight of at most 0.005 is no write. A cell is found once something was written to it.

    Args:
        cells: number of cells per sequence, N.
        features: features of a key, D.
        values: features of a value, V; without them the key is what is read, and V is D below.
        sequences: number of memories, S: one per sequence of a batch, or 1 that all sequences share.
        index: search structure, as text for ``make_index``. Exact search of small memories is one product
            for the whole batch.
        initial: ``(N, D + V)`` rows that every sequence begins with: keys and values side by side. Without
            them the memory begins empty.
        linked: whether ``follow`` is wanted: the memory then keeps the order in which cells were written.
        dtype: type of the rows, if ``initial`` does not say it.

    Attributes:
        rows: ``(S, N, D + V)`` what the cells hold: keys and values side by side.
        last: what was read last; the next write may go there. None after ``begin``.

    Raises:
        ConfigError: a setting is out of its range.
        ShapeError: the rows do not fit.
    """

    rows: Tensor

    def __init__(
        self,
        cells: int,
        features: int,
        values: int | None = None,
        *,
        sequences: int = 1,
        index: str = "exact",
        initial: Tensor | None = None,
        linked: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.cells = check_whole("cells", cells, "the cells of a sequence")
        self.features = check_whole("features", features, "the features of a key")
        self.values = None if values is None else check_whole("values", values, "the features of a value")
        self.sequences = check_whole("sequences", sequences, "the memories of a batch")
        self.index, self.linked = index, check_flag("linked", linked)
        make_index(index)  # a bad name is refused here, not at the first step
        self.width = self.features + (self.values or 0)
        self._initial = None if initial is None else self._checked_rows(initial)
        self._dtype = dtype if self._initial is None else self._initial.dtype
        self.register_buffer("rows", self._first_rows(), persistent=False)
        self.last: Read | None = None
        self._tape: Tape | None = None

    def _checked_rows(self, initial: Tensor) -> Tensor:
        rows = check_keys(as_tensor(initial, "initial", floats=True), "initial")
        if rows.shape != (self.cells, self.width):
            raise ShapeError(
                f"initial is {tuple(rows.shape)}, expected ({self.cells}, {self.width}): "
                "the key and the value of each cell side by side"
            )
        return rows

    def _first_rows(self) -> Tensor:
        if self._initial is not None:
            return self._initial.repeat(self.sequences, 1, 1)
        shape = (self.sequences, self.cells, self.width)
        return torch.zeros(shape, dtype=self._dtype, device=torch.get_default_device())

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins with the first rows: what was written belongs to the sequences of this one."""
        state = {**vars(self), "_tape": None, "last": None}
        state["_buffers"] = {"rows": self._first_rows().to(self.rows)}
        for name in ("_finder", "_first", "_links", "_recency"):
            state.pop(name, None)
        return state

    def _apply(self, *arguments: Any, **settings: Any) -> WrittenMemory:
        """Move or convert the rows; sequences must begin again."""
        if self._tape is not None:
            self._tape.reset()
        self._tape = self.last = None
        super()._apply(*arguments, **settings)  # type: ignore[no-untyped-call]
        return self

    def __len__(self) -> int:
        """Number of cells of all sequences together."""
        return self.sequences * self.cells

    def keys_of(self, cells: Tensor) -> Tensor:
        """Keys ``(..., D)`` of cells ``(...)``, numbered through all sequences, with gradients."""
        return self._begun().read(cells)[..., : self.features]

    def values_of(self, cells: Tensor) -> Tensor:
        """Values ``(..., V)`` of cells ``(...)``, numbered through all sequences, with gradients."""
        rows = self._begun().read(cells)
        return rows if self.values is None else rows[..., self.features :]

    def snapshot(self) -> Tensor:
        """Keys ``(S * N, D)`` of all sequences as they are now, without gradients."""
        return self.rows.flatten(0, 1)[:, : self.features]

    def begin(self) -> None:
        """Start new sequences: every cell holds what it held at first. Costs what was written before."""
        self.last = None
        if self._tape is None:
            self._tape = Tape(self.rows.view(-1, self.width), blank=self._initial is None)
            self._finder = Finder(self.rows, self.features, self.index, given=self._initial is not None)
            self._recency = Recency(self.sequences, self.cells)
            first = torch.arange(0, len(self), self.cells, device=self.rows.device)
            self._first = first.view(-1, 1, 1)  # row of the first cell of each sequence
            self._links = Links(self.sequences, self.cells, self.rows.device) if self.linked else None
            return
        written = self._tape.written
        self._tape.reset()
        self._finder.reset(written)
        self._recency.reset()
        if self._links is not None:
            self._links.reset(written)

    def cut(self) -> None:
        """Let no gradient pass from later reads to earlier writes; the cells keep what they hold."""
        self._begun().cut()
        if self.last is not None:
            self.last = Read(*(part if part is None else part.detach() for part in self.last))

    def _begun(self) -> Tape:
        if self._tape is None:
            raise NotFittedError("the memory has no sequences yet: call begin() first")
        return self._tape

    def read(self, query: Tensor, k: int, scale: float | Tensor = 1.0) -> Read:
        """Read the K cells that match each query best, through a softmax over these cells alone.

        Args:
            query: ``(S, ..., D)``, or ``(..., D)`` where all share one memory.
            k: cells per query, K.
            scale: factor of the scores in the softmax: a number, or one per query ``(S, ...)``.

        Returns:
            ``value`` (S, ..., V), ``weight``, ``cell`` and ``score`` (S, ..., K) and ``reads`` (S, ...).
            Cells are numbers from 0 to N - 1 in the memory of their sequence.

        Raises:
            NotFittedError: ``begin`` was not called.
            ShapeError: the query does not fit.
        """
        found = self.find(query, k, scale)
        self.use(found)
        return found

    @uncompiled
    @at_full_precision
    def find(self, query: Tensor, k: int, scale: float | Tensor = 1.0) -> Read:
        """As ``read``, but the cells do not count as used; for the cells that a write is to change."""
        tape = self._begun()
        heads = self._heads(query, "query", self.features)  # (S, M, D)
        cell, reads = self._finder.search(heads, check_whole("k", k, "the cells per query"))  # (S, M, K)
        empty = cell < 0
        unused = empty if bool(empty.any()) else None
        factor = scale
        if isinstance(scale, Tensor):
            factor = scale.reshape(*heads.shape[:2], 1) if scale.numel() > 1 else scale
        rows = self._flat(cell if unused is None else cell.clamp(min=0))
        value, weight, score = read_cells(tape, rows, heads, factor, unused, self.features)
        return shaped(Read(value, weight, cell, score, reads), query.shape[:-1])

    @uncompiled
    def follow(self, read: Read, *, back: bool = False) -> Read:
        """Read the cells that were written next after those of a read, with the same weights.

        Only cells that were newly written have a place in this order, not those that were changed. A read of
        H heads follows H cells; a cell that nothing follows takes its weight with it.

        Args:
            read: what was read before, such as ``last``.
            back: whether to read the cells written before them instead.

        Raises:
            ConfigError: the memory was made without ``linked=True``.
        """
        self._begun()
        if self._links is None:
            raise ConfigError("the memory keeps no order of its cells: make it with linked=True")
        cell = self._cells(read.cell)  # (S, M, K)
        flat = self._links.follow(self._numbered(cell), back=back)
        following = torch.where(flat < 0, flat, flat % self.cells)
        weight = read.weight.reshape(cell.shape).masked_fill(following < 0, 0.0)
        return self._read_at(following, weight, read, read.cell.shape[:-1])

    @uncompiled
    def blend(self, reads: list[Read], shares: Tensor, k: int, sharpness: float | Tensor = 1.0) -> Read:
        """Blend reads of the same heads into one, and keep the K cells of largest weight.

        Args:
            reads: n reads, with weights (S, ..., K) each.
            shares: ``(S, ..., n)`` share of each; they should sum to one.
            k: cells that are kept per head, K.
            sharpness: exponent of the weights before they are made to sum to one, at least 1: a number, or
                one per head ``(S, ...)``. Above 1, small weights fade (Graves et al. 2014).
        """
        self._begun()
        cell = torch.cat([self._cells(read.cell) for read in reads], dim=2)  # (S, M, nK)
        shares = shares.reshape(*cell.shape[:2], len(reads))
        weight = torch.cat(
            [read.weight.reshape(*cell.shape[:2], -1) * shares[..., n, None] for n, read in enumerate(reads)],
            dim=2,
        )  # (S, M, nK)
        cell, weight = merged(cell, weight)
        if cell.shape[2] > k:
            chosen = weight.detach().masked_fill(cell < 0, -1.0).topk(k, dim=2).indices
            cell, weight = cell.gather(2, chosen), weight.gather(2, chosen)  # (S, M, K)
        power = sharpness.reshape(cell.shape[:2]).unsqueeze(2) if isinstance(sharpness, Tensor) else sharpness
        least = torch.finfo(weight.dtype).tiny
        sharpened = softmax(power * weight.clamp(min=least).log(), cell < 0)
        return self._read_at(cell, sharpened, reads[0], reads[0].cell.shape[:-1])

    @uncompiled
    def with_weights(self, read: Read, weight: Tensor) -> Read:
        """The cells of a read with other weights ``(S, ..., K)``, without a search."""
        cell = self._cells(read.cell)  # (S, M, K)
        again = self._read_at(cell, weight.reshape(cell.shape), read, read.cell.shape[:-1])
        return again._replace(score=read.score, reads=read.reads)

    def use(self, read: Read) -> None:
        """Note cells as used now, best last, and keep the read as ``last``; small weights do not count."""
        self._begun()
        self.last = read
        cell = self._cells(read.cell)
        weights = read.weight.reshape(cell.shape).numpy(force=True)
        used = np.where(weights > LEAST_WEIGHT, cell.numpy(force=True), -1)[:, :, ::-1]  # (S, M, K)
        self._recency.use(used.reshape(self.sequences, -1))

    @uncompiled
    @at_full_precision
    def write(
        self,
        found: Read,
        key: Tensor,
        value: Tensor | None = None,
        *,
        gate: Tensor,
        mix: Tensor,
        erase: Tensor | None = None,
    ) -> None:
        """Write to cells that were found or read, and to the cell that was used longest ago.

        The weight of a found cell is ``gate * mix`` times its weight in ``found``; that of the oldest cell is
        ``gate * (1 - mix)``. A found cell becomes ``(1 - weight * erase) * cell + weight * new``. The oldest
        one loses all that it held and becomes ``weight * new``. If it is among those found, both weights add.

        Args:
            found: cells with weights, from ``find``, ``read`` or ``last``.
            key: ``(S, ..., D)`` new keys, one per head.
            value: ``(S, ..., V)`` new values, if the memory has values.
            gate: ``(S, ...)`` how much is written, from 0 to 1.
            mix: ``(S, ...)`` share that goes to the cells found, from 0 to 1.
            erase: ``(S, ..., D + V)`` how much of each feature is erased, from 0 to 1; 1 if not given.

        Raises:
            NotFittedError: ``begin`` was not called.
            ShapeError: the parts do not fit.
        """
        # 1. Weights of the cells found, and of the oldest cell, which joins them.
        # 2. Change the rows: in one go, or in rounds where heads write to the same cell.
        # 3. The index, the order of use and that of writing follow.
        tape = self._begun()
        new = self._new(key, value)  # (S, M, W)
        heads = new.shape[:2]
        gate, mix = gate.reshape(heads), mix.reshape(heads)
        cell = self._cells(found.cell)  # (S, M, K)
        weight = found.weight.reshape(cell.shape)
        erase = None if erase is None else erase.reshape(new.shape)
        plan = planned(cell, weight, gate, mix, self._recency, self._first.numpy(force=True))
        if plan is None:
            return
        change_cells(tape, plan, new, erase, gate, mix, weight)
        self._finder.follow(plan.distinct)
        self._recency.use(plan.cells)
        if self._links is not None:
            oldest = torch.from_numpy(plan.cells.reshape(*cell.shape[:2], -1)[..., -1]).to(cell.device)
            self._links.append(self._numbered(oldest))

    def _new(self, key: Tensor, value: Tensor | None) -> Tensor:
        """What is written, keys and values side by side: ``(S, M, W)``."""
        new = self._heads(key, "key", self.features)
        if (value is None) != (self.values is None):
            expected = "none: leave it out" if self.values is None else f"one of {self.values} features"
            raise ShapeError(f"value is {'missing' if value is None else 'given'}, expected {expected}")
        if value is not None and self.values is not None:
            new = torch.cat([new, self._heads(value, "value", self.values)], dim=2)
        return new

    def _heads(self, given: Tensor, name: str, features: int) -> Tensor:
        """Queries, keys or values as ``(S, M, features)``."""
        tensor = as_tensor(given, name, floats=True)
        own = self.sequences == 1 or (tensor.dim() > 1 and tensor.shape[0] == self.sequences)
        if not tensor.dim() or tensor.shape[-1] != features or not own:
            batch = "" if self.sequences == 1 else f"{self.sequences}, "
            raise ShapeError(f"{name} is {tuple(tensor.shape)}, expected ({batch}..., {features})")
        return tensor.reshape(self.sequences, math.prod(tensor.shape[:-1]) // self.sequences, features)

    def _cells(self, cell: Tensor) -> Tensor:
        """Cells of a read as ``(S, M, K)``."""
        return cell.reshape(self.sequences, -1, cell.shape[-1])

    def _flat(self, cell: Tensor) -> Tensor:
        """Rows of cells ``(S, M, ...)`` in all sequences together."""
        return cell if self.sequences == 1 else cell + self._first

    def _numbered(self, cell: Tensor) -> Tensor:
        """Rows of cells ``(S, M)`` or ``(S, M, K)`` in all sequences together; -1 stays -1."""
        if self.sequences == 1:
            return cell
        first = self._first if cell.dim() == 3 else self._first.squeeze(2)
        return torch.where(cell < 0, cell, cell + first)

    @at_full_precision
    def _read_at(self, cell: Tensor, weight: Tensor, like: Read, shape: torch.Size) -> Read:
        """Read cells ``(S, M, K)`` with weights, for no search."""
        rows = self._begun().read(self._flat(cell.clamp(min=0)))  # (S, M, K, W)
        values = rows if self.values is None else rows[..., self.features :]
        value = (weight.unsqueeze(2) @ values.to(weight.dtype)).squeeze(2)  # (S, M, V)
        score = torch.zeros_like(weight).masked_fill(cell < 0, -torch.inf)
        reads = like.reads + cell.shape[2] * self.width / self.features
        return shaped(Read(value, weight, cell, score, reads.reshape(cell.shape[:2])), shape)
