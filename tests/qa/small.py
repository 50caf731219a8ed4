"""Settings of a model that trains in a second, and helpers to train one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.factoid_qa import FactoidQA

Split = tuple[QuestionSet, QuestionSet]
SIZES = {
    "table_bits": 11,
    "name_features": 32,
    "relation_features": 16,
    "word_bits": 10,
    "word_features": 8,
    "hidden": 8,
}
TRAINING = {
    "epochs": 3,
    "batch_size": 32,
    "renew_steps": 10,
    "learning_rate": 0.02,
    "warmup": 5,
    "made_questions": 0,
}
CLUSTER = "cluster:num_clusters=20,num_probes=6"
DRAWN = "k-mips+top-k:1+sample-k:2+rand-block:20"
INDEXES = {
    "cluster": CLUSTER,
    "cluster without codes": CLUSTER + ",codes=none",
    "hierarchy": "hierarchy:num_groups=30,reach=150",
    "wta-hash": "wta-hash:num_tables=24,num_permutations=2,prefix=4,num_probes=2",
    "pca-tree": "pca-tree:leaf_size=16,num_leaves=8",
    "faiss": "faiss:IVF10,Flat,num_probes=5",
}


def index_named(name: str) -> str:
    if name == "faiss" and importlib.util.find_spec("faiss") is None:
        pytest.skip("faiss is not installed")
    return INDEXES[name]


def contents(bundle: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in bundle.iterdir()}


def fitted(facts: FactTable, split: Split, out: Path | None = None, **settings: Any) -> FactoidQA:
    model = {name: value for name, value in settings.items() if name in ("index", "strategy", "k")}
    rest = {name: value for name, value in settings.items() if name not in model}
    qa = FactoidQA(facts, **SIZES, **model)
    return qa.fit(*split, out=out, quiet=True, **{**TRAINING, "epochs": 2, **rest})


def figures(found: Any) -> dict[str, Any]:
    return {name: value for name, value in found.as_dict().items() if name != "queries_per_second"}
