"""Questions that take two of the built-in facts, such as the currency used where a city lies.

The phrasings are data, in ``two_steps.toml`` next to this file.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from hmn.facts.ids import INVERSE, inverse_of
from hmn.qa.demo.facts import Triple
from hmn.qa.demo.phrases import Phrasings, ask
from hmn.qa.demo.walks import Form, HopQuestion, Steps, Walks
from hmn.qa.demo.world import World, deal_subjects, write_tables

SAMPLE_QUESTIONS = (
    "what is the population of the capital of japan",
    "which currency is used where nairobi lies",
    "What are the capitals of the countries that border Mongolia?",
)
"""Questions for a demonstration, about topics of the world's own ones, which training never sees."""


@dataclass(frozen=True)
class TwoStepQuestions:
    """Questions that take two facts; no text occurs twice.

    Validation and test ask about topics that are asked about nowhere else, also not in the world's own
    questions of the same seed.
    """

    train: list[HopQuestion]
    valid: list[HopQuestion]
    """Questions in the phrasings of training, about other topics."""
    entities: list[HopQuestion]
    """Test questions in the phrasings of training, about yet other topics."""
    phrasings: list[HopQuestion]
    """Test questions about these topics, in phrasings that occur nowhere else."""


def two_step_questions(
    world: World, seed: int = 0, *, train: int = 4000, valid: int = 400, test: int = 500
) -> TwoStepQuestions:
    """Write questions that take two facts.

    Args:
        world: The facts and names, built with the same seed.
        seed: Seed of all choices. The same seed gives the same questions in every process.
        train, valid: Number of questions.
        test: Number of test questions in the phrasings of training, and of those in others.

    Raises:
        ConfigError: The facts do not suffice for these numbers of questions.
    """
    dealt = deal_subjects({subject for subject, _, _ in world.triples}, random.Random(seed))
    rng = random.Random(f"two steps {seed}")
    walks, asked = Walks(world.triples, world.names), set[str]()
    known = [_form(kind, steps, phrasings.train, rng) for kind, steps, phrasings in TWO_STEPS]
    held_out = [_form(kind, steps, phrasings.held_out, rng) for kind, steps, phrasings in TWO_STEPS]
    return TwoStepQuestions(
        train=walks.write(known, dealt["train"], train, asked, rng),
        valid=walks.write(known, dealt["valid"], valid, asked, rng),
        entities=walks.write(known, dealt["test"], test, asked, rng),
        phrasings=walks.write(held_out, dealt["test"], test, asked, rng),
    )


def write_two_steps(questions: TwoStepQuestions, folder: Path) -> None:
    """Write ``two-steps-train.tsv``, ``-valid``, ``-test`` and ``-phrasings``: questions and their answers.

    The topics are in brackets. The answers are ids with ``|`` between them. The test about other topics is
    ``-test``, that in other phrasings ``-phrasings``.

    Args:
        questions: The questions.
        folder: Folder to write to. It is created if it does not exist.

    Raises:
        DataError: ``folder`` is not a folder, or cannot be written to.
    """
    parts = {
        "train": questions.train,
        "valid": questions.valid,
        "test": questions.entities,
        "phrasings": questions.phrasings,
    }
    write_tables(
        {
            f"two-steps-{name}.tsv": [(question.text, "|".join(question.answers)) for question in part]
            for name, part in parts.items()
        },
        folder,
    )


def backward_facts(triples: Iterable[Triple]) -> list[Triple]:
    """Inverses of the facts that some question follows backwards, from the object to the subjects."""
    backwards = {step for _, steps, _ in TWO_STEPS for step in steps}
    inverse = ((value, inverse_of(relation), subject) for subject, relation, value in triples)
    return [fact for fact in inverse if INVERSE + fact[1].partition("/")[2] in backwards]


def _form(kind: str, steps: Steps, phrasings: tuple[str, ...], rng: random.Random) -> Form:
    return Form(kind, steps, lambda name: ask(rng.choice(phrasings), name, rng))


def _read() -> list[tuple[str, Steps, Phrasings]]:
    text = (files("hmn.qa.demo") / "two_steps.toml").read_text(encoding="utf-8")
    return [
        (entry["topic"], tuple(entry["steps"]), Phrasings(tuple(entry["train"]), tuple(entry["held_out"])))
        for entry in tomllib.loads(text)["question"]
    ]


TWO_STEPS = _read()
"""Kind of the topic, the two steps, and how people ask."""
