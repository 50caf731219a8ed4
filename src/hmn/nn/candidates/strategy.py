"""Strategies: which cells join the candidates of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from hmn.errors import ConfigError, expected_one_of
from hmn.index.protocol import Clustered

PARTS = {
    "k-mips": "best_cells",
    "top-k": "top_clusters",
    "sample-k": "sample_clusters",
    "rand-block": "rand_block",
    "temperature": "temperature",
}
"""Field of ``Strategy``, by the name of its part in text."""


class Candidates(NamedTuple):
    """Cells that serve a whole batch.

    Attributes:
        cell: ``(C,)`` int64, ascending, distinct.
        probability: ``(C,)`` float32 in (0, 1], with which each was drawn; 1 for cells that are certain. For
            any function ``f`` of the cells, the sum of ``f / probability`` over the candidates has the sum of
            ``f`` over all cells that could be drawn as its expectation.
    """

    cell: Tensor
    probability: Tensor


@dataclass(frozen=True)
class Strategy:
    """Which cells join the candidates of a batch, besides the targets.

    Raises:
        ConfigError: no cells join, or a number is out of its range.
    """

    top_clusters: int = 0
    """Top-K: number of clusters per query, those of largest inner product, all of whose cells join."""
    sample_clusters: int = 0
    """Sample-K: number of further clusters per query, drawn without replacement, all of whose cells join."""
    rand_block: int = 0
    """Rand-block: number of cells per block; the cells 0 to N - 1 are cut into blocks, and one joins."""
    temperature: float = 1.0
    """Temperature of Sample-K: a cluster's probability is proportional to exp(query · centroid / it)."""
    best_cells: int = 0
    """K-MIPS: number of best cells per query, as the index finds them."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        for name, field in PARTS.items():
            value = getattr(self, field)
            if field == "temperature":
                if not (isinstance(value, int | float) and 0 < value < math.inf):
                    raise ConfigError(f"temperature is {value!r}, expected a finite number above 0")
            elif not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ConfigError(f"{field} ({name}) is {value!r}, expected a whole number, 0 for none")
        if not (self.best_cells or self.needs_clusters or self.rand_block):
            raise ConfigError("the strategy names no candidates, expected one such as top-k:8 or k-mips:32")

    @property
    def needs_clusters(self) -> bool:
        """Whether the index must be ``Clustered``."""
        return bool(self.top_clusters or self.sample_clusters)

    @property
    def draws(self) -> bool:
        """Whether chance decides which cells join."""
        return bool(self.sample_clusters or self.rand_block)

    @classmethod
    def parse(cls, text: str, k: int | None = None) -> Strategy:
        """Read a strategy from text such as ``top-k:8+sample-k:4+rand-block:256+temperature:0.5``.

        Args:
            text: parts ``k-mips``, ``top-k``, ``sample-k``, ``rand-block`` and ``temperature``, each once.
            k: number that ``k-mips`` without a number stands for.

        Raises:
            ConfigError: a part is unknown, given twice, or its number is missing or bad.
        """
        given: dict[str, float] = {}
        for part in text.split("+"):
            name, _, number = part.strip().partition(":")
            if name not in PARTS:
                raise ConfigError(f"strategy {text!r}: unknown part {name!r}, {expected_one_of(name, PARTS)}")
            if PARTS[name] in given:
                raise ConfigError(f"strategy {text!r}: {name} is given twice, expected each part once")
            if name == "k-mips" and not number and k is not None:
                number = str(k)
            try:
                given[PARTS[name]] = float(number) if name == "temperature" else int(number)
            except ValueError:
                example = f"{name}:{'0.5' if name == 'temperature' else '8'}"
                raise ConfigError(
                    f"strategy {text!r}: {name} has the number {number!r}, expected one as in {example}"
                ) from None
        return cls(**given)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """The text that ``parse`` reads back."""
        default = {field.name: field.default for field in fields(self)}
        parts = [
            f"{name}:{value}"
            for name, field in PARTS.items()
            if (value := getattr(self, field)) != default[field]
        ]
        return "+".join(parts)


@runtime_checkable
class DrawsTogether(Protocol):
    """What searches the cells of several ranks, and draws the candidates of all of their queries."""

    def draw_together(
        self, strategy: Strategy, query: Tensor, target: Tensor, generator: torch.Generator
    ) -> Candidates:
        """As ``hmn.nn.candidates.draw.candidates``, for the queries and targets of all ranks together."""
        ...


def clustered(strategy: Strategy, index: object) -> Clustered:
    """The index, for a strategy that needs its clusters.

    Raises:
        ConfigError: it has none.
    """
    if not isinstance(index, Clustered):
        raise ConfigError(
            f"strategy {strategy} needs an index of clusters, got {type(index).__name__}: "
            "use index='cluster', or strategy k-mips"
        )
    return index


def as_strategy(strategy: Strategy | str | None, k: int, index: object) -> Strategy | None:
    """A strategy, parsed where only its text is given.

    Args:
        strategy: the strategy, its text, or None.
        k: number that ``k-mips`` without a number stands for.
        index: the index that it draws from.

    Raises:
        ConfigError: it is something else, or needs clusters that the index has not.
    """
    if isinstance(strategy, str):
        strategy = Strategy.parse(strategy, k)
    if strategy is not None:
        if not isinstance(strategy, Strategy):
            raise ConfigError(f"strategy is {strategy!r}, expected hmn.Strategy or text such as 'top-k:8'")
        if strategy.needs_clusters:
            clustered(strategy, index)
    return strategy
