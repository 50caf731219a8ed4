"""Sizes of the experiments: the paper's own, and a miniature."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hmn.errors import ConfigError, expected_one_of
from hmn.paper.cells.transe import TransEConfig


@dataclass(frozen=True)
class Preset:
    """Settings that all rows have in common."""

    name: str
    """Name on the command line."""
    facts: int | None = None
    """Facts of the memory, beginning with those that questions ask for; None for all."""
    train: int | None = None
    """Training questions; None for all."""
    valid: int | None = None
    """Held-out questions from each file; None for all."""
    transe: TransEConfig = field(default_factory=TransEConfig)
    """Training of the vectors of the fixed cells."""
    epochs: int = 100
    """Upper limit of passes over the questions, natural and artificial; patience ends most runs sooner."""
    patience: int = 3
    """Epochs without a better validation accuracy after which training stops."""
    batch_size: int = 128
    """Questions per step."""
    learning_rate: float = 0.001
    """Learning rate of Adam."""
    word_scale: float = 0.01
    """Standard deviation of the initial word vectors, where that of the cells' coordinates is 1. The paper
    gives none."""
    few_clusters: int = 1000
    """Clusters of the rows with few clusters."""
    many_clusters: int = 2000
    """Clusters of all other rows with one level."""
    wide_clusters: int = 45
    """Clusters of the upper of two levels."""
    prefix: int = 16
    """Features per permutation that WTA-Hash compares. With 16, its tables hold one cell in 16 per query."""
    speed_up: int = 90
    """Cells of the memory divided by the reads of an approximate search. At 100, no number of probes into
    2,000 clusters comes within a tenth of 81,004 / 100 reads: one probe is 721, two are 901."""
    strategies_speed_up: int = 36
    """The same for the grid of strategies, whose 2,000 centroids alone are 2,000 reads."""
    tuned_on: int = 256
    """Training questions that a search is tuned on before every epoch."""
    sentences_asked: int | None = None
    """Natural questions that a sentence encoder is trained on, once each; None for all."""
    sentences_renewed: int = 200
    """Steps between two encodings of all cells for the search of the encoder's K-MIPS attention."""
    recall_on: int = 1000
    """Held-out questions that the recall of a search is measured on."""

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Preset:
        """Rebuild a preset from ``dataclasses.asdict``."""
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
"""Presets by name."""


def preset_of(name: str) -> Preset:
    """The preset of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset is {name!r}, {expected_one_of(name, PRESETS)}")
    return PRESETS[name]
