"""Writing beside what people do otherwise: training new facts into weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.new_facts.parametric import Parametric
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.config import make_configs, settings_of
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.training.fit import fit, seeded
from hmn.qa.training.run_folder import Run

COUNTS = (1_000, 10_000, 20_000)
"""Numbers of new facts."""
RATES = (1e-4, 3e-4, 1e-3)
"""Learning rates of fine-tuning; that which serves the fewest new facts best serves all."""
BASE_RATE = 1e-3
"""Learning rate of the first training."""
MOST = 0.9
"""Share of the new facts that a learning rate must teach, if any does."""
TUNED_EPOCHS = 1
"""Epochs of fine-tuning the memory network."""
OLD_WORDS = 5_000
"""Old facts that are asked by their words."""
NETWORK_RATE = 2e-4
"""Learning rate of fine-tuning the memory network: a tenth of the first training's."""
TABLE_RATE = 1e-4
"""The same for its table of names."""


class Asked:
    """Questions about the facts of a model: each fact in words, and the natural questions of a file.

    Args:
        qa: The model, with the facts.
        facts: Facts that are asked by their words: the name of the subject, then the relation.
        files: Files of natural questions; those about other facts are left out.
    """

    def __init__(self, qa: FactoidQA, facts: list[tuple[str, ...]], files: list[Path]) -> None:
        table, there = qa.facts, set(facts)
        cells = table.cells_of(*zip(*facts, strict=True))
        shown = [table.fact(int(cell)) for cell in cells]
        rows = [(*fact[:3], f"{fact.subject_name} {fact.relation_name}") for fact in shown]
        self.words = QuestionSet.from_rows(table, rows)
        lines = [tuple(line.split("\t")) for file in files for line in file.read_text().splitlines()]
        ids = [tuple(row) for row in lines]
        known = [row for row in ids if row[:3] in there]
        self.natural = QuestionSet.from_rows(table, known)

    def accuracies(self, measure: Callable[[QuestionSet], float]) -> dict[str, float]:
        """Share of right answers to each kind of question."""
        return {"words": measure(self.words), "questions": measure(self.natural)}


def measure(
    data: Path, work: Path, counts: tuple[int, ...], most_epochs: int, kind: str | None
) -> dict[str, Any]:
    """One way for all numbers of new facts, from the model of ``work`` that knows the old ones.

    Args:
        data: Folder of names.tsv.
        work: Folder of the model and of its files.
        counts: Numbers of new facts.
        most_epochs: Upper limit of the epochs of a network that knows facts by its weights.
        kind: Name of such a network; None for writing, and for training the memory network further.
    """
    rows = {
        name: [tuple(line.split("\t")) for line in (work / f"{name}.tsv").read_text().splitlines()]
        for name in ("old", "new")
    }
    qa = FactoidQA.from_pretrained(work / "model")
    old = Asked(qa, rows["old"], [work / "valid-old.tsv"])
    base = Asked(qa, rows["old"], [work / "train-old.tsv"])
    drawn = np.random.default_rng(0).permutation(len(old.words))[:OLD_WORDS]
    old.words = old.words.take(drawn)
    result: dict[str, Any] = {"facts": len(qa.facts), "cells": len(qa.cells)}
    result["numbers in memory"] = qa.memory.snapshot().numel()
    result["before"] = old.accuracies(lambda asked: qa.evaluate(asked).answer_accuracy)
    files = [work / "valid-new.tsv", work / "train-new.tsv"]
    given = FactTable.read(work / "new.tsv", data / "names.tsv")
    names = {given.entity_id(number): given.own_names(number) for number in range(given.num_entities)}
    models: dict[int, tuple[FactoidQA, Asked]] = {}
    for count in counts:
        model = FactoidQA.from_pretrained(work / "model")
        began = time.process_time()
        # in the same steps each time, so that all models number the same entities and facts alike
        for first, end in zip((0, *counts), counts, strict=False):
            if end <= count:
                model.add_facts(rows["new"][first:end], names)
        seconds = time.process_time() - began
        new = Asked(model, rows["new"][:count], files)
        models[count] = model, new
        if kind is not None:
            continue
        right = _right(model)
        result[f"writing {count}"] = _row(seconds, count, new.accuracies(right), old.accuracies(right))
        result[f"memory network, tuned {count}"] = _tuned(model, new, old, work)
        print(count, result[f"writing {count}"], result[f"memory network, tuned {count}"], flush=True)
    return result if kind is None else _parametric(kind, qa, base, old, models, counts, most_epochs)


def _right(qa: FactoidQA) -> Callable[[QuestionSet], float]:
    return lambda asked: qa.evaluate(asked).answer_accuracy


def _row(seconds: float, count: int, new: dict[str, float], old: dict[str, float]) -> dict[str, Any]:
    return {"new": new, "old": old, "seconds per fact": seconds / count}


