"""Accuracies of a network on held-out questions, with its own search and with others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.paper.grid import KEYWORDS
from hmn.paper.network.attention.build import indexed_memory
from hmn.paper.network.attention.indexed import IndexedAttention
from hmn.paper.network.attention.keywords import KeywordAttention
from hmn.paper.network.attention.search_budget import strategy_reads, target_reads, tuned_to
from hmn.paper.network.build import Network
from hmn.paper.network.measure import Figures, K, Search, index_search, measure
from hmn.paper.network.sweep import sweep


def own_search(network: Network, name: str) -> Search:
    """The row's own search of the held-out questions of a name."""
    text = network.held_out[name].text
    return lambda numbers, query: network.attention.search(query, [text[number] for number in numbers], K)


def validated(network: Network, search: Search) -> Figures:
    """Accuracies of a search on the validation questions, with the words as they are now."""
    questions = network.data.asked["valid"]
    return measure(search, _encoder(network, "valid"), network.data.facts, network.cells, questions)


def tested(
    network: Network, name: str, tuned: dict[str, Any], best_queries: Tensor, first_queries: Tensor
) -> dict[str, Any]:
    """Figures on the held-out questions of a name: with the row's own search, with exact search and others.

    Args:
        network: its words are those of the best epoch, and its search is tuned.
        name: ``valid`` or ``test``.
        tuned: how its search was tuned.
        best_queries: ``(B, D)`` queries that the common search of strategies is tuned on.
        first_queries: ``(B, D)`` queries that the row's second structure is tuned on.

    Returns:
        Figures by search: ``own``, ``exact``, and where the row has them ``common`` and ``other``.
    """
    figures = {
        how: _measured(network, name, search)
        for how, search in _searches(network, name, best_queries, first_queries)
    }
    if network.row.exact:
        figures["exact"] = figures["own"]
    figures["own"]["tuned"] = tuned
    if isinstance(network.attention, KeywordAttention):
        questions = network.data.asked[name]
        figures["own"]["coverage"] = network.attention.coverage(questions.text, questions.cell)
    return figures


def swept(network: Network, queries: Tensor, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """Accuracy against reads of every search structure over the trained network, on validation."""

    def measured(search: Search) -> Figures:
        return _figures(network, "valid", search)

    return sweep(network.preset, network.memory, network.seed, queries, measured, log)


def _searches(
    network: Network, name: str, best_queries: Tensor, first_queries: Tensor
) -> Iterator[tuple[str, Search]]:
    row, preset, memory = network.row, network.preset, network.memory
    yield "own", own_search(network, name)
    if not row.exact:
        yield "exact", index_search(network.exact)
    if row.strategy:
        assert isinstance(network.attention, IndexedAttention)
        indexed = network.attention.indexed
        tuned_to(indexed.index, best_queries, strategy_reads(preset, len(memory)))
        yield "common", index_search(indexed)
    if row.also_tested_with and row.reader != KEYWORDS:
        indexed = indexed_memory(row.also_tested_with, preset, memory, network.seed)
        tuned_to(indexed.index, first_queries, target_reads(preset, len(memory)))
        yield "other", index_search(indexed)


def _measured(network: Network, name: str, search: Search) -> dict[str, Any]:
    return _figures(network, name, search).as_dict()


def _figures(network: Network, name: str, search: Search) -> Figures:
    """Figures of a search, its recall among them."""
    return measure(
        search,
        _encoder(network, name),
        network.data.facts,
        network.cells,
        network.data.asked[name],
        exact=network.exact,
        recall_on=network.preset.recall_on,
    )


def _encoder(network: Network, name: str) -> Callable[[NDArray[np.int64]], Tensor]:
    asked = network.held_out[name]

    @torch.no_grad()
    def encode(numbers: NDArray[np.int64]) -> Tensor:
        query: Tensor = network.words(asked.word.take(numbers))  # (B, D)
        return query

    return encode
