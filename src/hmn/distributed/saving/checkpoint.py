"""Checkpoints of a training run over ranks, which any other number of ranks can load.

A checkpoint is a bundle: a folder that is replaced as a whole, with checksums. ``cells-…`` have rows of
memories in the order of all ranks, ``replicated.safetensors`` and ``checkpoint.json`` what every rank has
alike, ``index-…`` and ``random-…`` the index and the random numbers of a rank.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from hmn.distributed.collectives import Ranks, checked_ranks
from hmn.distributed.saving.loading import RowLoader
from hmn.distributed.saving.row_files import write_rows
from hmn.distributed.saving.training_state import TrainingState
from hmn.errors import BundleError, ConfigError
from hmn.store.atomic import resolved, sync_folder
from hmn.store.bundle import check_writable, write_json, write_tensors, writing_bundle
from hmn.store.contents import fitting
from hmn.store.manifest import MANIFEST, Entry, check_file, is_bundle, json_bytes, listed_files, measured
from hmn.store.replace import recover
from hmn.store.values import packed_values, unpacked_values

RECORD = "checkpoint.json"
"""File with the step, the files of each memory, and all values that are no tensors."""
REPLICATED = "replicated.safetensors"
"""File with the tensors that every rank has alike."""


class ShardedCheckpoint:
    """Saves a training run over ranks now and then, and takes it up again on any number of ranks.

    ::

        checkpoint = ShardedCheckpoint("runs/first", model, [sgd])
        for step in range(checkpoint.load() or 0, 10_000):
            ...
            checkpoint.save_if_due(step + 1)

    Saved are the keys and values of all cells with what the optimisers remember of them, the other parameters
    and buffers as rank 0 has them, settings of the optimisers, indexes, and the states of random generators.
    Each rank writes its own rows, and reads those that it holds by then. The folder holds one checkpoint, the
    last that is complete: whenever a process ends, that one stays whole. All machines must see the folder, as
    on a shared file system, and one run at a time may write to it.

    Every rank makes it, and calls its methods at the same time and equally often.

    Args:
        folder: folder of the checkpoint: there must be nothing, an empty folder or a checkpoint.
        model: the model with all that is trained, perhaps wrapped in ``DistributedDataParallel``.
        optimizers: its optimiser, or several.
        every: seconds from the end of a save until ``save_if_due`` saves again.
        generators: random generators of this rank, beside PyTorch's own.
        ranks: the processes; those of the model's first memory if not given.

    Attributes:
        extra: what was saved as ``extra`` in the checkpoint that was loaded.

    Raises:
        BundleError: the folder holds something else, or cannot be written.
        ConfigError: an optimiser trains a parameter that the model lacks, or a setting is wrong.
        RankError: another rank has failed.
    """

    def __init__(
        self,
        folder: Path | str,
        model: nn.Module,
        optimizers: Optimizer | Sequence[Optimizer] = (),
        *,
        every: float = 30.0,
        generators: Sequence[torch.Generator] = (),
        ranks: Ranks | None = None,
    ) -> None:
        optimizers = [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers)
        self._state = TrainingState(model, optimizers)
        held = [memory.ranks for memory in self._state.memories.values()]
        self.ranks = checked_ranks(held[0] if ranks is None and held else ranks)
        if not isinstance(every, int | float) or isinstance(every, bool) or not 0 <= every < 1e9:
            raise ConfigError(f"every is {every!r}, expected a number of seconds, at least 0")
        self.every, self._generators = float(every), list(generators)
        self.extra: dict[str, Any] = {}
        with self.ranks.together():
            self.folder = resolved(folder)
            if not self.ranks.rank:
                recover(self.folder)
                check_writable(self.folder)
                if is_bundle(self.folder):
                    self._listed()
            self.ranks.tell(b"", "a look at the checkpoint")
        self._saved = time.monotonic()

    def save_if_due(self, step: int, extra: Mapping[str, Any] | None = None) -> bool:
        """Save if the last save was ``every`` seconds ago, by the clock of rank 0; says whether it did."""
        with self.ranks.together():
            due = time.monotonic() - self._saved >= self.every
            due = self.ranks.tell(b"\1" if due else b"", "whether to save") != b""
        if due:
            self.save(step, extra)
        return due

    def save(self, step: int, extra: Mapping[str, Any] | None = None) -> None:
        """Save now, in place of the checkpoint before.

        Args:
            step: number of steps that are done.
            extra: more to save: None, numbers, texts, tensors, and lists, tuples and dictionaries of these.
                What rank 0 gives is saved.

        Raises:
            BundleError: a file cannot be written; the checkpoint before is unchanged.
            ConfigError: there is something that cannot be saved; likewise.
            RankError: another rank has failed; likewise.
        """
        ranks = self.ranks
        with ranks.together():
            if not isinstance(step, int) or isinstance(step, bool) or step < 0:
                raise ConfigError(f"step is {step!r}, expected a whole number of at least 0")
            written: dict[str, Entry] = {}
            leads = not ranks.rank
            if not isinstance(extra or {}, Mapping):
                raise ConfigError(f"extra is {type(extra).__name__}, expected a dictionary: give it names")
            bundle = writing_bundle(self.folder, written=written) if leads else nullcontext(Path())
            with bundle as new, ranks.together():  # others hear of an error while the folder is still there
                name = ranks.tell(new.name.encode(), "folder of the checkpoint").decode()
                folder = self.folder.with_name(name)
                if not folder.is_dir():
                    raise BundleError(
                        f"{folder}: rank {ranks.rank} does not see this folder, which rank 0 has made, "
                        "expected a file system that all machines share: choose another folder"
                    )
                own: dict[str, Any] = {"files": {}, "memories": {}}
                ranks.in_turns(self._writing(folder, own), "rows of a checkpoint")
                records = [
                    json.loads(text) for text in ranks.report(json_bytes(own), "files of a checkpoint")
                ]
                for record in records:
                    written |= {name: (size, crc) for name, (size, crc) in record["files"].items()}
                if leads:
                    self._write_replicated(folder, step, extra or {}, [part["memories"] for part in records])
            ranks.tell(b"", "end of a checkpoint")
        self._saved = time.monotonic()

    def load(self) -> int | None:
        """Take back what was saved: the number of steps that were done, or None if nothing was saved.

        The model must be made as the one that was saved, on all ranks together with as many cells. Indexes
        are built again, unless each rank holds the cells that it held then. Random generators go on where
        they were if there are as many ranks as then; otherwise they stay as they are, and rank 0 warns.

        Raises:
            BundleError: the checkpoint is damaged, or is that of another model; the model is unchanged.
            RankError: another rank has failed.
        """
        ranks, state = self.ranks, self._state
        with ranks.together():
            step = None
            if files := self._agreed_files():
                for name in (RECORD, REPLICATED):
                    check_file(self.folder / name, files[name])
                record, rows = self._record()
                indexes = self._index_files(record)
                own = [*rows.files(), *indexes.values(), *self._random_files(record)]
                ranks.in_turns(self._checking(own, files), "checks of a checkpoint")
                ranks.in_turns(rows.reading(), "rows of a checkpoint")
                state.load(record["values"], rows.row_state())
                for memory, name in indexes.items():
                    with fitting(self.folder / name):
                        state.load_index(memory, load_file(self.folder / name))
                self._load_random(record)
                self.extra, step = record["values"]["extra"], record["step"]
        self._saved = time.monotonic()
        return step

    def _writing(self, folder: Path, record: dict[str, Any]) -> Iterator[str]:
        """Write what this rank holds, a file at each step, and note it in the record."""
        state, rank = self._state, self.ranks.rank
        for number, (memory, cells) in enumerate(state.memories.items()):
            tables = state.tables(memory)
            rows, others = state.row_state(memory)
            named = {f"{place}|state": table for place, table in enumerate(rows.values())}
            values, tensors = packed_values(list(others.values()), f"state of {memory}")
            if tensors:
                raise ConfigError(f"{next(iter(tensors))} is a tensor, expected a number or a row per cell")
            first = cells.shards.first[rank]
            files = []
            for file in write_rows(folder, f"cells-{number}", tables | named, set(tables), first, rank):
                record["files"][file.name] = measured(folder / file.name)
                files.append(file)
                yield file.name
            indexes = state.index_state(memory)
            if indexes:
                name = _index_file(number, rank)
                write_tensors(folder, name, indexes)
                record["files"][name] = measured(folder / name)
                yield name
            record["memories"][memory] = {
                "cells": len(cells.shard),
                "has_index": bool(indexes),
                "files": files,
                "tables": {name: [list(part.shape[1:]), str(part.dtype)] for name, part in tables.items()},
                "rows": [[what, table.is_sparse] for what, table in rows.items()],
                "others": [[what, value] for what, value in zip(others, values, strict=True)],
            }
        name = _random_file(rank)
        write_tensors(folder, name, self._random())
        record["files"][name] = measured(folder / name)
        sync_folder(folder)
        yield name

    def _write_replicated(
        self, folder: Path, step: int, extra: Mapping[str, Any], memories: list[dict[str, Any]]
    ) -> None:
        """Write what every rank has alike, and which files have the cells of the memories."""
        values, tensors = packed_values({**self._state.replicated(), "extra": dict(extra)}, "values")
        write_tensors(folder, REPLICATED, tensors)
        names = self._state.memories
        files = {name: [part[name] for part in memories] for name in names}
        write_json(
            folder, RECORD, {"step": step, "ranks": len(memories), "memories": files, "values": values}
        )

    def _agreed_files(self) -> dict[str, Entry]:
        """The files of the checkpoint, the same on every rank; none if there is no checkpoint."""
        if self.ranks.rank == 0:
            recover(self.folder)
        manifest = self.folder / MANIFEST
        data = manifest.read_bytes() if manifest.is_file() else b""
        known = self.ranks.tell(data and crc32(data).to_bytes(4), "checksum of the manifest")
        if not known:
            return {}
        if crc32(data).to_bytes(4) != known:
            raise BundleError(
                f"{manifest}: rank {self.ranks.rank} sees another file than rank 0, or none, expected a file "
                "system that all machines share: choose another folder"
            )
        return self._listed()

    def _listed(self) -> dict[str, Entry]:
        """The files of the checkpoint, by the manifest."""
        files = listed_files(self.folder)
        if RECORD not in files or REPLICATED not in files:
            raise BundleError(
                f"{self.folder}: got the folder of something else, such as a model, expected a checkpoint, "
                "an empty folder or nothing: choose another folder"
            )
        return files

    def _record(self) -> tuple[dict[str, Any], RowLoader]:
        """What the checkpoint says of itself, compared with the model, and what reads this rank's rows."""
        file = self.folder / RECORD
        with fitting(file):
            record: dict[str, Any] = json.loads(file.read_bytes())
            record["values"] = unpacked_values(record["values"], load_file(self.folder / REPLICATED))
            if type(record["step"]) is not int or type(record["ranks"]) is not int:
                raise ValueError(f"step is {record['step']!r:.80}, expected a whole number")
            try:
                rows = RowLoader(self.folder, self._state, record["memories"], self.ranks.rank)
                self._state.check(record["values"])
            except ConfigError as error:
                raise BundleError(
                    f"{self.folder}: the checkpoint is of another run: {error}, expected the same: "
                    "make model and optimizers as they were when it was saved, or choose another folder"
                ) from error
        return record, rows

    def _checking(self, names: Sequence[str], files: Mapping[str, Entry]) -> Iterator[str]:
        for name in names:
            with fitting(self.folder / RECORD):
                entry = files[name]
            check_file(self.folder / name, entry)
            yield name

    def _index_files(self, record: Mapping[str, Any]) -> dict[str, str]:
        """The files with the indexes of this rank's cells, by memory, if each rank had the same cells."""
        rank, files = self.ranks.rank, {}
        for number, (memory, cells) in enumerate(self._state.memories.items()):
            saved = record["memories"][memory]
            if [part["cells"] for part in saved] == cells.shards.counts and saved[rank]["has_index"]:
                files[memory] = _index_file(number, rank)
        return files

    def _random(self) -> dict[str, Tensor]:
        """States of the random generators of this rank."""
        state = {"torch": torch.get_rng_state()}
        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            state["cuda"] = torch.cuda.get_rng_state()
        return state | {str(place): part.get_state() for place, part in enumerate(self._generators)}

    def _random_files(self, record: Mapping[str, Any]) -> list[str]:
        """The file with the random numbers of this rank, if there were as many ranks."""
        if record["ranks"] == self.ranks.size:
            return [_random_file(self.ranks.rank)]
        if self.ranks.rank == 0:
            warnings.warn(
                f"the checkpoint is of {record['ranks']} ranks and there are {self.ranks.size}: random "
                "generators stay as they are, so draws differ from those of an undisturbed run",
                stacklevel=3,
            )
        return []

    def _load_random(self, record: Mapping[str, Any]) -> None:
        if record["ranks"] != self.ranks.size:
            return
        file = self.folder / _random_file(self.ranks.rank)
        with fitting(file):
            saved = load_file(file)
            torch.set_rng_state(saved["torch"])
            if "cuda" in saved and torch.cuda.is_available():
                torch.cuda.set_rng_state(saved["cuda"])
            for place, generator in enumerate(self._generators):
                generator.set_state(saved[str(place)])


def _index_file(number: int, rank: int) -> str:
    return f"index-{number}-{rank:05d}.safetensors"


def _random_file(rank: int) -> str:
    return f"random-{rank:05d}.safetensors"
