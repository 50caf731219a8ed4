"""A model trained through the hierarchy, without any exact search during training."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.hierarchy.curve import look_alike, recall_at
from bench.machine import RESULTS
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.qa.factoid_qa import FactoidQA

EVERY = 127
"""Steps between two measurements of the index."""
ASKED = 1000
"""Held-out questions per measurement."""
READS = (500, 1000, 2000)
"""Reads at which the recalls are compared."""


def train(data: Path, work: Path, log: Callable[[str], None]) -> dict[str, Any]:
    """Train a model and compare its index, every ``EVERY`` steps, with one rebuilt on the same keys."""
    facts = FactTable.read(data / "facts.tsv", data / "names.tsv")
    valid = QuestionSet.read(data / "valid.tsv", facts)
    qa = FactoidQA(facts, index="hierarchy")
    work.mkdir(parents=True, exist_ok=True)
    out, seen = work / "trained", work / "looks.jsonl"
    questions = list(valid.text[:ASKED])

    def look(step: int, _total: int) -> None:
        if step % EVERY:
            return
        log(f"the index after step {step}")
        training, random = qa.network.training, torch.get_rng_state()
        live = qa.network.reader.index
        assert isinstance(live, HierarchicalIndex)
        recalls = compared(live, qa.memory.snapshot(), qa.encode(questions))
        qa.network.train(training)
        torch.set_rng_state(random)
        with seen.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **recalls}) + "\n")

    qa.fit(data / "train.tsv", valid, out=out, resume=True, on_progress=look)
    if not qa.history:
        qa = FactoidQA.from_pretrained(out)
    evaluation = qa.evaluate(valid)
    looks = {row["step"]: row for row in map(json.loads, seen.read_text(encoding="utf-8").splitlines())}
    metrics = (out.with_name("trained.run") / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [record for record in map(json.loads, metrics) if "upkeep_seconds" in record]
    with (RESULTS / "qa.json").open(encoding="utf-8") as file:
        exact = json.load(file)["rows"]["kmips"]["evaluation"]
    return {
        "exact": {name: exact[name] for name in ("pair_accuracy", "fact_accuracy")},
        "pair_accuracy": evaluation.pair_accuracy,
        "fact_accuracy": evaluation.fact_accuracy,
        "reads": evaluation.reads,
        "looks": [looks[step] for step in sorted(looks)],
        "upkeep_ms": 1000 * statistics.median(record["upkeep_seconds"] for record in records),
        "asked": ASKED,
        "steps": records[-1]["step"],
    }


def compared(live: HierarchicalIndex, keys: Tensor, query: Tensor) -> dict[str, Any]:
    """Recall@10 at each number of ``READS``, of an index and of one rebuilt with the same widths."""
    wanted = ExactIndex(keys).search(query, 10).cell
    fresh = HierarchicalIndex(live.num_groups, live.reach, seed=live.seed)
    fresh.build(keys.clone())
    look_alike(fresh, live)
    own = live.search(query, 10)
    return {
        "live": recall_at(live, query, wanted, READS),
        "fresh": recall_at(fresh, query, wanted, READS),
        "reads": float(own.reads.mean()),
        "groups": live.stats()["num_groups"],
        "largest_group": live.stats()["largest_group"],
    }
