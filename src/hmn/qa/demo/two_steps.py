"""Questions that take two of the built-in facts, such as the currency used where a city lies.

The phrasings are data, in ``two_steps.toml`` next to this file.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from hmn.facts.ids import INVERSE, inverse_of
from hmn.qa.demo.facts import Triple
from hmn.qa.demo.phrases import PHRASINGS, Phrasings, ask
from hmn.qa.demo.walks import Form, HopQuestion, Steps, Walks
from hmn.qa.demo.world import World, deal_subjects, write_tables

SAMPLE_QUESTIONS = (
    "what is the population of the capital of japan",
    "which currency is used where nairobi lies",
    "What are the capitals of the countries that border Mongolia?",
)
"""Questions for a demonstration, about topics of the world's own ones, which training never sees."""
COMPOSED_SHARE = 0.5
"""Share of the training questions that are put together from parts, where there are any."""


@dataclass(frozen=True)
class TwoStepPhrasings(Phrasings):
    """Three disjoint groups of phrasings of two steps. Validation does not use those of training either."""

    valid: tuple[str, ...]
    """Phrasings of validation."""


@dataclass(frozen=True)
class TwoStepQuestions:
    """Questions that take two facts; no text occurs twice.

    Validation and test ask about topics that are asked about nowhere else, also not in the world's own
    questions of the same seed.
    """

    train: list[HopQuestion]
    first_steps: list[HopQuestion]
    """Training questions that ask for the first of two steps alone, in the words that say it in others."""
    valid: list[HopQuestion]
    """Questions about other topics, in phrasings of their own: they show how far training generalises."""
    entities: list[HopQuestion]
    """Test questions in the phrasings of training, about yet other topics."""
    phrasings: list[HopQuestion]
    """Test questions about these topics, in phrasings that occur nowhere else."""


def two_step_questions(
    world: World,
    seed: int = 0,
    *,
    train: int = 4000,
    first_steps: int = 500,
    valid: int = 400,
    test: int = 500,
) -> TwoStepQuestions:
    """Write questions that take two facts.

    Args:
        world: The facts and names, built with the same seed.
        seed: Seed of all choices. The same seed gives the same questions in every process.
        train, first_steps, valid: Number of questions.
        test: Number of test questions in the phrasings of training, and of those in others.

    Raises:
        ConfigError: The facts do not suffice for these numbers of questions.
    """
    dealt = deal_subjects({subject for subject, _, _ in world.triples}, random.Random(seed))
    rng = random.Random(f"two steps {seed}")
    walks, asked = Walks(world.triples, world.names), set[str]()
    leads_to = walks.leads_to()
    composed = {(kind, steps): composed_phrasings(kind, steps, leads_to) for kind, steps, _ in TWO_STEPS}
    varied = [_form(kind, steps, said.train, rng, composed[kind, steps]) for kind, steps, said in TWO_STEPS]
    known = [_form(kind, steps, said.train, rng) for kind, steps, said in TWO_STEPS]
    checked = [_form(kind, steps, said.valid, rng) for kind, steps, said in TWO_STEPS]
    held_out = [_form(kind, steps, said.held_out, rng) for kind, steps, said in TWO_STEPS]
    alone = [_first_step(place, phrases, rng) for place, phrases in FIRST_STEPS.items()]
    return TwoStepQuestions(
        train=walks.write(varied, dealt["train"], train, asked, rng),
        first_steps=walks.write(alone, dealt["train"], first_steps, asked, rng),
        valid=walks.write(checked, dealt["valid"], valid, asked, rng),
        entities=walks.write(known, dealt["test"], test, asked, rng),
        phrasings=walks.write(held_out, dealt["test"], test, asked, rng),
    )


def composed_phrasings(kind: str, steps: Steps, leads_to: Mapping[tuple[str, str], set[str]]) -> list[str]:
    """Phrasings of two steps that are put together from parts.

    A phrase for the first step replaces the name in a question for the second.

    Args:
        kind: Kind of the topic.
        steps: The two steps.
        leads_to: Kinds that each step leads to, as ``Walks.leads_to`` has them.
    """
    first, second = steps
    relations = [f"{reached}/{second}" for reached in sorted(leads_to[kind, first])]
    asking = [text for relation in relations if relation in PHRASINGS for text in PHRASINGS[relation].train]
    within = [text.replace("{}", part) for text in asking for part in FIRST_STEPS[f"{kind}/{first}"]]
    return [text.replace("the the ", "the ") for text in within]


def write_two_steps(questions: TwoStepQuestions, folder: Path) -> None:
    """Write ``two-steps-train.tsv``, ``-first-steps``, ``-valid``, ``-test`` and ``-phrasings``.

    They hold questions and their answers. The topics are in brackets. The answers are ids with ``|`` between
    them. The test about other topics is ``-test``, that in other phrasings ``-phrasings``.

    Args:
        questions: The questions.
        folder: Folder to write to. It is created if it does not exist.

    Raises:
        DataError: ``folder`` is not a folder, or cannot be written to.
    """
    parts = {
        "train": questions.train,
        "first-steps": questions.first_steps,
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


def _form(
    kind: str, steps: Steps, phrasings: tuple[str, ...], rng: random.Random, composed: Sequence[str] = ()
) -> Form:
    def say(name: str) -> str:
        put_together = bool(composed) and rng.random() < COMPOSED_SHARE
        return ask(rng.choice(composed if put_together else phrasings), name, rng)

    return Form(kind, steps, say)


def _first_step(place: str, phrases: Sequence[str], rng: random.Random) -> Form:
    """A way to ask for a first step alone, such as ``city/country``."""
    kind, _, step = place.partition("/")

    def say(name: str) -> str:
        return ask(rng.choice(OPENINGS).replace("{}", rng.choice(phrases)), name, rng)

    return Form(kind, (step,), say)


def _two_steps(entries: list[dict[str, Any]]) -> list[tuple[str, Steps, TwoStepPhrasings]]:
    groups = ("train", "held_out", "valid")
    return [
        (
            entry["topic"],
            tuple(entry["steps"]),
            TwoStepPhrasings(**{group: tuple(entry[group]) for group in groups}),
        )
        for entry in entries
    ]


_DATA: dict[str, Any] = tomllib.loads((files("hmn.qa.demo") / "two_steps.toml").read_text(encoding="utf-8"))
"""Contents of ``two_steps.toml``."""
OPENINGS: list[str] = _DATA["openings"]
"""How questions for a first step alone begin and end; its phrase replaces ``{}``."""
FIRST_STEPS: dict[str, list[str]] = _DATA["first_steps"]
"""Phrases for a first step by the kind of its topic and the step, such as ``country/capital``."""
TWO_STEPS = _two_steps(_DATA["question"])
"""Kind of the topic, the two steps, and how people ask."""