def _tuned(written: FactoidQA, new: Asked, old: Asked, work: Path) -> dict[str, Any]:
    """Train a model that has the new facts further, on their words."""
    written.save_pretrained(work / "written")
    qa = FactoidQA.from_pretrained(work / "written")
    asked = _again(qa, new.words, written)
    config = make_configs(
        {"epochs": TUNED_EPOCHS, "learning_rate": NETWORK_RATE, "table_learning_rate": 1e-4}
    )[2]
    run = Run(None, settings=settings_of(config), data="", checkpoint_seconds=1e9, quiet=True)
    began = time.process_time()
    with seeded(config):
        fit(qa, asked, None, config, run)
    seconds = time.process_time() - began
    right = _right(qa)
    after = {
        "new": Asked.accuracies(_moved(new, qa, written), right),
        "old": Asked.accuracies(_moved(old, qa, written), right),
    }
    return _row(seconds, len(new.words), after["new"], after["old"])


def _again(qa: FactoidQA, asked: QuestionSet, other: FactoidQA) -> QuestionSet:
    """Questions about the facts of one model as questions about those of another."""
    rows = [
        (*other.facts.fact(int(cell))[:3], text) for cell, text in zip(asked.cell, asked.text, strict=True)
    ]
    return QuestionSet.from_rows(qa.facts, rows)


def _moved(asked: Asked, qa: FactoidQA, other: FactoidQA) -> Asked:
    moved = object.__new__(Asked)
    moved.words, moved.natural = (_again(qa, part, other) for part in (asked.words, asked.natural))
    return moved


def _parametric(
    kind: str,
    qa: FactoidQA,
    base: Asked,
    old: Asked,
    models: dict[int, tuple[FactoidQA, Asked]],
    counts: tuple[int, ...],
    most_epochs: int,
) -> dict[str, Any]:
    """A network of weights: taught the old facts, then new ones alone, or new ones among old ones."""
    largest, _ = models[max(counts)]
    features, entities = qa.memory.snapshot().shape[1], largest.facts.num_entities
    network = Parametric(kind, features, qa.memory.snapshot().numel(), entities)
    query = torch.cat([qa.encode(base.words.text), qa.encode(base.natural.text)])
    answer = torch.cat([_objects(qa, base.words), _objects(qa, base.natural)])
    taught = network.teach(query, answer, rate=BASE_RATE, most_epochs=most_epochs)
    objects = torch.unique(torch.from_numpy(largest.facts.object.astype(np.int64)))
    encoded = {
        number: {name: qa.encode(part.text) for name, part in vars(asked).items()}
        for number, asked in [(0, old), *((count, models[count][1]) for count in counts)]
    }

    def accuracies(number: int, asked: Asked) -> dict[str, float]:
        return {
            "words" if name == "words" else "questions": network.accuracy(
                encoded[number][name], [part.answers(row) for row in range(len(part))], objects
            )
            for name, part in vars(asked).items()
        }

    result: dict[str, Any] = {
        f"{kind}, before": {"weights": network.size, **vars(taught), "old": accuracies(0, old)}
    }
    print(kind, result, flush=True)
    state = {name: value.clone() for name, value in network.network.state_dict().items()}
    rate = None
    for count in sorted(counts):
        asked = models[count][1]
        new_query, new_answer = encoded[count]["words"], _objects(largest, asked.words)
        tried = {}
        for one in RATES if rate is None else [rate]:
            network.network.load_state_dict(state)
            spent = network.teach(new_query, new_answer, rate=one, most_epochs=most_epochs, further=True)
            row = _row(spent.seconds, count, accuracies(count, asked), accuracies(0, old))
            tried[one] = {**row, "rate": one, "epochs": spent.epochs}
        # the rate that forgets least of those that teach most of the new facts, or else that teaches most
        rate = max(tried, key=lambda one: (min(tried[one]["new"]["words"], MOST), tried[one]["old"]["words"]))
        result[f"{kind}, new alone {count}"] = tried[rate]
        network.network.load_state_dict(state)
        mixed = torch.from_numpy(np.random.default_rng(count).permutation(len(query))[: len(new_query)])
        spent = network.teach(
            torch.cat([new_query, query[mixed]]),
            torch.cat([new_answer, answer[mixed]]),
            rate=rate,
            most_epochs=most_epochs,
            further=True,
        )
        row = _row(spent.seconds, count, accuracies(count, asked), accuracies(0, old))
        result[f"{kind}, new among as many old {count}"] = {**row, "rate": rate, "epochs": spent.epochs}
        print(kind, count, result[f"{kind}, new alone {count}"], flush=True)
    return result


def _objects(qa: FactoidQA, asked: QuestionSet) -> Tensor:
    """Objects ``(Q,)`` of the facts that questions ask for."""
    return torch.from_numpy(qa.facts.object[asked.cell].astype(np.int64))
