"""A memory network: its five parts together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from hmn.errors import ShapeError
from hmn.index.exact import ExactIndex
from hmn.index.strategy import Candidates
from hmn.nn.memory import CellMemory
from hmn.nn.reader import Reader
from hmn.typing import Read

Output = TypeVar("Output", covariant=True)

REFILED_AT_A_TIME = 1 << 16


class OutputModule(Protocol[Output]):
    """Turns what was read into answers."""

    def __call__(self, read: Read) -> Output:
        """Answers for a batch of reads."""
        ...


class Writer(Protocol):
    """Changes the memory in the course of reading; the networks of this version only read."""

    def __call__(self, query: Tensor, memory: CellMemory) -> None:
        """Write into the memory what the queries ``(B, D)`` say."""
        ...


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """The state of a network with each tensor once, also where two of its parts share a module."""
    once = {name for name, _ in network.named_parameters()} | {name for name, _ in network.named_buffers()}
    return {name: value for name, value in network.state_dict().items() if name in once}


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], *, assign: bool = False) -> None:
    """Take back what ``weights_of`` gave.

    Args:
        network: of the same architecture.
        weights: by name.
        assign: take the tensors themselves in place of copying them.

    Raises:
        ShapeError: names or shapes differ from the network's.
    """
    own = weights_of(network)
    strange = sorted(own.keys() ^ weights.keys())
    strange += [name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape]
    if strange:
        raise ShapeError(
            f"weights do not fit the network, first {strange[0]}: make both of one configuration"
        )
    network.load_state_dict(weights, strict=False, assign=assign)


class MemoryNetwork(nn.Module, Generic[Output]):
    """Input module, memory, reader, output module and, optionally, a writer.

    Args:
        input_module: a module that turns a batch of inputs into queries ``(B, D)``.
        memory: a module that is a ``CellMemory`` of N cells.
        reader: which cells a query attends to.
        output_module: turns what was read into answers.
        writer: called with the queries before the memory is read, if given.
    """

    def __init__(
        self,
        input_module: nn.Module,
        memory: nn.Module,
        reader: Reader,
        output_module: OutputModule[Output],
        writer: Writer | None = None,
    ) -> None:
        super().__init__()
        self.input_module = input_module
        self.memory = memory
        self.reader = reader
        self.output_module = output_module
        self.writer = writer

    def forward(self, inputs: object, k: int) -> Output:
        """Answer a batch of inputs from the ``k`` cells that are read for each."""
        query = self.input_module(inputs)  # (B, D)
        if self.writer is not None:
            self.writer(query, self.memory)  # type: ignore[arg-type]
        return self.output_module(self.reader.read(query, self.memory, k))  # type: ignore[arg-type]

    def refresh(self, cells: Tensor | None = None, *, rebuild: bool = True) -> None:
        """Let the reader search the memory's snapshot as it is now: after it was renewed or restored.

        Args:
            cells: ``(n,)`` distinct, where only their keys are others; nothing is built anew then.
            rebuild: build the index's structure anew. Otherwise the cells are filed again by their new keys
                in the structure that there is: without clustering again, say, which takes many times as long.
        """
        index, keys = self.reader.index, self.memory.snapshot()  # type: ignore[operator]
        if cells is not None and len(index) == len(keys):
            if not isinstance(index, ExactIndex):
                index.update(cells, keys[cells])
            return
        if rebuild or isinstance(index, ExactIndex) or len(index) != len(keys):
            index.build(keys)
            return
        # in parts, since what is filed is copied for a moment
        for cells in torch.split(torch.arange(len(keys), device=keys.device), REFILED_AT_A_TIME):
            index.update(cells, keys[cells])

    def attend(self, query: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Candidates, Tensor]:
        """Score queries against the reader's candidates, for training.

        Args:
            query: ``(B, D)`` from the input module.
            target: ``(T,)`` cells that must be among the candidates.
            generator: of what the reader's strategy draws.

        Returns:
            The C candidates, ascending, and their scores ``(B, C)`` from live keys.
        """
        drawn = self.reader.candidates(query, self.memory, target, generator)  # type: ignore[arg-type]
        keys = self.memory.keys_of(drawn.cell)  # type: ignore[operator]
        return drawn, query @ keys.T
