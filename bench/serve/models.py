"""The models that are served: a small one about the demo's world, and one of SimpleQuestions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.demo.world import build_world
from hmn.qa.factoid_qa import FactoidQA
from hmn.serve.journal import journal_path
from hmn.serve.writes.lock import lock_path

SMALL = 2_000
"""Facts of the small table, at least."""
EPOCHS = {"small": 3, "large": 4}
"""Passes over the training questions."""
ASKED = 1_000
"""Upper limit of the questions that are kept for asking."""


def small(work: Path, facts: int = SMALL) -> Path:
    """Train on facts of the demo's world, unless that was done; ``questions.json`` has held-out questions."""
    out = work / f"small-{facts}"
    if out.exists():
        return out
    world = build_world(0)
    of_subject: dict[str, list[tuple[str, str, str]]] = {}
    for triple in world.triples:
        of_subject.setdefault(triple[0], []).append(triple)
    rows: dict[tuple[str, str, str], None] = {}
    for question in (row for pair in zip(world.train, world.valid, strict=False) for row in pair):
        if len(rows) < facts:
            rows |= dict.fromkeys(of_subject[question[0]])
    table = FactTable.from_triples(list(rows), world.names)
    train, valid = ([row for row in part if row[:3] in rows] for part in (world.train, world.valid))
    qa = FactoidQA(table)
    qa.fit(
        *(QuestionSet.from_rows(table, part) for part in (train, valid)),
        out=out,
        overwrite=True,
        epochs=EPOCHS["small"],
        made_questions=0,
    )
    keep_questions(out, [row[3] for row in valid])
    return out


def large(work: Path, data: Path, model: Path | None) -> Path:
    """A model of SimpleQuestions: a copy of ``model``, or trained on the data unless that was done."""
    out = work / "large"
    if not out.exists():
        if model is not None:
            shutil.copytree(model, out)
        else:
            qa = FactoidQA(FactTable.read(data / "facts.tsv", data / "names.tsv"))
            qa.fit(data / "train.tsv", data / "valid.tsv", out=out, overwrite=True, epochs=EPOCHS["large"])
    if not questions_path(out).exists():
        lines = (data / "valid.tsv").read_text(encoding="utf-8").splitlines()[:ASKED]
        keep_questions(out, [line.split("\t")[-1] for line in lines])
    return out


def copied(model: Path, to: Path) -> Path:
    """A copy of a model in a place where nothing was served."""
    shutil.rmtree(to, ignore_errors=True)
    for file in (journal_path(to), lock_path(to)):
        for path in to.parent.glob(f"{file.name}*"):
            path.unlink()
    shutil.copytree(model, to)
    return to


def questions_path(model: Path) -> Path:
    """Where the questions for a model lie."""
    return model.with_name(f"{model.name}-questions.json")


def keep_questions(model: Path, texts: list[str]) -> None:
    """Keep questions beside a model."""
    questions_path(model).write_text(json.dumps(texts[:ASKED]))


def questions(model: Path) -> list[str]:
    """The questions beside a model."""
    found: list[str] = json.loads(questions_path(model).read_text())
    return found


def described(model: Path) -> dict[str, Any]:
    """What a model is, for the results."""
    qa = FactoidQA.from_pretrained(model)
    return {"facts": len(qa.facts), "cells": len(qa.cells), "index": qa.config.index}
