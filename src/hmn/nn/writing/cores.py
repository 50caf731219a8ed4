"""Cores of controllers: what a network remembers from step to step beside its memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hmn.errors import ConfigError, expected_one_of
from hmn.nn.settings import check_whole

KINDS = ("lstm", "gru")
"""Kinds of recurrent cores."""


class Core(nn.Module):
    """What all cores have: a past, which ``begin`` forgets, and which a copy does not get.

    Attributes:
        hidden: features of the hidden state, H.
    """

    hidden: int

    def __init__(self) -> None:
        super().__init__()
        self._past: tuple[Any, ...] = ()

    def begin(self) -> None:
        """Start new sequences."""
        self._past = ()

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins new sequences: the past belongs to those of this core."""
        return {**vars(self), "_past": ()}


class RecurrentCore(Core):
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

    def cut(self) -> None:
        """Let no gradient pass to earlier steps."""
        self._past = tuple(part.detach() for part in self._past)

    def forward(self, inputs: Tensor) -> Tensor:
        """The hidden state ``(S, H)`` after one more input ``(S, I)``."""
        if isinstance(self.cell, nn.LSTMCell):
            self._past = self.cell(inputs, self._past or None)
        else:
            self._past = (self.cell(inputs, *self._past),)
        state: Tensor = self._past[0]
        return state


class Latest(Core):
    """The last few inputs side by side, the newest first; zeros stand for inputs before the first.

    Args:
        inputs: features of an input, I.
        window: number of inputs.
    """

    def __init__(self, inputs: int, window: int) -> None:
        super().__init__()
        self.window, self.hidden = window, window * inputs

    def cut(self) -> None:
        """Let no gradient pass to earlier inputs."""
        self._past = tuple(seen.detach() for seen in self._past)

    def forward(self, inputs: Tensor) -> Tensor:
        """These inputs ``(S, I)`` and those before them: ``(S, window * I)``."""
        self._past = (inputs, *self._past[: self.window - 1])
        missing = [torch.zeros_like(inputs)] * (self.window - len(self._past))
        return torch.cat([*self._past, *missing], dim=1)


class WindowCore(Core):
    """Two linear layers over the last few inputs, side by side, one step per call.

    It forgets what lies further back than its window; what must last longer belongs in the memory. A state
    depends on these inputs alone, and so does a key that is made of it.

    Args:
        inputs: features of the input of a step, I.
        hidden: features of the hidden state, H.
        window: number of inputs that a step sees, its own included.
    """

    def __init__(self, inputs: int, hidden: int, window: int = 8) -> None:
        super().__init__()
        check_whole("inputs", inputs, "the features of an input")
        self.hidden = check_whole("hidden", hidden, "the features of the hidden state")
        self.latest = Latest(inputs, check_whole("window", window, "the inputs that are seen"))
        wide = self.latest.hidden
        self.layers = nn.Sequential(nn.Linear(wide, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU())

    def begin(self) -> None:
        """Start new sequences."""
        self.latest.begin()

    def cut(self) -> None:
        """Let no gradient pass to earlier steps."""
        self.latest.cut()

    def forward(self, inputs: Tensor) -> Tensor:
        """The hidden state ``(S, H)`` after one more input ``(S, I)``."""
        made: Tensor = self.layers(self.latest(inputs))
        return made


class TransformerCore(Core):
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

    def cut(self) -> None:
        """Let no gradient pass to earlier steps."""
        self._past = tuple((key.detach(), value.detach()) for key, value in self._past)

    def forward(self, inputs: Tensor) -> Tensor:
        """What the block makes ``(S, H)`` of one more input ``(S, I)``."""
        # 1. The new input asks; the last ``window`` inputs are keys and values.
        # 2. Scores know how far back an input lies, not where in the sequence.
        hidden = self.embed(inputs)  # (S, H)
        query, key, value = self.attended(self.before(hidden)).unflatten(1, (3, self.heads, -1)).unbind(1)
        self._past = ((key, value), *self._past[: self.window - 1])
        keys, values = (torch.stack(part, dim=2) for part in zip(*self._past, strict=True))  # (S, h, w, d)
        score = (keys * query.unsqueeze(2)).sum(dim=3) / query.shape[2] ** 0.5  # (S, h, w)
        weight = torch.softmax(score + self.distance[:, : score.shape[2]], dim=2)
        read = (weight.unsqueeze(3) * values).sum(dim=2).flatten(1)  # (S, H)
        hidden = hidden + self.joined(read)
        made: Tensor = self.after(hidden + self.wide(self.between(hidden)))
        return made
