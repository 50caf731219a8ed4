"""The encoder of questions of several hops: one relation block per hop, and when to stop."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hmn.qa.config import ModelConfig
from hmn.qa.encoders.question import QuestionEncoder, WordsRead
from hmn.qa.encoders.tables import NameTable, WordTable
from hmn.qa.text import WordBags


class HopQueries(NamedTuple):
    """What B questions ask in T hops.

    Attributes:
        first: ``(B, D)`` query of the first hop.
        relation: ``(B, T, R)`` relation block of every hop.
        back: ``(B, T)`` how far a chain may return to where it began, from 0 to 1.
        stops: ``(B, T)`` probability that the answer is what this hop finds; each row sums to 1.
        name_scale: length of the block of names in a query.
    """

    first: Tensor
    relation: Tensor
    back: Tensor
    stops: Tensor
    name_scale: Tensor


class HopEncoder(QuestionEncoder):
    """Encodes questions as one query per hop.

    A recurrent state looks at the words of the question once per hop. What it sees there gives the hop's
    relation block, and whether the question is answered after it. The steps share their weights, so a model
    can be asked for more hops than it was trained with.

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
        # whether to stop, and whether chains may return
        self.decide = self._head(features + state, state, 2, config.dropout)

    @staticmethod
    def _head(features: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(features, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, out)
        )

    def forward(self, bags: WordBags) -> Tensor:
        """Queries ``(B, D)`` of the first hop."""
        return self.hops(bags, 1).first

    def hops(self, bags: WordBags, hops: int) -> HopQueries:
        """What B questions ask in ``hops`` hops."""
        read = self.read(bags)
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
        stop, back = torch.stack(decisions, dim=1).unbind(dim=2)
        first = torch.cat([read.name, relation[:, 0], *self.meanings(read)], dim=1)
        scale = self.log_scale.exp()
        return HopQueries(first, relation, torch.sigmoid(back), _stops(stop), scale)

    @staticmethod
    def _shares(read: WordsRead, logit: Tensor) -> Tensor:
        """Shares ``(B, T)`` of the words."""
        return logit.masked_fill(~read.within, -torch.inf).softmax(dim=1)


def _stops(logit: Tensor) -> Tensor:
    """Probability of each hop to be the last ``(B, T)``, if it is by ``logit`` unless one before it was."""
    going_on = torch.sigmoid(-logit[:, :-1]).cumprod(dim=1)  # (B, T - 1), after each hop but the last
    reached = torch.cat([torch.ones_like(logit[:, :1]), going_on], dim=1)  # (B, T)
    last = torch.cat([torch.sigmoid(logit[:, :-1]), torch.ones_like(logit[:, :1])], dim=1)
    return reached * last
