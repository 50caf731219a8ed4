"""The memory's fixed cells: vectors of subject, relation and object, side by side or added."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from hmn.errors import ConfigError
from hmn.facts.ragged import Ragged
from hmn.facts.table import FactTable
from hmn.paper.cells.transe import TransEConfig, TransEVectors, Triples, train_transe
from hmn.paper.data import Data
from hmn.paper.grid import FORMAT, SUMMED
from hmn.paper.preset import Preset
from hmn.qa.cells import Cells
from hmn.qa.words.splitting import LETTERS, splitting
from hmn.store.atomic import write_atomically
from hmn.store.contents import check_finite, fitting


def one_per_fact(facts: FactTable) -> Cells:
    """Cells that are the facts themselves, one per fact, as in the paper."""
    every = np.arange(len(facts), dtype=np.int64)
    same = Ragged(np.arange(len(facts) + 1, dtype=np.int64), every)
    subject, relation, object_ = (
        column.astype(np.int64) for column in (facts.subject, facts.relation, facts.object)
    )
    return Cells([], subject, relation, object_, same, same, splitting(LETTERS))


def keys_of(facts: FactTable, vectors: TransEVectors, layout: str) -> Tensor:
    """Keys of the facts in a layout: ``(N, 3 F)`` side by side, or ``(N, F)`` added."""
    rows = [
        table[torch.tensor(column).long()]
        for table, column in (
            (vectors.entity, facts.subject),
            (vectors.relation, facts.relation),
            (vectors.entity, facts.object),
        )
    ]
    return torch.stack(rows).sum(dim=0) if layout == SUMMED else torch.cat(rows, dim=1)


def at_size_one(keys: Tensor) -> Tensor:
    """Keys ``(N, D)`` scaled by one number, so that the mean square of their coordinates is 1.

    The paper does not give the length of its cells, without which the learning rate of 0.001 means nothing.
    With vectors of length 1 in 200 features, training takes about fifty epochs and is otherwise the same.
    """
    size = float(keys.double().square().mean().sqrt())
    return keys / size if size > 0 else keys


def cache_file(folder: Path, checksum: str, preset: Preset, seed: int, device: str = "cpu") -> Path:
    """The file that keeps the vectors of some data, settings, seed and device."""
    settings = json.dumps(
        [
            FORMAT,
            device,
            checksum,
            preset.name,
            preset.facts,
            preset.train,
            preset.valid,
            _settings(preset, seed),
        ]
    )
    return folder / f"transe-{hashlib.sha256(settings.encode()).hexdigest()[:16]}.safetensors"


def cached_vectors(
    file: Path,
    data: Data,
    preset: Preset,
    seed: int,
    *,
    device: str = "cpu",
    more: str | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> TransEVectors:
    """Read vectors from a file, or train them and keep them; on a table of ``more`` facts too if given.

    Raises:
        MissingPackageError: they must be trained and PyTorch Geometric is not installed.
        ConfigError: the file has the vectors of another table.
        BundleError: the file is damaged.
    """
    if not file.exists():
        config = TransEConfig(**_settings(preset, seed))
        larger = None if more is None else FactTable.read(more)
        vectors = train_transe(Triples.of(data.facts, larger), config, device=device, on_epoch=on_epoch)
        # those of the first table come first
        entity, relation = vectors.entity[: data.facts.num_entities], vectors.relation
        tensors = {"entity": entity.clone(), "relation": relation[: len(data.facts.relations)].clone()}
        losses = torch.tensor(vectors.loss, dtype=torch.float64)
        write_atomically(file, save({**tensors, "loss": losses}))
    with fitting(file):
        kept = load_file(file)
        check_finite(kept)
        entity, relation, loss = kept["entity"], kept["relation"], [float(value) for value in kept["loss"]]
    if (len(entity), len(relation)) != (data.facts.num_entities, len(data.facts.relations)):
        raise ConfigError(
            f"{file}: it has the vectors of another table of facts: remove it, and they are trained again"
        )
    if not entity.dim() == relation.dim() == 2 or entity.shape[1:] != relation.shape[1:]:
        raise ConfigError(f"{file}: its vectors do not fit each other: remove it, and they are trained again")
    return TransEVectors(entity, relation, loss)


def _settings(preset: Preset, seed: int) -> dict[str, Any]:
    return {**asdict(preset.transe), "seed": seed}
