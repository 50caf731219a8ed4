"""Small data for the experiments: cells of random vectors, which words can learn as well as TransE's."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional as F

from hmn.facts.table import FactTable
from hmn.paper.cells.fixed import keys_of
from hmn.paper.cells.transe import TransEVectors
from hmn.paper.preset import PRESETS

FEATURES = 16
PRESET = replace(
    PRESETS["quick"],
    facts=None,
    train=None,
    valid=None,
    learning_rate=0.03,
    word_scale=0.1,
    epochs=6,
    batch_size=64,
)


def vectors_of(facts: FactTable, seed: int = 0) -> TransEVectors:
    generator = torch.Generator().manual_seed(seed)
    entity, relation = (
        F.normalize(torch.randn(count, FEATURES, generator=generator), dim=1)
        for count in (facts.num_entities, len(facts.relations))
    )
    return TransEVectors(entity, relation, [1.0, 0.5])


def made_keys(facts: FactTable, layout: str = "") -> torch.Tensor:
    return keys_of(facts, vectors_of(facts), layout)
