"""Chains from the demo's world: up to three steps in training, four at test, on topics that are held out."""

from __future__ import annotations

import time
from typing import Any

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.demo.chains import chain_questions
from hmn.qa.demo.walks import question_set
from hmn.qa.demo.world import build_world
from hmn.qa.factoid_qa import FactoidQA

EPOCHS = 8
TRAIN = 1000
"""Training questions per number of steps."""


def measure(seed: int, stop_by: str, *, epochs: int = EPOCHS, train: int = TRAIN) -> dict[str, Any]:
    """Train on chains of one to three steps; ask chains of one to four, with and without their topics.

    Args:
        seed: Seed of the world, the questions and the training.
        stop_by: What decides whether a hop is the last: ``words`` or ``reading``.
        epochs: Number of passes over the questions.
        train: Training questions per number of steps.
    """
    world = build_world(seed)
    facts = FactTable.from_triples(world.triples, world.names, inverse=True)
    chains = chain_questions(world, seed, train=train)
    questions = QuestionSet.joined([question_set(facts, asked) for asked in chains.train.values()])
    began = time.process_time()
    qa = FactoidQA(facts, hops=3, stop_by=stop_by).fit(questions, epochs=epochs, seed=seed)
    rows: dict[str, Any] = {"facts": len(facts), "processor_seconds": round(time.process_time() - began, 1)}
    for hops, asked in chains.test.items():
        qa.use_hops(max(3, hops))
        test = question_set(facts, asked)
        for topics in (True, False):
            found = qa.evaluate(test, topics=topics)
            rows[f"{hops} steps, topics {'given' if topics else 'found'}"] = {
                "hits_at_1": found.answer_accuracy,
                "mrr": found.mrr,
                "hop_reads": found.hop_reads,
            }
    return rows
