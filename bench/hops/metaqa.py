"""MetaQA: one model of up to three hops, trained on answers alone from the files as they are."""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.hops.ceiling import Walker, ceiling, reachable, relations_asked
from bench.qa import run
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.hops.answers import Reading
from hmn.qa.hops.network import HopNetwork, reading

HOPS = (1, 2, 3)
CLUSTERS = 1_737
"""Number of clusters: one per 64 cells."""
INDEXES = {"exact": None, "cluster": f"cluster:num_clusters={CLUSTERS}", "hierarchy": "hierarchy"}
"""Texts of the indexes; exact is the model's own."""
EPOCHS = 3
ASKED = 200
"""Questions that are timed one by one."""
EXAMPLES = 3
"""Examples of each kind of error."""


def files(data: Path, split: str) -> str:
    """The files of a split, as ``hmn train --questions`` takes them."""
    return ",".join(str(data / f"{hops}hop-{split}.txt") for hops in HOPS)


def train(data: Path, out: Path, seed: int) -> dict[str, Any]:
    """Train through the command line; the last epoch is kept, so the held-out questions choose nothing."""
    flags = ["train", "--facts", str(data / "kb.txt"), "--questions", files(data, "train"), "--hops", "3"]
    flags += ["--epochs", str(EPOCHS), "--seed", str(seed), "--out", str(out), "--overwrite"]
    began = _processor_seconds()
    peak = run([sys.executable, "-m", "hmn.cli", *flags])
    shown = " ".join(["hmn", *flags[:-1]]).replace(str(data), "$DATA").replace(str(out), "$OUT")
    return {
        "command": shown,
        "processor_seconds": round(_processor_seconds() - began, 1),
        "training_peak_rss_gib": round(peak, 2),
    }


def _processor_seconds() -> float:
    """Processor time of all commands that were run, in seconds."""
    spent = os.times()
    return spent.children_user + spent.children_system


def without_topics(data: Path, work: Path, seed: int, most: int | None = None) -> dict[str, Any]:
    """Train on the same questions without their brackets, so that answers are all that is known."""
    bare = work / "without-topics"
    bare.mkdir(exist_ok=True)
    (bare / "kb.txt").write_bytes((data / "kb.txt").read_bytes())
    for hops in HOPS:
        asked = (data / f"{hops}hop-train.txt").read_text(encoding="utf-8")
        (bare / f"{hops}hop-train.txt").write_text(asked.replace("[", "").replace("]", ""), encoding="utf-8")
    training = train(bare, work / "metaqa-without-topics", seed)
    qa = FactoidQA.from_pretrained(work / "metaqa-without-topics")
    found = [qa.evaluate(held_out(data, qa.facts, hops, most), topics=False) for hops in HOPS]
    return {**training, "hits_at_1": [figures.answer_accuracy for figures in found]}


def measure(data: Path, model: Path, most: int | None = None) -> dict[str, Any]:
    """Figures on the held-out questions, by number of hops, with and without their topics, by index."""
    rows: dict[str, Any] = {}
    for index, text in INDEXES.items():
        qa = FactoidQA.from_pretrained(model, index=text)
        for hops in HOPS:
            valid = held_out(data, qa.facts, hops, most)
            for topics in (True, False):
                found = qa.evaluate(valid, topics=topics)
                rows[f"{index}, {hops} hops, topics {'given' if topics else 'found'}"] = {
                    "hits_at_1": found.answer_accuracy,
                    "mrr": found.mrr,
                    "reads": found.reads,
                    "hop_reads": found.hop_reads,
                    "questions_a_second": found.queries_per_second,
                }
    return rows


def held_out(data: Path, facts: FactTable, hops: int, most: int | None) -> QuestionSet:
    """The held-out questions of one number of hops, perhaps the first ones alone."""
    valid = QuestionSet.read(data / f"{hops}hop-valid.txt", facts)
    return valid if most is None else valid.take(np.arange(min(most, len(valid))))


