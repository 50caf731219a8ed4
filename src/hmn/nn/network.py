"""A memory network: its five parts together."""

from __future__ import annotations

from typing import Generic

import torch
from torch import Tensor, nn

from hmn.index.structures.exact import ExactIndex
from hmn.nn.candidates.strategy import Candidates
from hmn.nn.parts import Output, OutputModule, Reader, Writer

REFILED_AT_A_TIME = 1 << 16


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
