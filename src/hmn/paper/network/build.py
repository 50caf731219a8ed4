"""The network of a row, built from its settings, with the questions that it is asked."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.paper.data import Data
from hmn.paper.grid import Row
from hmn.paper.network.attention.build import make_attention
from hmn.paper.network.attention.protocol import Attention
from hmn.paper.network.question_words import Asked, Vocabulary, WordSum, artificial_questions
from hmn.paper.preset import Preset
from hmn.qa.cells import Cells


@dataclass(frozen=True, eq=False)
class Network:
    """A row's network and its questions.

    Attributes:
        row: how the network attends.
        preset: sizes.
        data: facts and questions.
        cells: facts that the cells stand for.
        seed: seed of everything that is random.
        words: the words' vectors, which are all that is learned.
        memory: the fixed cells.
        exact: the same cells with exact search.
        attention: attention over the cells.
        train: training questions, natural ones before artificial ones.
        artificial: number of artificial questions.
        held_out: questions of validation and, if given, test, by name.
        build_seconds: seconds that building the search structure took.
    """

    row: Row
    preset: Preset
    data: Data
    cells: Cells
    seed: int
    words: WordSum
    memory: Memory
    exact: IndexedMemory[Memory]
    attention: Attention
    train: Asked
    artificial: int
    held_out: dict[str, Asked]
    build_seconds: float

    @classmethod
    def build(
        cls, row: Row, preset: Preset, data: Data, keys: Tensor, cells: Cells, seed: int, device: str
    ) -> Network:
        """Build a network over the keys ``(N, D)`` of fixed cells, with new words."""
        artificial, facts_asked = artificial_questions(data.facts, data.asked["train"])
        texts = [*data.asked["train"].text, *artificial]
        vocabulary = Vocabulary(texts)
        facts = [*data.asked["train"].cell.tolist(), *facts_asked]
        train = Asked.of(texts, facts, vocabulary, data.facts, cells)
        held_out = {
            name: Asked.of(questions.text, questions.cell.tolist(), vocabulary, data.facts, cells)
            for name, questions in data.asked.items()
            if name != "train"
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            words = WordSum(len(vocabulary), keys.shape[1], preset.word_scale).to(device)
        memory = Memory(keys.to(device))
        began = time.perf_counter()
        attention = make_attention(row, preset, memory, data.facts, cells, seed)
        built = time.perf_counter() - began
        return cls(
            row,
            preset,
            data,
            cells,
            seed,
            words,
            memory,
            IndexedMemory(memory),
            attention,
            train,
            len(artificial),
            held_out,
            built,
        )
