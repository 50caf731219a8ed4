"""A question-answering network from its configuration."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from hmn.facts.table import FactTable
from hmn.nn.candidates.strategy import Strategy
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.network import MemoryNetwork
from hmn.nn.reader import KMIPSReader, SoftmaxReader
from hmn.qa.answer import Answer, AnswerModule
from hmn.qa.cells import Cells
from hmn.qa.config import ModelConfig
from hmn.qa.encoders.fact import FactEncoder
from hmn.qa.encoders.pretrained import PretrainedPhrasing, SentenceEncoder
from hmn.qa.encoders.question import Phrasing, QuestionEncoder
from hmn.qa.encoders.tables import NameTable, WordTable
from hmn.qa.hops.answers import HopAnswers
from hmn.qa.hops.encoder import HopEncoder
from hmn.qa.hops.graph import Graph
from hmn.qa.hops.network import HopNetwork
from hmn.qa.hops.reader import ChainReader
from hmn.qa.words.splitting import splitting

if TYPE_CHECKING:
    from hmn.distributed.collectives import Ranks
    from hmn.qa.training.progress_bar import Display

Network = MemoryNetwork[list[list[Answer]]]
"""Network that turns bags of words into the answers to each question."""


def build_network(
    config: ModelConfig,
    facts: FactTable,
    cells: Cells,
    encoder: SentenceEncoder | None = None,
    *,
    fresh: bool = True,
    display: Display | None = None,
    ranks: Ranks | None = None,
) -> Network:
    """Build a network. Its weights are drawn from PyTorch's random numbers.

    Args:
        config: Sizes and choices.
        facts: The table.
        cells: The cells of the table.
        encoder: Pretrained encoder, if the configuration names one.
        fresh: Encode the texts of relations and cells with the pretrained encoder. Without it, these vectors
            are zeros until saved weights are loaded.
        display: Shows the progress of this encoding.
        ranks: Processes that share out the cells, if there are several.
    """
    relations = facts.relations
    phrasing: nn.Module = Phrasing(config)
    sentences = texts = None
    if encoder is not None:
        phrasing = pretrained = PretrainedPhrasing(encoder, config.word_features + 1, config.dropout)
        sentences = torch.zeros(len(relations), encoder.features)
        texts = torch.zeros(len(cells), encoder.features, dtype=torch.float16)
        if fresh:
            sentences, texts = _encode_texts(pretrained, facts, cells, display)
    table = NameTable(
        config.table_bits,
        config.name_features,
        splitting(config.splitting).kinds,
        count_bits=config.feature_bits,
        sparse=config.reader != "softmax",
    )
    words = WordTable(config)
    facts_encoder = FactEncoder(config, cells, relations, table, words, sentences, texts)
    with torch.device("cpu"):  # an index needs real storage even if the weights are on the device meta
        indexed = _indexed(facts_encoder, config.index, ranks)
    reader = (
        SoftmaxReader(indexed)
        if config.reader == "softmax"
        else KMIPSReader(indexed, config.k, Strategy.parse(config.strategy, config.k))
    )
    if config.hops == 1:
        questions = QuestionEncoder(config, table, words, phrasing)
        return MemoryNetwork(questions, indexed, reader, AnswerModule(facts, cells))
    chains = ChainReader(indexed, Graph(facts, cells), config.name_features, k=config.k, beam=config.beam)
    asking = HopEncoder(config, table, words, phrasing)
    return HopNetwork(asking, indexed, reader, HopAnswers(facts), chains, config.hops)


def _indexed(encoder: FactEncoder, index: str, ranks: Ranks | None) -> IndexedMemory[EncodedMemory]:
    """The memory with its index, here or over several ranks."""
    if ranks is None:
        return IndexedMemory(EncodedMemory(encoder), index)
    from hmn.qa.over_ranks.cells import CellsOverRanks  # a model on one machine needs nothing of it

    return cast("IndexedMemory[EncodedMemory]", CellsOverRanks(encoder, index, ranks).indexed)


def _encode_texts(
    pretrained: PretrainedPhrasing, facts: FactTable, cells: Cells, display: Display | None
) -> tuple[Tensor, Tensor]:
    """Vectors of the relations ``(relations, H)`` and of the cells ``(N, H)``, in float16."""
    relations = [facts.relation_text(number) for number in range(len(facts.relations))]
    sentences = pretrained.eval().sentences(relations)
    with nullcontext() if display is None else display.reading() as on_progress:
        return sentences, pretrained.sentences(cells.texts(relations), on_progress).half()