def ceilings(data: Path, facts: FactTable, most: int | None = None) -> dict[int, dict[str, float]]:
    """Hits@1 of a reader that is given topic and relations, and questions that any walk answers, by hops."""
    walker = Walker(facts)
    found = {}
    for hops in HOPS:
        asked = relations_asked(walker, QuestionSet.read(data / f"{hops}hop-train.txt", facts), hops)
        valid = held_out(data, facts, hops, most)
        given = float(np.mean(ceiling(walker, asked, valid)))
        found[hops] = {"relations given": given, "reachable": reachable(walker, valid, hops)}
    return found


@torch.no_grad()
def errors(data: Path, model: Path, most: int | None = None) -> dict[int, Any]:
    """Points of Hits@1 that are lost to each kind of error where topics are found, with examples."""
    qa = FactoidQA.from_pretrained(model)
    assert isinstance(qa.network, HopNetwork)
    walker = Walker(qa.facts)
    lost: dict[int, Any] = {}
    for hops in HOPS:
        valid = held_out(data, qa.facts, hops, most)
        asked = relations_asked(walker, QuestionSet.read(data / f"{hops}hop-train.txt", qa.facts), hops)
        possible = ceiling(walker, asked, valid)
        read = reading(qa.network, valid, qa.config, topics=False, search=False)
        kinds: dict[str, float] = defaultdict(float)
        examples: dict[str, list[str]] = {}
        for first in range(0, len(valid), 128):
            numbers = np.arange(first, min(first + 128, len(valid)))
            for number, readings in zip(
                numbers.tolist(), qa.network.output_module.readings(read(numbers)), strict=True
            ):
                share = _right(readings, valid, number)
                if share < 1:
                    kind = _kind(qa.facts, valid, number, readings, hops, possible[number])
                    kinds[kind] += 1 - share
                    examples.setdefault(kind, []).append(_shown(qa.facts, valid, number, readings))
        lost[hops] = {
            kind: {"points": round(100 * count / len(valid), 2), "examples": examples[kind][:EXAMPLES]}
            for kind, count in sorted(kinds.items(), key=lambda item: -item[1])
        }
    return lost


def _right(readings: list[Reading], valid: QuestionSet, number: int) -> float:
    """Share of right ones among the entities that tie for the best."""
    if not readings:
        return 0.0
    best = readings[0]
    tied = best.entity[best.weight >= best.weight[0] * (1 - 1e-6)]
    return float(np.isin(tied, valid.answers(number)).mean())


def _kind(
    facts: FactTable, valid: QuestionSet, number: int, readings: list[Reading], hops: int, possible: float
) -> str:
    if valid.topic[number] < 0:
        return "the topic is in no fact"
    if not len(valid.answers(number)):
        return "the answers are in no fact"
    if possible == 0:
        return "the relations that the phrasing asks for lead to no right answer"
    if not readings:
        return "nothing was found"
    best = readings[0].facts
    if facts.subject[best[0, 0]] != valid.topic[number]:
        return "another topic"
    if best.shape[1] != hops:
        return "another number of hops"
    if _right(readings, valid, number) > 0 or possible < 1:
        return "right and wrong entities tie"
    return "other relations"


def _shown(facts: FactTable, valid: QuestionSet, number: int, readings: list[Reading]) -> str:
    """A question, the chain that it was answered with, and a right answer."""
    right = [facts.names_of(int(entity))[0] for entity in valid.answers(number)[:3]]
    if not readings:
        return f"{valid.text[number]}: nothing; right: {', '.join(right)}"
    chain = [facts.fact(int(fact)) for fact in readings[0].facts[0]]
    steps = " → ".join(f"{fact.subject_name} · {fact.relation_name}" for fact in chain)
    return (
        f"{valid.text[number]}: {chain[-1].object_name} ({steps}); right: {', '.join(right) or 'in no fact'}"
    )


def ask(model: Path, data: Path) -> dict[str, float]:
    """Milliseconds per question, asked one by one, for each index."""
    found = {}
    for index, text in INDEXES.items():
        qa = FactoidQA.from_pretrained(model, index=text)
        texts = [text for hops in HOPS for text in held_out(data, qa.facts, hops, ASKED // 3).text]
        times = []
        for text in texts:
            began = time.perf_counter()
            qa.ask(text)
            times.append(time.perf_counter() - began)
        found[index] = round(1e3 * float(np.median(times)), 1)
    return found
