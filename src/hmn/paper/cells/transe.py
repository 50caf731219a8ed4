"""TransE (Bordes et al. 2013): vectors of entities and relations from a table of facts, by PyTorch Geometric.

A fact holds if subject + relation lies near object. Training brings it nearer, by a margin, than the same
fact with another subject or object, drawn at random.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hmn.errors import ConfigError, MissingPackageError
from hmn.facts.table import FactTable
from hmn.nn.row_adam import RowAdam

INSTALL = 'pip install "hmn[paper]"'
"""Command that installs PyTorch Geometric."""


@dataclass(frozen=True)
class TransEConfig:
    """Settings of the training; those of PyTorch Geometric's example, since the paper gives none."""

    features: int = 200
    """Features per entity and per relation."""
    epochs: int = 100
    """Passes over the facts."""
    batch_size: int = 1000
    """Facts per step."""
    learning_rate: float = 0.01
    """Learning rate of Adam, on the rows of each step alone."""
    margin: float = 1.0
    """Distance by which a true fact must be nearer than a corrupted one."""
    seed: int = 0
    """Seed of the initial vectors, the order and the corrupted facts."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("features", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} of TransE is {getattr(self, name)}, expected at least 1")


class TransEVectors(NamedTuple):
    """Trained vectors.

    Attributes:
        entity: ``(E, F)`` float32, of length 1, as the model compares them.
        relation: ``(R, F)`` float32.
        loss: mean loss of each epoch.
    """

    entity: Tensor
    relation: Tensor
    loss: list[float]


@dataclass(frozen=True, eq=False)
class Triples:
    """T facts of E entities and R relations, as numbers.

    Attributes:
        num_entities, num_relations: E and R.
        subject, relation, object: ``(T,)`` numbers.
    """

    num_entities: int
    num_relations: int
    subject: NDArray[np.int64]
    relation: NDArray[np.int64]
    object: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of facts, T."""
        return len(self.subject)

    @classmethod
    def of(cls, facts: FactTable, more: FactTable | None = None) -> Triples:
        """The facts of a table, then those that only a second one has; the first keeps its numbers."""
        own = np.stack([facts.subject, facts.relation, facts.object]).astype(np.int64)
        if more is None:
            return cls(facts.num_entities, len(facts.relations), *own)
        entity, entities = _numbered(facts.entities.to_pylist(), more.entities.to_pylist())
        relation, relations = _numbered(facts.relations, more.relations)
        theirs = np.stack([entity[more.subject], relation[more.relation], entity[more.object]])
        both = np.concatenate([own, theirs], axis=1)
        key = (both[0] * relations + both[1]) * entities + both[2]
        return cls(entities, relations, *both[:, np.sort(np.unique(key, return_index=True)[1])])


def train_transe(
    facts: Triples,
    config: TransEConfig,
    *,
    device: str = "cpu",
    on_epoch: Callable[[int, float], None] | None = None,
) -> TransEVectors:
    """Train vectors of all entities and relations; the same seed gives the same vectors.

    Args:
        facts: facts to train on.
        config: settings of the training.
        device: device that computes; the vectors are returned on the CPU.
        on_epoch: called after each epoch with its number, from 1, and its mean loss.

    Raises:
        MissingPackageError: PyTorch Geometric is not installed.
    """
    transe = transe_class()
    columns = [
        torch.tensor(column, device=device).long() for column in (facts.subject, facts.relation, facts.object)
    ]
    losses = []
    with torch.random.fork_rng(devices=[] if device == "cpu" else None):
        torch.manual_seed(config.seed)
        # lengths and distances are Euclidean, like those of the memory that the vectors are for
        model = transe(
            facts.num_entities,
            facts.num_relations,
            config.features,
            margin=config.margin,
            p_norm=2.0,
            sparse=True,
        ).to(device)
        optimiser = RowAdam(model.parameters(), config.learning_rate)
        for epoch in range(config.epochs):
            total = 0.0
            for rows in torch.split(torch.randperm(len(facts)), config.batch_size):
                chosen = rows.to(device)
                loss = model.loss(*(column[chosen] for column in columns))
                loss.backward()
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                total += float(loss.detach()) * len(rows)
            losses.append(total / len(facts))
            if on_epoch is not None:
                on_epoch(epoch + 1, losses[-1])
    entity = F.normalize(model.node_emb.weight.detach(), dim=1).cpu()
    return TransEVectors(entity, model.rel_emb.weight.detach().cpu().clone(), losses)


def transe_class() -> Any:
    """The class of PyTorch Geometric.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # parts of it that are not used here rely on deprecated PyTorch
            from torch_geometric.nn import TransE
    except ImportError as error:
        raise MissingPackageError(f"TransE needs PyTorch Geometric: {INSTALL}") from error
    return TransE


def _numbered(known: Sequence[str], more: Sequence[str]) -> tuple[NDArray[np.int64], int]:
    """Numbers of ``more`` ids, new ones after the known ones, and the number of all ids."""
    number = {name: place for place, name in enumerate(known)}
    numbers = np.array([number.setdefault(name, len(number)) for name in more], np.int64)
    return numbers, len(number)
