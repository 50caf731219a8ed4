"""The demonstration on a part of the world: what it trains, writes and prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.qa.small import SIZES

from hmn.cli.output import print_answers
from hmn.qa.demo import run
from hmn.qa.demo.two_steps import SAMPLE_QUESTIONS as TWO_STEP_SAMPLES
from hmn.qa.demo.two_steps import TwoStepQuestions, two_step_questions
from hmn.qa.demo.world import SAMPLE_QUESTIONS, World
from hmn.qa.factoid_qa import FactoidQA

PART = 100
"""Every such subject is kept, and those of the questions."""


@pytest.fixture
def small_world(world: World) -> World:
    kept = {subject for subject, *_ in world.triples[::PART]}
    kept |= {entity for entity in world.names if entity.startswith(("country/", "currency/", "language/"))}
    asked = [part[:40] for part in (world.train, world.valid, world.test)]
    kept |= {subject for part in asked for subject, *_ in part}
    triples = [row for row in world.triples if row[0] in kept]
    names = {entity: world.names[entity] for row in triples for entity in (row[0], row[2])}
    return World(triples, names, *asked)


def few_questions(world: World, seed: int, *, train: int) -> TwoStepQuestions:
    assert train == run.TWO_STEP_QUESTIONS
    return two_step_questions(world, seed, train=40, first_steps=10, valid=10, test=30)


@pytest.mark.parametrize("two_steps", [False, True])
def test_demonstration(
    small_world: World,
    two_steps: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "build_world", lambda _: small_world)
    monkeypatch.setattr(run, "two_step_questions", few_questions)
    monkeypatch.setattr(run, "SETTINGS", SIZES)
    monkeypatch.setattr(run, "TRAINING", {"epochs": 2, "batch_size": 16, "learning_rate": 0.02})
    run.run_demo(tmp_path, 0, print_answers, two_steps=two_steps)
    printed = capsys.readouterr().out
    shown = [float(figure) / 100 for figure in re.findall(r"(\d+\.\d)%(?=[,;\n])", printed)]

    qa = FactoidQA.from_pretrained(tmp_path / "model")
    assert f"40 held-out questions over {len(qa.facts):,} facts:" in printed
    one = qa.evaluate(tmp_path / "test.tsv")
    measured = [one.fact_accuracy, one.pair_accuracy, one.answer_accuracy]
    if two_steps:
        assert "60 held-out questions that take two facts:" in printed
        files = [tmp_path / f"two-steps-{name}.tsv" for name in ("test", "phrasings")]
        measured += [qa.evaluate(file, topics=False).answer_accuracy for file in files]
    assert shown == pytest.approx(measured, abs=5e-4)
    for question in (*SAMPLE_QUESTIONS, *(TWO_STEP_SAMPLES if two_steps else ())):
        # a model this small may say of any question that its answer is not in the table
        assert re.search(
            rf"^{re.escape(question)}\n(> |not in the table|perhaps in the table)", printed, re.MULTILINE
        )
