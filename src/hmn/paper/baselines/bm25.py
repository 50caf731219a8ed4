"""BM25 over the texts of the cells: what a user would try first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.paper.data import Data
from hmn.paper.network.measure import measure
from hmn.qa.cells import Cells
from hmn.qa.words.letters import words
from hmn.qa.words.splitting import LETTERS
from hmn.results import SearchResult

SATURATION = 1.5
"""BM25's k1, with the default of most libraries."""
LENGTH_SHARE = 0.75
"""BM25's b, with the default of most libraries."""
FOUND = 256
"""Cells kept per question, so that many may tie for the best place."""


class BM25:
    """Scores texts against questions (Robertson & Zaragoza 2009).

    Args:
        texts: N texts.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(words(text)) for text in texts]
        length = np.array([sum(count.values()) for count in counts], np.float64)
        norm = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * length / max(length.mean(), 1e-9))
        listed: dict[str, tuple[list[int], list[int]]] = {}
        for number, count in enumerate(counts):
            for word, times in count.items():
                entries = listed.setdefault(word, ([], []))
                entries[0].append(number)
                entries[1].append(times)
        self.count = len(texts)
        self._listed: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        for word, (numbers, each) in listed.items():
            text, often = np.array(numbers), np.array(each, np.float64)
            rarity = np.log(1 + (self.count - len(text) + 0.5) / (len(text) + 0.5))
            self._listed[word] = text, rarity * often * (SATURATION + 1) / (often + norm[text])

    def search(self, questions: Sequence[str], k: int) -> SearchResult:
        """The k best of the texts that share a word with each question, which are its ``reads``."""
        score = torch.full((len(questions), k), -torch.inf)
        cell = torch.full((len(questions), k), -1, dtype=torch.int64)
        scored = torch.zeros(len(questions), dtype=torch.int64)
        for row, question in enumerate(questions):
            lists = [self._listed[word] for word in words(question) if word in self._listed]
            if not lists:
                continue
            # in float64, so that equal texts tie whatever the order in which their words are added
            each, place = np.unique(np.concatenate([text for text, _ in lists]), return_inverse=True)
            total = torch.from_numpy(np.bincount(place, np.concatenate([weight for _, weight in lists])))
            best = total.topk(min(k, len(each)))
            score[row, : len(best.values)] = best.values.float()
            cell[row, : len(best.values)] = torch.from_numpy(each)[best.indices]
            scored[row] = len(place)
        return SearchResult(score, cell, scored.float(), scored)


def run_bm25(data: Data) -> dict[str, Any]:
    """Measure BM25 over the texts of all cells, subject's name and relation; nothing is trained.

    ``reads`` counts the list entries that are read, each far smaller than a key.
    """
    cells = Cells.of(data.facts, splitting=LETTERS)
    relations = [data.facts.relation_text(number) for number in range(len(data.facts.relations))]
    began = time.perf_counter()
    index = BM25(cells.texts(relations))
    built = time.perf_counter() - began
    tested = {}
    for name, questions in data.asked.items():
        if name == "train":
            continue
        text = questions.text

        def search(numbers: NDArray[np.int64], query: Tensor, text: list[str] = text) -> SearchResult:  # noqa: ARG001
            return index.search([text[number] for number in numbers], FOUND)

        def nothing(numbers: NDArray[np.int64]) -> Tensor:
            return torch.zeros(len(numbers), 1)

        tested[name] = {"own": measure(search, nothing, data.facts, cells, questions).as_dict()}
    return {
        "questions": {"natural": 0, "artificial": 0},
        "cells": [len(cells), 0],
        "facts": len(data.facts),
        "build_seconds": built,
        "curve": [],
        "tested": tested,
    }
