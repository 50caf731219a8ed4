"""Heads: from what a controller computes to a write and to a read."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmn.errors import ConfigError, check_flag, expected_one_of
from hmn.nn.settings import check_whole
from hmn.nn.writing.memory import WrittenMemory
from hmn.results import Read

REWRITES = ("match", "read")
"""Names of the cells that a write changes beside the oldest: those that match its key, or those read last."""


class CellWriter(nn.Module):
    """Writes what a hidden state says: ``network.writer``.

    From the hidden state come, per head, the new key and value, the gate, the share that goes to cells that
    exist (``mix``), and how much of each of their features is erased. All are learned.

    Args:
        hidden: features of the hidden state, H.
        memory: the memory that is written, for its sizes.
        heads: number of writes per call and sequence.
        k: cells that exist and are changed by a write, K.
        rewrites: ``match``: a write changes the cells whose keys match the new key best, and their best score
            has a part in ``mix``, so that a known key may be written again and an unknown one get a cell.
            ``read``: it changes the cells that were read last, as in Rae et al. 2016.
        unit: whether new keys have length 1.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        hidden: int,
        memory: WrittenMemory,
        *,
        heads: int = 1,
        k: int = 4,
        rewrites: str = "match",
        unit: bool = True,
    ) -> None:
        super().__init__()
        check_whole("hidden", hidden, "the features of a hidden state")
        self.heads, self.k = check_whole("heads", heads, "writes per call"), check_whole("k", k, "cells")
        if rewrites not in REWRITES:
            raise ConfigError(f"rewrites is {rewrites!r}, {expected_one_of(rewrites, REWRITES)}")
        self.rewrites, self.unit = rewrites, check_flag("unit", unit)
        self.key = nn.Linear(hidden, heads * memory.features)
        self.value = None if memory.values is None else nn.Linear(hidden, heads * memory.values)
        self.gate, self.mix = nn.Linear(hidden, heads), nn.Linear(hidden, heads)
        self.erase = nn.Linear(hidden, heads * memory.width)
        # at first most is written, and to new cells, unless the key is known by a score above 0.75
        known, start = (40.0, -30.0) if rewrites == "match" else (0.0, -4.0)
        for layer, bias in ((self.gate, 2.0), (self.mix, start), (self.erase, 2.0)):
            nn.init.constant_(layer.bias, bias)
        self.sharpness = nn.Parameter(self.gate.weight.new_tensor(10.0))  # of the match
        self.familiarity = nn.Parameter(self.gate.weight.new_tensor(known))

    def forward(self, query: Tensor, memory: WrittenMemory) -> None:
        """Write what hidden states ``(S, H)`` say."""
        key = self._heads(self.key(query))  # (S, M, D)
        if self.unit:
            key = functional.normalize(key, dim=-1)
        mix = self.mix(query)  # (S, M)
        if self.rewrites == "read" and memory.last is not None and memory.last.cell.shape[1] == self.heads:
            found = memory.last
        else:
            found = memory.find(key, self.k, self.sharpness)
            best = found.score.amax(dim=-1)  # -inf where the memory is empty
            known = torch.where(best.isfinite(), best, 0.0).to(mix.dtype)
            mix = mix + self.familiarity * known
        memory.write(
            found,
            key,
            None if self.value is None else self._heads(self.value(query)),
            gate=torch.sigmoid(self.gate(query)),
            mix=torch.sigmoid(mix),
            erase=torch.sigmoid(self._heads(self.erase(query))),
        )

    def _heads(self, made: Tensor) -> Tensor:
        return made.reshape(len(made), self.heads, -1)


class CellReader(nn.Module):
    """Reads what a hidden state asks for: the ``reader`` of a network whose memory is written.

    From the hidden state come, per head, the query and its sharpness. Where the memory is linked, they also
    say how much of the read is by content, how much of it is the cell after the one read before, and how much
    the cell before that; the blend is sharpened.

    Args:
        hidden: features of the hidden state, H.
        memory: the memory that is read.
        heads: number of reads per call and sequence.
        unit: whether queries have length 1.

    Attributes:
        indexed: the memory that is read.
        hard: whether only the best of the K cells is read, with a weight of 1. Gradients are those of the
            softmax over all K, a straight-through estimate. A network that erases what it has read, one cell
            at a time, learns the last part so: a soft read leaves pieces of two cells. False at first.
    """

    name = "written"

    def __init__(self, hidden: int, memory: WrittenMemory, *, heads: int = 1, unit: bool = True) -> None:
        super().__init__()
        check_whole("hidden", hidden, "the features of a hidden state")
        self.heads, self.indexed = check_whole("heads", heads, "reads per call"), memory
        self.unit, self.hard = check_flag("unit", unit), False
        self.query = nn.Linear(hidden, heads * memory.features)
        self.scale = nn.Linear(hidden, heads)
        nn.init.constant_(self.scale.bias, 5.0)
        self.ways = nn.Linear(hidden, heads * 3) if memory.linked else None
        self.sharpness = nn.Linear(hidden, heads) if memory.linked else None

    def read(self, query: Tensor, k: int) -> Read:
        """Read K cells per head for hidden states ``(S, H)``: ``value`` is (S, heads, V)."""
        memory, last = self.indexed, self.indexed.last
        asked = self.query(query).unflatten(-1, (self.heads, -1))  # (S, M, D)
        if self.unit:
            asked = functional.normalize(asked, dim=-1)
        read = memory.find(asked, k, 1 + functional.softplus(self.scale(query)))
        if self.ways is not None and self.sharpness is not None and last is not None:
            shares = torch.softmax(self.ways(query).unflatten(-1, (self.heads, 3)), dim=-1)
            ways = [read, memory.follow(last), memory.follow(last, back=True)]
            read = memory.blend(ways, shares, k, 1 + functional.softplus(self.sharpness(query)))
        if self.hard:
            best = functional.one_hot(read.weight.argmax(dim=-1), read.weight.shape[-1]).to(read.weight)
            best = best * (read.weight > 0)  # an empty memory has no best cell
            read = memory.with_weights(read, read.weight + (best - read.weight).detach())
        memory.use(read)
        return read
