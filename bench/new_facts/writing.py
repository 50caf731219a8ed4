"""What writing does to a trained model: accuracy on new and on old facts, and what is forgotten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.clusters import index_of
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.registry import settings_in
from hmn.nn.memory.growing import num_held
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.metrics import Evaluation, Outcome

INDEXES = ("exact", "cluster")
"""Indexes that facts are written through: the model's own, and another."""


def train(data: Path, work: Path) -> Path:
    """Train a model on the old facts, as a user would; an interrupted training resumes."""
    out = work / "model"
    if not out.exists() or (work / "model.run" / "checkpoint").exists():
        files = {"facts": work / "old.tsv", "names": data / "names.tsv", "out": out}
        files |= {"questions": work / "train-old.tsv", "valid": work / "valid-old.tsv"}
        flags = [text for name, file in files.items() for text in (f"--{name}", str(file))]
        subprocess.run([sys.executable, "-m", "hmn.cli", "train", *flags, "--resume"], check=True)
    return out


def figures(qa: FactoidQA, file: Path, outcomes: list[Outcome] | None = None) -> dict[str, Any]:
    """Figures on the questions of a file."""
    found: Evaluation = qa.evaluate(QuestionSet.read(file, qa.facts), outcomes=outcomes)
    kept = ("questions", "pair_accuracy", "fact_accuracy", "answer_accuracy", "reads")
    return {name: value for name, value in found.as_dict().items() if name in kept}


def measure(data: Path, work: Path) -> dict[str, Any]:
    """Write the new facts into the model of ``work`` and take them out again, through each index."""
    names = data / "names.tsv"
    new, relations = (FactTable.read(work / f"{name}.tsv", names) for name in ("new", "relations"))
    result: dict[str, Any] = {"old": 0, "new": len(new), "relations": len(relations)}
    for name in INDEXES:
        qa = FactoidQA.from_pretrained(work / "model")
        if name == "cluster":
            qa.use_index(index_of(num_held(qa.memory)))
        result["old"] = len(qa.facts)
        result[name] = _through(qa, work, new, relations)
    return result


def _through(qa: FactoidQA, work: Path, new: FactTable, relations: FactTable) -> dict[str, Any]:
    before: list[Outcome] = []
    after: list[Outcome] = []
    again: list[Outcome] = []
    keys, old = qa.memory.snapshot().clone(), work / "valid-old.tsv"
    found: dict[str, Any] = {"index": qa.config.index, "before": figures(qa, old, before)}
    written = len(qa.facts)
    qa.add_facts(new)
    found["old"], found["new"] = figures(qa, old, after), figures(qa, work / "valid-new.tsv")
    found["new, as in train"] = figures(qa, work / "train-new.tsv")
    changed = [
        (one.best, other.best)
        for one, other in zip(before, after, strict=True)
        if not np.array_equal(one.best, other.best)
    ]
    found["keys that changed"] = int((qa.memory.snapshot()[: len(keys)] != keys).any(dim=1).sum())
    found["best facts that changed"] = len(changed)
    found["of these, by a new fact"] = sum(bool((best >= written).any()) for _, best in changed)
    qa.add_facts(relations)
    found["new relations"] = figures(qa, work / "valid-relations.tsv")
    found["old, with all of it"] = figures(qa, old)
    qa.remove_facts(relations)
    qa.remove_facts(new)
    found["after removal"] = figures(qa, old, again)
    same = [np.array_equal(one.best, other.best) for one, other in zip(before, again, strict=True)]
    found["best facts that removal does not restore"] = len(same) - sum(same)
    gone = QuestionSet.read(work / "valid-new.tsv", new)
    asked = qa.ask_all(gone.text, 10)
    known = {tuple(qa.facts.fact(cell)[:3]) for cell in range(written)}
    answered = [fact for answers in asked for one in answers for fact in one.facts]
    found["removed facts that are answered"] = sum(tuple(fact[:3]) not in known for fact in answered)
    torch.testing.assert_close(qa.memory.snapshot()[: len(keys)], keys, rtol=0, atol=0)
    if qa.network.indexed.index.has_structure:
        qa.add_facts(new)
        probes = settings_in(qa.config.index)["num_probes"]
        found["index, built again"] = f"{index_of(num_held(qa.memory))},num_probes={probes}"
        qa.use_index(found["index, built again"])
        found["new, built again"] = figures(qa, work / "valid-new.tsv")
        found["old, built again"] = figures(qa, old)
    return found
