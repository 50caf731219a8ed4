"""A controller that reads and writes a memory at every step of a sequence."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from hmn.errors import ConfigError, ShapeError, check_flag, expected_one_of
from hmn.index.checks import as_tensor
from hmn.nn.network import MemoryNetwork
from hmn.nn.settings import check_whole
from hmn.nn.writing.cores import KINDS, Latest, RecurrentCore, TransformerCore, WindowCore
from hmn.nn.writing.heads import CellReader, CellWriter
from hmn.nn.writing.memory import WrittenMemory
from hmn.results import Read

CORES = (*KINDS, "transformer", "window")
"""Cores of a controller, by name."""


class ReadOut(nn.Module):
    """Outputs from what all heads read: a linear layer.

    Args:
        features: features of what the heads read, together.
        outputs: features of an output, O.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, outputs)

    def forward(self, read: Read[Tensor | None]) -> Tensor:
        """Outputs ``(S, O)`` from values ``(S, heads, V)``."""
        assert read.value is not None
        made: Tensor = self.linear(read.value.flatten(1))
        return made


class Beside(nn.Module):
    """A core whose last few inputs stand beside its state, so that heads can pass them on as they are.

    Args:
        core: the core.
        inputs: features of an input that stand there, I; the first ones of those that the core sees.
        window: number of inputs that stand there, the newest first.
    """

    def __init__(self, core: nn.Module, inputs: int, window: int) -> None:
        super().__init__()
        self.core, self.inputs, self.latest = core, inputs, Latest(inputs, window)
        self.beside = self.latest.hidden
        self.hidden = int(core.hidden) + self.beside  # type: ignore[arg-type]

    def begin(self) -> None:
        """Start new sequences."""
        self.core.begin()  # type: ignore[operator]
        self.latest.begin()

    def cut(self) -> None:
        """Let no gradient pass to earlier steps."""
        self.core.cut()  # type: ignore[operator]
        self.latest.cut()

    def forward(self, inputs: Tensor) -> Tensor:
        """State and inputs ``(S, hidden)``."""
        return torch.cat([self.core(inputs), self.latest(inputs[:, : self.inputs])], dim=1)


