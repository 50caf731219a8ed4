"""Questions that take two of the built-in facts, such as the currency used where a city lies.

The phrasings are data, in ``two_steps.toml`` next to this file.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from importlib.resources import files

from hmn.qa.demo.phrases import Phrasings, ask
from hmn.qa.demo.walks import Form, HopQuestion, Steps, Walks
from hmn.qa.demo.world import World, deal_subjects

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
