"""How people ask for each relation of the built-in knowledge base.

The phrasings are data, in ``phrases.toml`` next to this file. In each, ``{}`` stands for the name. A phrasing
that ends in ``?`` may be asked without it; one that does not is a request or a bare search.

Held-out phrasings are never trained on. They ask for the same in another construction, mostly with a word
that training has shown for the relation, so that they can be understood without a dictionary.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Phrasings:
    """Two disjoint groups of phrasings of one relation."""

    train: tuple[str, ...]
    """Phrasings of training, of validation and of one half of the test."""
    held_out: tuple[str, ...]
    """Phrasings of the other half of the test."""


def ask(phrasing: str, name: str, rng: random.Random) -> str:
    """Put a name into a phrasing, as people type: often in lower case, often without a question mark."""
    question = phrasing.replace("{}", name)
    style = rng.random()
    if style < 0.6:
        question = question.lower()
    return question.removesuffix("?") if style < 0.4 or style > 0.9 else question


def _read() -> dict[str, Phrasings]:
    table = tomllib.loads((files("hmn.qa.demo") / "phrases.toml").read_text(encoding="utf-8"))
    return {
        relation: Phrasings(tuple(groups["train"]), tuple(groups["held_out"]))
        for relation, groups in table.items()
    }


PHRASINGS = _read()
"""Phrasings of every relation, by the relation's id in the facts, such as ``country/capital``."""