class MemoryController(nn.Module):
    """An LSTM, a GRU or a Transformer block that drives the reads and writes of a memory, step by step.

    At each step the core sees the input and what was read at the step before. From its state and the latest
    inputs the reader reads, then the writer writes. The output is made of what was read and of the state. All
    this is one call of a ``MemoryNetwork``.

    Args:
        inputs: features of an input, I.
        outputs: features of an output, O.
        memory: the memory that is read and written, with a sequence per row of a batch or one for all.
        core: ``lstm``, ``gru``, ``transformer`` or ``window``; or a module of your own with ``begin()``,
            ``cut()`` and an attribute ``hidden``, which is called with ``(S, I + heads * V)`` and returns
            ``(S, hidden)``.
        hidden: features of the core's state, H, where the core is made here.
        window: inputs that a step of ``transformer`` or ``window`` sees, its own included.
        beside: number of the latest inputs that the heads see as they are, beside the core's state. At first,
            keys and queries are made of these alone, so that what was written under like inputs is found.
        sees_reads: whether the core sees what was read at the step before. Where it need not, a state, and
            with it a key, depends on inputs alone, and so on no error of earlier reads.
        heads: number of reads and of writes per step.
        k: cells per read and write, K.
        rewrites: which cells a write changes, ``match`` or ``read``; see ``CellWriter``.
        unit: whether keys and queries have length 1, so that scores are cosines.

    Attributes:
        network: the ``MemoryNetwork``. ``network.memory`` may be replaced by a memory with other numbers of
            cells and sequences, and ``k`` by another number.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        memory: WrittenMemory,
        *,
        core: str | nn.Module = "lstm",
        hidden: int = 64,
        window: int = 8,
        beside: int = 1,
        sees_reads: bool = True,
        heads: int = 1,
        k: int = 4,
        rewrites: str = "match",
        unit: bool = True,
    ) -> None:
        super().__init__()
        self.inputs = check_whole("inputs", inputs, "the features of an input")
        check_whole("outputs", outputs, "the features of an output")
        self.heads = check_whole("heads", heads, "reads and writes per step")
        self.k = check_whole("k", k, "cells per read and write")
        self.read_features = heads * (memory.features if memory.values is None else memory.values)
        self.sees_reads = check_flag("sees_reads", sees_reads)
        seen = inputs + self.read_features * sees_reads
        check_whole("beside", beside, "the inputs beside the state")
        made = Beside(_core(core, seen, hidden, window), inputs, beside)
        hidden = made.hidden
        reader = CellReader(hidden, memory, heads=heads, unit=unit)
        writer = CellWriter(hidden, memory, heads=heads, k=k, rewrites=rewrites, unit=unit)
        # at first keys say what the inputs are, and a state finds what a like state has written
        with torch.no_grad():
            writer.key.weight[:, : made.hidden - made.beside] = 0
        reader.query.load_state_dict(writer.key.state_dict())
        self.network: MemoryNetwork[Tensor] = MemoryNetwork(
            made, memory, reader, ReadOut(self.read_features, outputs), writer, write_first=False
        )
        self.direct = nn.Linear(hidden, outputs)  # from the state to the output
        made.register_forward_hook(self._keep_state)
        self._state: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins new sequences."""
        return {**vars(self), "_state": None}

    def _keep_state(self, core: nn.Module, arguments: Any, state: Tensor) -> None:  # noqa: ARG002
        self._state = state

    @property
    def memory(self) -> WrittenMemory:
        """The memory that is read and written."""
        return cast(WrittenMemory, self.network.memory)

    @property
    def _core(self) -> Beside:
        return cast(Beside, self.network.input_module)

    def begin(self) -> None:
        """Start new sequences, with the memory as it was at first."""
        self.memory.begin()
        self._core.begin()
        self._state = None

    def cut(self) -> None:
        """Let no gradient pass to earlier steps, for truncated backpropagation."""
        self.memory.cut()
        self._core.cut()

    def step(self, inputs: Tensor) -> Tensor:
        """Outputs ``(S, O)`` of one more step with inputs ``(S, I)``."""
        last = self.memory.last
        seen = inputs
        if self.sees_reads:
            before = inputs.new_zeros(len(inputs), self.read_features)
            seen = torch.cat([inputs, before if last is None else last.value.flatten(1).to(inputs)], dim=1)
        read: Tensor = self.network(seen, self.k)
        assert self._state is not None
        made: Tensor = read + self.direct(self._state)
        return made

    def forward(self, inputs: Tensor, *, begin: bool = True) -> Tensor:
        """Outputs ``(S, T, O)`` for inputs ``(S, T, I)``.

        Args:
            inputs: T steps of S sequences.
            begin: whether these are new sequences; otherwise they continue those of the last call.

        Raises:
            ShapeError: the inputs do not fit.
        """
        inputs = as_tensor(inputs, "inputs", floats=True)
        fits = inputs.dim() == 3 and inputs.shape[2] == self.inputs and inputs.shape[1] > 0
        if not fits or self.memory.sequences not in {1, len(inputs)}:
            expected = self.memory.sequences if self.memory.sequences > 1 else "sequences"
            raise ShapeError(
                f"inputs are {tuple(inputs.shape)}, expected ({expected}, steps, {self.inputs}): the memory "
                "has one part per sequence, or one for all"
            )
        if begin:
            self.begin()
        return torch.stack([self.step(now) for now in inputs.unbind(dim=1)], dim=1)


def _core(core: str | nn.Module, inputs: int, hidden: int, window: int) -> nn.Module:
    if isinstance(core, nn.Module):
        return core
    if core not in CORES:
        raise ConfigError(f"core is {core!r}, {expected_one_of(core, CORES)}, or a module")
    check_whole("hidden", hidden, "the features of the state")
    if core in {"transformer", "window"}:
        made = TransformerCore if core == "transformer" else WindowCore
        return made(inputs, hidden, window=window)
    return RecurrentCore(inputs, hidden, core)
