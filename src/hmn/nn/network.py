"""A memory network: its five parts together."""

from __future__ import annotations

from typing import Any, Generic

import torch
from torch import Tensor, nn

from hmn.errors import ConfigError
from hmn.nn.candidates.strategy import Candidates
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.parts import CellMemory, Output, OutputModule, Reader, Writer
from hmn.nn.products import inner_products


class MemoryNetwork(nn.Module, Generic[Output]):
    """Input module, memory, reader, output module and, optionally, a writer.

    Args:
        input_module: a module that turns a batch of inputs into queries ``(B, D)``.
        indexed: the memory with its index; a memory that is an ``nn.Module`` is trained with the network.
        reader: which cells each query attends to; it reads the same ``indexed``.
        output_module: turns what was read into answers.
        writer: called with the queries before the memory is read, if there is one.

    Attributes:
        indexed: the memory with its index.
        memory: the memory itself.

    Raises:
        ConfigError: the reader reads another memory.
    """

    def __init__(
        self,
        input_module: nn.Module,
        indexed: IndexedMemory[CellMemory],
        reader: Reader,
        output_module: OutputModule[Output],
        writer: Writer | None = None,
    ) -> None:
        super().__init__()
        if getattr(reader, "indexed", indexed) is not indexed:
            raise ConfigError(
                "the reader reads another memory than the network's, expected the same IndexedMemory: "
                "give it to both"
            )
        self.input_module = input_module
        self.indexed = indexed
        self.memory = indexed.memory
        indexed.attach(self)
        self.reader = reader
        self.output_module = output_module
        self.writer = writer

    def __setattr__(self, name: str, value: Any) -> None:
        """Search another memory where ``memory`` is replaced."""
        if name == "memory" and "memory" in vars(self) | self._modules and "_is_replica" not in vars(self):
            self.indexed.memory = value
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy, whose memory is replaced together with that of the index."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.indexed.attach(self)

    def forward(self, inputs: object, k: int) -> Output:
        """Answer a batch of inputs from the ``k`` cells that are read for each."""
        query = self.input_module(inputs)  # (B, D)
        if self.writer is not None:
            self.writer(query, self.memory)
        return self.output_module(self.reader.read(query, k))

    def attend(self, query: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Candidates, Tensor]:
        """Score queries against the reader's candidates, for training.

        Args:
            query: ``(B, D)`` from the input module.
            target: ``(T,)`` cells that must be among the candidates.
            generator: source of what the reader's strategy draws.

        Returns:
            The C candidates, ascending, and their scores ``(B, C)`` from live keys, in float32 at least.
        """
        drawn = self.reader.candidates(query, target, generator)
        keys = self.memory.keys_of(drawn.cell)  # (C, D)
        return drawn, inner_products(query, keys)
