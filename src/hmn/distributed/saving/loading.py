"""Reads the rows that a rank holds from a checkpoint of any number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hmn.distributed.saving.row_files import Piece, RowFile, overlapping, read_rows
from hmn.distributed.saving.training_state import RowState, TrainingState
from hmn.errors import ConfigError
from hmn.store.contents import fitting
from hmn.store.values import unpacked_values


class RowLoader:
    """Reads this rank's rows of all memories from a checkpoint.

    Args:
        folder: folder of the checkpoint.
        state: the run that takes them.
        memories: what the checkpoint says of each memory: a record for each rank that wrote it.
        rank: this rank.

    Raises:
        ConfigError: the checkpoint has other memories than the run.
    """

    def __init__(
        self, folder: Path, state: TrainingState, memories: Mapping[str, list[dict[str, Any]]], rank: int
    ) -> None:
        self._folder, self._state, self._rank = folder, state, rank
        self._records, self._files = memories, dict[str, list[RowFile]]()
        self._found: dict[RowState, Any] = {}
        if odd := sorted(memories.keys() ^ state.memories.keys()):
            where = "checkpoint" if odd[0] in state.memories else "model"
            raise ConfigError(f"the {where} has no memory {odd[0].rstrip('.')!r:.100} over ranks")
        for memory in state.memories:
            self._files[memory] = self._wanted(memory)

    def files(self) -> list[str]:
        """Names of the files that have rows of this rank."""
        return [file.name for files in self._files.values() for file in files]

    def reading(self) -> Iterator[str]:
        """Read the rows into the tables of the memories, a file at each step; keep those of optimisers."""
        for memory, files in self._files.items():
            cells = self._state.memories[memory]
            first, count = cells.shards.first[self._rank], len(cells.shard)
            tables = self._state.tables(memory)
            tensors = [*cells.parameters(), *cells.buffers()]
            device = tensors[0].device if tensors else torch.device("cpu")
            sparse: dict[RowState, list[Piece]] = {}
            for file in files:
                titles = self._titles(memory, file)
                with fitting(self._folder / file.name):
                    for title, piece in read_rows(self._folder, file, first, count):
                        if title in tables:
                            _put(tables[title], piece)
                            continue
                        what, is_sparse = titles[title]
                        if is_sparse:
                            sparse.setdefault(what, []).append(piece)
                        else:
                            _put(self._table(what, count, piece, device), piece)
                yield file.name
            for what, pieces in sparse.items():
                self._found[what] = _joined(pieces, count, device)

    def row_state(self) -> dict[RowState, Any]:
        """What optimisers remember of this rank's rows, after ``reading``."""
        found = dict(self._found)
        for memory, files in self._files.items():
            for rank in sorted({file.rank for file in files}):
                for what, value in self._records[memory][rank]["others"]:
                    state, value = RowState(*what), unpacked_values(value, {})
                    # ranks that took more steps know better how far averages have come
                    counts = isinstance(value, int | float | Tensor) and state in found
                    found[state] = max(found[state], value) if counts else value
        return found

    def _wanted(self, memory: str) -> list[RowFile]:
        """The files with this rank's rows; the memory is compared with what they hold."""
        cells, records = self._state.memories[memory], self._records[memory]
        tables = self._state.tables(memory)
        own = {name: [list(part.shape[1:]), str(part.dtype)] for name, part in tables.items()}
        for record in records:
            for name in sorted(own.keys() | record["tables"].keys()):
                got, wanted = record["tables"].get(name), own.get(name)
                if got != wanted:
                    raise ConfigError(f"{name} has {_described(got)}, the model's {_described(wanted)}")
        files = [RowFile(*file) for record in records for file in record["files"]]
        total = sum(record["cells"] for record in records)
        if total != len(cells):
            raise ConfigError(f"{memory.rstrip('.')} has {total} cells, the model's {len(cells)}")
        return overlapping(files, cells.shards.first[self._rank], len(cells.shard))

    def _titles(self, memory: str, file: RowFile) -> dict[str, tuple[RowState, bool]]:
        """Tables of optimisers in a file, and whether they are sparse there."""
        rows = self._records[memory][file.rank]["rows"]
        return {f"{place}|state": (RowState(*what), sparse) for place, (what, sparse) in enumerate(rows)}

    def _table(self, what: RowState, count: int, piece: Piece, device: torch.device) -> Tensor:
        """The table that takes the rows of a piece; those that come from no file are 0."""
        if what not in self._found:
            self._found[what] = torch.zeros(
                count, *piece.values.shape[1:], dtype=piece.values.dtype, device=device
            )
        table: Tensor = self._found[what]
        return table


def _put(table: Tensor, piece: Piece) -> None:
    """Put the rows of a piece where they belong in a table ``(n, ...)``."""
    rows = slice(piece.first, piece.first + piece.num_rows)
    if piece.rows is None:
        table[rows].copy_(piece.values)
    else:
        table[piece.first + piece.rows.to(table.device)] = piece.values.to(table.device)


def _joined(pieces: list[Piece], count: int, device: torch.device) -> Tensor:
    """A sparse table ``(count, ...)`` of the rows of several pieces."""
    rows = torch.cat([piece.first + piece.rows for piece in pieces if piece.rows is not None])
    values = torch.cat([piece.values for piece in pieces if piece.rows is not None])
    size = (count, *values.shape[1:])
    return torch.sparse_coo_tensor(
        rows.unsqueeze(0), values, size, device=device, is_coalesced=True, check_invariants=True
    )


def _described(table: list[Any] | None) -> str:
    return "none" if table is None else f"rows of {tuple(table[0])} in {table[1]}"
