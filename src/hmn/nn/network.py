"""A memory network: its five parts together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, cast

import torch
from torch import Tensor, nn

from hmn.errors import ConfigError, check_flag
from hmn.nn.candidates.strategy import Candidates
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.over_ranks import IndexedOverRanks, is_indexed
from hmn.nn.parts import CellMemory, Output, OutputModule, Reader, Writer
from hmn.nn.products import inner_products

if TYPE_CHECKING:  # a memory that is written imports torch._dynamo, which takes longer than all else
    from hmn.nn.writing.heads import CellReader
    from hmn.nn.writing.memory import WrittenMemory


class MemoryNetwork(nn.Module, Generic[Output]):
    """Input module, memory, reader, output module and, optionally, a writer.

    Args:
        input_module: a module that turns a batch of inputs into queries ``(B, D)``.
        indexed: the memory with its index, or an ``hmn.distributed.ShardedMemory``; a memory that is an
            ``nn.Module`` is trained with the network. Or a ``WrittenMemory``, which has its own.
        reader: which cells each query attends to; it reads the same ``indexed``. A ``CellReader`` reads a
            ``WrittenMemory``.
        output_module: turns what was read into answers.
        writer: called with the queries before or after the memory is read, if there is one. A ``CellWriter``
            writes to a ``WrittenMemory``; call ``network.memory.begin()`` before each batch of sequences.
        write_first: whether a query reads what it wrote itself; otherwise it is written after it was read.

    Attributes:
        indexed: the memory with its index.
        memory: the memory itself.

    Raises:
        ConfigError: the reader reads another memory.
    """

    def __init__(
        self,
        input_module: nn.Module,
        indexed: IndexedMemory[CellMemory] | IndexedOverRanks | WrittenMemory,
        reader: Reader | CellReader,
        output_module: OutputModule[Output],
        writer: Writer[Any] | None = None,
        *,
        write_first: bool = True,
    ) -> None:
        super().__init__()
        if getattr(reader, "indexed", indexed) is not indexed:
            raise ConfigError(
                "the reader reads another memory than the network's, expected the same IndexedMemory: "
                "give it to both"
            )
        self.input_module = input_module
        # networks that are trained by candidates, as for question answering, have no written memory
        self.indexed = cast(IndexedMemory[CellMemory], indexed)
        self.memory: CellMemory = (
            self.indexed.memory if is_indexed(indexed) else cast("WrittenMemory", indexed)
        )
        self.reader = cast(Reader, reader)
        self.output_module = output_module
        self.writer = writer
        self.write_first = check_flag("write_first", write_first)
        self._attach()

    def _attach(self) -> None:
        """Note that ``memory`` is replaced together with that of the index."""
        if is_indexed(self.indexed):
            self.indexed.attach(self)

    def __setattr__(self, name: str, value: Any) -> None:
        """Search another memory where ``memory`` is replaced."""
        if name == "memory" and "memory" in vars(self) | self._modules and "_is_replica" not in vars(self):
            if is_indexed(self.indexed):
                self.indexed.memory = value
            else:
                cast("CellReader", self.reader).indexed = value
                self.indexed = cast(IndexedMemory[CellMemory], value)
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy, whose memory is replaced together with that of the index."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._attach()

    def forward(self, inputs: object, k: int) -> Output:
        """Answer a batch of inputs from the ``k`` cells that are read for each."""
        query = self.input_module(inputs)  # (B, D)
        if self.writer is not None and self.write_first:
            self.writer(query, self.memory)
        read = self.reader.read(query, k)
        if self.writer is not None and not self.write_first:
            self.writer(query, self.memory)
        return self.output_module(read)

    def attend(self, query: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Candidates, Tensor]:
        """Score queries against the reader's candidates, for training.

        Args:
            query: ``(B, D)`` from the input module.
            target: ``(T,)`` cells that must be among the candidates.
            generator: source of what the reader's strategy draws.

        Where the cells lie on several ranks, the candidates are those of all ranks' queries and targets
        together, so that the loss of a query does not depend on the rank that asks it. Every rank calls it at
        the same time, and gets the keys of all C.

        Returns:
            The C candidates, ascending, and their scores ``(B, C)`` from live keys, in float32 at least.

        Raises:
            ConfigError: the memory is written; it is trained through ``forward``.
        """
        if not is_indexed(self.indexed):
            raise ConfigError(
                "the network reads a WrittenMemory, which has no candidates, expected an IndexedMemory: "
                "train it through its outputs"
            )
        drawn = self.reader.candidates(query, target, generator)
        keys = self.memory.keys_of(drawn.cell)  # (C, D)
        return drawn, inner_products(query, keys)
