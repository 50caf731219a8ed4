"""Questions that take a chain of facts, such as the currency of a neighbour of the country of a city.

They are made like those of PathQuestion (Zhou, Huang and Zhu, 2018): one phrase per step, within the next.
The phrases are data, in ``chains.toml`` next to this file.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from hmn.facts.ids import inverse_of
from hmn.qa.demo.phrases import ask
from hmn.qa.demo.walks import Form, HopQuestion, Steps, Walks
from hmn.qa.demo.world import World, deal_subjects

TOPICS = ("airport", "city", "country", "county", "currency", "language", "subdivision")
"""Kinds of entities that questions are about."""


@dataclass(frozen=True)
class Chains:
    """Questions by their number of steps; no text occurs twice, and no topic is in two of the three sets."""

    train: dict[int, list[HopQuestion]]
    valid: dict[int, list[HopQuestion]]
    test: dict[int, list[HopQuestion]]
    """These have up to one step more than those of training."""


def chain_questions(
    world: World, seed: int = 0, *, hops: int = 3, train: int = 3000, valid: int = 200, test: int = 400
) -> Chains:
    """Write questions that take chains of facts.

    Args:
        world: The facts and names, built with the same seed.
        seed: Seed of all choices. The same seed gives the same questions in every process.
        hops: Largest number of steps in training. In the test it is one more.
        train, valid, test: Number of questions per number of steps.

    Raises:
        ConfigError: The facts do not suffice for these numbers of questions.
    """
    dealt = deal_subjects({subject for subject, _, _ in world.triples}, random.Random(seed))
    rng = random.Random(f"chains {seed}")
    walks, asked = Walks(world.triples, world.names), set[str]()
    forms = {
        hop: [_form(kind, steps, rng) for kind, steps in found]
        for hop, found in step_chains(walks, hops + 1).items()
    }

    def written(part: str, count: int, most: int) -> dict[int, list[HopQuestion]]:
        return {hop: walks.write(forms[hop], dealt[part], count, asked, rng) for hop in range(1, most + 1)}

    return Chains(
        written("train", train, hops), written("valid", valid, hops), written("test", test, hops + 1)
    )


def step_chains(walks: Walks, most: int) -> dict[int, list[tuple[str, Steps]]]:
    """Kinds of topics and steps that lead somewhere, by the number of steps from 1 to ``most``."""
    leads_to, single = walks.leads_to(), walks.single()
    chains: dict[int, list[tuple[str, Steps]]] = {hops: [] for hops in range(1, most + 1)}

    def extend(kind: str, topic: str, steps: Steps) -> None:
        if steps:
            chains[len(steps)].append((topic, steps))
        for step in STEPS if len(steps) < most else ():
            # there and back again leads nowhere, unless the way back has branches
            turns_back = bool(steps) and steps[-1] == inverse_of(step) and step in single
            if not turns_back and [*steps[-1:], step] not in SAME_PLACE:
                for reached in sorted(leads_to.get((kind, step), ())):
                    extend(reached, topic, (*steps, step))

    for kind in TOPICS:
        extend(kind, kind, ())
    return {hops: list(dict.fromkeys(found)) for hops, found in chains.items()}


def _form(kind: str, steps: Steps, rng: random.Random) -> Form:
    return Form(kind, steps, lambda name: _said(kind, steps, name, rng))


def _said(kind: str, steps: Steps, name: str, rng: random.Random) -> str:
    """A question for the end of a walk, in phrases drawn at random."""
    phrase = "{}"
    for step in reversed(steps):
        phrase = phrase.replace("{}", rng.choice(STEPS[step]))
    phrase = phrase.replace("{}", NAMES.get(kind, "{}"))
    return ask(rng.choice(OPENINGS).replace("{}", phrase), name, rng)


_DATA: dict[str, Any] = tomllib.loads((files("hmn.qa.demo") / "chains.toml").read_text(encoding="utf-8"))
"""Contents of ``chains.toml``."""
OPENINGS: list[str] = _DATA["openings"]
"""How a question begins and ends; the phrase for its chain replaces ``{}``."""
SAME_PLACE: list[list[str]] = _DATA["same_place"]
"""Pairs of steps that lead back to where they left from."""
STEPS: dict[str, list[str]] = _DATA["steps"]
"""Phrases for each step; what is inside of it replaces ``{}``."""
NAMES: dict[str, str] = _DATA["names"]
"""How names of some kinds are said; the name replaces ``{}``."""
