"""Cores of controllers: what a network remembers from step to step beside its memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hmn.errors import ConfigError, expected_one_of
from hmn.nn.settings import check_whole

KINDS = ("lstm", "gru")
"""Kinds of recurrent cores."""


class RecurrentCore(nn.Module):
    """An LSTM or GRU, one step per call.

    Args:
        inputs: features of the input of a step, I.
        hidden: features of the hidden state, H.
        kind: ``lstm`` or ``gru``.
    """

    def __init__(self, inputs: int, hidden: int, kind: str = "lstm") -> None:
        super().__init__()
        if kind not in KINDS:
            raise ConfigError(f"kind is {kind!r}, {expected_one_of(kind, KINDS)}")
        check_whole("inputs", inputs, "the features of an input")
        check_whole("hidden", hidden, "the features of a hidden state")
        self.cell = nn.LSTMCell(inputs, hidden) if kind == "lstm" else nn.GRUCell(inputs, hidden)
        self.hidden = hidden
        self._state: tuple[Tensor, ...] | None = None

    def begin(self) -> None:
        """Start new sequences."""
        self._state = None

    def cut(self) -> None:
        """Let no gradient pass to earlier steps."""
        if self._state is not None:
            self._state = tuple(part.detach() for part in self._state)

    def forward(self, inputs: Tensor) -> Tensor:
        """The hidden state ``(S, H)`` after one more input ``(S, I)``."""
        if isinstance(self.cell, nn.LSTMCell):
            self._state = self.cell(inputs, self._state)
        else:
            self._state = (self.cell(inputs, None if self._state is None else self._state[0]),)
        return self._state[0]


class TransformerCore(nn.Module):
    """A Transformer block over the last few inputs, one step per call: attention, then two linear layers.

    It forgets what lies further back than its window, so a step does not depend on how many came before.
    What must last longer belongs in the memory.

    Args:
        inputs: features of the input of a step, I.
        hidden: features of the block, H.
        heads: attention heads; they divide H.
        window: number of inputs that a step attends to, its own included.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(self, inputs: int, hidden: int, heads: int = 4, window: int = 8) -> None:
        super().__init__()
        check_whole("inputs", inputs, "the features of an input")
        if check_whole("hidden", hidden, "the features of the block") % check_whole("heads", heads, "heads"):
            raise ConfigError(f"hidden is {hidden} for {heads} heads, expected a multiple of the heads")
        self.hidden = hidden
        self.heads, self.window = heads, check_whole("window", window, "the inputs attended to")
        self.embed, self.before = nn.Linear(inputs, hidden), nn.LayerNorm(hidden)
        self.attended = nn.Linear(hidden, 3 * hidden)
        self.distance = nn.Parameter(self.attended.weight.new_zeros(heads, window))  # added to the scores
        self.joined, self.between = nn.Linear(hidden, hidden), nn.LayerNorm(hidden)
        self.wide = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden))
        self.after = nn.LayerNorm(hidden)
        self._seen: list[tuple[Tensor, Tensor]] = []  # keys and values, the latest first

    def begin(self) -> None:
        """Start new sequences."""
        self._seen = []

    def cut(self) -> None:
        """Let no gradient pass to earlier steps."""
        self._seen = [(key.detach(), value.detach()) for key, value in self._seen]

    def forward(self, inputs: Tensor) -> Tensor:
        """What the block makes ``(S, H)`` of one more input ``(S, I)``."""
        # 1. The new input asks; the last ``window`` inputs are keys and values.
        # 2. Scores know how far back an input lies, not where in the sequence.
        hidden = self.embed(inputs)  # (S, H)
        query, key, value = self.attended(self.before(hidden)).unflatten(1, (3, self.heads, -1)).unbind(1)
        self._seen = [(key, value), *self._seen[: self.window - 1]]
        keys, values = (torch.stack(part, dim=2) for part in zip(*self._seen, strict=True))  # (S, h, w, d)
        score = (keys * query.unsqueeze(2)).sum(dim=3) / query.shape[2] ** 0.5  # (S, h, w)
        weight = torch.softmax(score + self.distance[:, : score.shape[2]], dim=2)
        read = (weight.unsqueeze(3) * values).sum(dim=2).flatten(1)  # (S, H)
        hidden = hidden + self.joined(read)
        made: Tensor = self.after(hidden + self.wide(self.between(hidden)))
        return made
