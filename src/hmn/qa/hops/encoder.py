"""The encoder of questions of several hops: one relation block per hop, and when to stop."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hmn.qa.config import WORDS, ModelConfig
from hmn.qa.encoders.question import QuestionEncoder, WordsRead
from hmn.qa.encoders.tables import NameTable, WordTable
from hmn.qa.text import WordBags


class HopQueries(NamedTuple):
    """What B questions ask in T hops.

    Attributes:
        first: ``(B, D)`` query of the first hop.
        relation: ``(B, T, R)`` relation block of every hop.
        back: ``(B, T)`` how far a chain may return to where it began, from 0 to 1.
        name_scale: length of the block of names in a query.
        stop: ``(B, T)`` logits that a chain which has come to this hop ends there, if the words alone decide.
    """

    first: Tensor
    relation: Tensor
    back: Tensor
    name_scale: Tensor
    stop: Tensor | None


class HopEncoder(QuestionEncoder):
    """Encodes questions as one query per hop.

    A recurrent state looks at the words of the question once per hop. What it sees there gives the hop's
    relation block. The steps share their weights, so a model can be asked for more hops than it was trained
    with.

    Whether a question is answered after a hop follows from its words or, by ``config.stop_by``, from two
    relations: the one that was read there, and the one that the next hop would ask for.

    Args:
        config: sizes of the model.
        table: table of names, shared with the cell encoder.
        words: vectors of words, shared with the cell encoder.
        phrasing: module that gives each word a vector in context; see ``Phrasing``.
    """

    def __init__(self, config: ModelConfig, table: NameTable, words: WordTable, phrasing: nn.Module) -> None:
        super().__init__(config, table, words, phrasing)
        features, state = self.share.in_features, 2 * config.hidden
        self.begin = nn.Linear(2 * features, state)
        self.look = nn.Linear(state, features)
        self.step = nn.GRUCell(features, state)
        self.relation = self._head(features + state, state, config.relation_features, config.dropout)
        # whether chains may return and, if the words decide it, whether they end
        by_words = config.stop_by == WORDS
        self.decide = self._head(features + state, state, 2 if by_words else 1, config.dropout)
        relations = 2 * config.relation_features
        self.end = None if by_words else self._head(relations, config.hidden, 1, config.dropout)

    @staticmethod
    def _head(features: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(features, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, out)
        )

    def forward(self, bags: WordBags) -> Tensor:
        """Queries ``(B, D)`` of the first hop."""
        return self.hops(bags, 1).first

    def encode(self, bags: WordBags) -> tuple[Tensor, WordsRead]:
        """Queries ``(B, D)`` of the first hop, and the words as they were read."""
        read = self.read(bags)
        return self._asked(read, 1).first, read

    def hops(self, bags: WordBags, hops: int) -> HopQueries:
        """What B questions ask in ``hops`` hops."""
        return self._asked(self.read(bags), hops)

    def _asked(self, read: WordsRead, hops: int) -> HopQueries:
        """What B questions ask in ``hops`` hops, from their words."""
        words = read.masked  # (B, T, H)
        base = self.share(words).squeeze(2)  # (B, T)
        state = torch.tanh(self.begin(self.phrased(read, self._shares(read, base))))  # (B, S)
        relations, decisions = [], []
        for _ in range(hops):
            seen = torch.einsum("bth,bh->bt", words, self.look(state))
            share = self._shares(read, base + seen / math.sqrt(words.shape[2]))  # (B, T)
            context = torch.einsum("bt,bth->bh", share, words)  # (B, H)
            weight = share[read.within] * (1 - read.gate) * read.length.repeat_interleave(read.length)
            block = self.relation(torch.cat([context, state], dim=1))
            relations.append(block + self.match_scale * self.matched(read, weight))
            state = self.step(context, state)
            decisions.append(self.decide(torch.cat([context, state], dim=1)))
        relation = torch.stack(relations, dim=1)  # (B, T, R)
        *stop, back = torch.stack(decisions, dim=1).unbind(dim=2)
        first = torch.cat([read.name, relation[:, 0], *self.meanings(read)], dim=1)
        scale = self.log_scale.exp()
        return HopQueries(first, relation, torch.sigmoid(back), scale, stop[0] if stop else None)

    def stop(self, asked: HopQueries, hop: int, read: Tensor) -> Tensor:
        """Logits ``(B,)`` that chains which have come to a hop, not the last one, end there.

        Args:
            asked: what the questions ask.
            hop: number of the hop, from 0.
            read: ``(B, R)`` mean vectors of the relations that the hop read.
        """
        if self.end is None:
            assert asked.stop is not None
            return asked.stop[:, hop]
        ended: Tensor = self.end(torch.cat([read, asked.relation[:, hop + 1]], dim=1)).squeeze(1)
        return ended

    @staticmethod
    def _shares(read: WordsRead, logit: Tensor) -> Tensor:
        """Shares ``(B, T)`` of the words."""
        return logit.masked_fill(~read.within, -torch.inf).softmax(dim=1)
