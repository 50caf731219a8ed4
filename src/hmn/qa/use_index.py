"""Reading the memory of a trained model in another way: another index, a strategy, more hops."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hmn.errors import ConfigError
from hmn.index.protocol import Clustered, Index
from hmn.nn.candidates.search import StrategySearch
from hmn.nn.candidates.strategy import Strategy
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.reader import KMIPSReader
from hmn.qa.config import BEST_CELLS, ModelConfig, make_configs
from hmn.qa.hops.network import HopNetwork

if TYPE_CHECKING:
    from hmn.qa.factoid_qa import FactoidQA


def use_index(model: FactoidQA, index: str | None, strategy: str | None, recall: float | None) -> None:
    """See ``FactoidQA.use_index``."""
    if model.ranks is not None:
        raise ConfigError(
            "the cells lie on several ranks, whose index is not replaced: name it where the model is made, "
            "as FactoidQA.from_pretrained(folder, index=..., ranks=ranks)"
        )
    indexed, reader = model.network.indexed, model.network.reader
    if not isinstance(reader, KMIPSReader):
        raise ConfigError(
            "the model's reader is softmax, which reads all cells: "
            "train one with the reader kmips to read with an index or a strategy"
        )
    reading = None if strategy in {None, BEST_CELLS} else Strategy.parse(str(strategy), model.config.k)
    config, chosen = model.config, indexed.index
    if index is not None:
        chosen, config = _tuned(model, index, reader.strategy.needs_clusters, recall)
    keys = model.memory.snapshot()
    searcher = indexed if reading is None else StrategySearch(chosen, reading, keys, gaps=model.memory.gaps)
    model.config, indexed.index, reader.searcher = config, chosen, searcher
    model._settings["index"] = config.index


def index_of_ranks(model: FactoidQA, index: str | None, strategy: str | None) -> str | None:
    """The index that a model without a network is to be given later: over several ranks, none.

    There it is a setting of the network, whose ranks each build it on their own cells.

    Raises:
        ConfigError: Several ranks are to read with a strategy.
    """
    if model.ranks is None:
        return index
    if strategy not in {None, BEST_CELLS}:
        raise ConfigError(
            f"strategy is {strategy!r}, expected none over several ranks: a question reads its best cells"
        )
    model.config = replace(model.config, index=index or model.config.index)
    return None


def _tuned(
    model: FactoidQA, text: str, needs_clusters: bool, recall: float | None
) -> tuple[Index, ModelConfig]:
    """An index built on the memory and tuned, and the configuration that records it."""
    from hmn.qa.training.search_depth import depth_on  # a model that answers needs nothing of training

    indexed = IndexedMemory(model.memory, text)
    target = make_configs({} if recall is None else {"recall": recall})[2].recall
    indexed.rebuild()
    depth = depth_on(model, indexed.index, text, target if model._examples else 0.0, model._examples)
    depth.tune()
    clusters = isinstance(indexed.index, Clustered) or not needs_clusters
    strategy = model.config.strategy if clusters else BEST_CELLS
    return indexed.index, replace(model.config, index=depth.text, strategy=strategy)


def use_hops(model: FactoidQA, hops: int) -> None:
    """See ``FactoidQA.use_hops``."""
    if not isinstance(model.network, HopNetwork):
        raise ConfigError(
            "the model was trained with a single hop: train one with several, such as hmn train --hops 2"
        )
    config = replace(model.config, hops=hops)
    if config.hops == 1:
        raise ConfigError(
            "hops is 1, expected at least 2: a model of one hop has another network, so train one with hops=1"
        )
    model.config = config
    model._settings["hops"] = model.network.hops = model.config.hops
