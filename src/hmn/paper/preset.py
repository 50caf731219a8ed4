"""Sizes of the experiments: as the paper has them, and a true miniature."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hmn.errors import ConfigError
from hmn.paper.cells.transe import TransEConfig


@dataclass(frozen=True)
class Preset:
    """Everything that the rows have in common."""

    name: str
    """As the command line has it."""
    facts: int | None = None
    """Facts of the memory, those that questions ask for first; None for all."""
    train: int | None = None
    """Training questions; None for all."""
    valid: int | None = None
    """Held-out questions, of each file; None for all."""
    transe: TransEConfig = field(default_factory=TransEConfig)
    """How the vectors of the fixed cells are trained."""
    epochs: int = 100
    """At most so many passes over the questions, natural and artificial; patience ends most runs sooner."""
    patience: int = 3
    """Stop after so many epochs without a better validation accuracy."""
    batch_size: int = 128
    """Questions a step."""
    learning_rate: float = 0.001
    """Of Adam."""
    word_scale: float = 0.01
    """Standard deviation of the words' first vectors; that of the cells' coordinates is 1. The paper does not
    say."""
    few_clusters: int = 1000
    many_clusters: int = 2000
    wide_clusters: int = 45
    """Clusters of the upper level of the hierarchy of two."""
    prefix: int = 16
    """Features of an order that WTA-Hash looks at: its 16 tables then hold one cell in 16 for a query."""
    speed_up: int = 90
    """Every approximate search reads the memory's cells divided by this. With 100 no number of probes of
    2,000 clusters is within a tenth of 81,004 / 100 reads (one is 721, two are 901)."""
    strategies_speed_up: int = 36
    """The same for the grid of strategies, which score all centroids in full: 2,000 reads before any cell."""
    tuned_on: int = 256
    """Training questions whose queries a search is tuned on, before every epoch."""
    sentences_asked: int | None = None
    """Natural questions on which a sentence encoder is trained, once each; None for all."""
    sentences_renewed: int = 200
    """Steps between two encodings of all cells, for the search of its K-MIPS attention."""
    recall_on: int = 1000
    """Held-out questions on which a search's recall is measured."""

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Preset:
        """Take back what ``dataclasses.asdict`` gave."""
        return cls(**{**settings, "transe": TransEConfig(**settings["transe"])})


PRESETS = {
    "full": Preset("full"),
    "quick": Preset(
        "quick",
        facts=2000,
        train=1200,
        valid=300,
        transe=TransEConfig(features=24, epochs=20, batch_size=200, learning_rate=0.02),
        epochs=10,
        patience=3,
        learning_rate=0.004,
        word_scale=0.02,
        few_clusters=40,
        many_clusters=80,
        wide_clusters=9,
        prefix=8,
        speed_up=8,
        strategies_speed_up=8,
        tuned_on=128,
        sentences_asked=128,
        recall_on=200,
    ),
}


def preset_of(name: str) -> Preset:
    """The preset of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset is {name!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
