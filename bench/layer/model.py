"""A small language model, one of whose feed-forward blocks is what is compared."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

FEATURES, HEADS, LAYERS, REPLACED = 128, 4, 3, 1
"""Features of a position, heads of self-attention, layers, and the number of the layer that is compared."""
LENGTH = 128
"""Tokens of a sequence."""


class Block(nn.Module):
    """Self-attention over earlier positions, and a block behind it, both with the norm before them.

    Args:
        block: what stands behind self-attention; None for nothing.
    """

    def __init__(self, block: nn.Module | None) -> None:
        super().__init__()
        self.first = nn.LayerNorm(FEATURES)
        self.project = nn.Linear(FEATURES, 3 * FEATURES)
        self.mixed = nn.Linear(FEATURES, FEATURES)
        self.second = None if block is None else nn.LayerNorm(FEATURES)
        self.block = block

    def forward(self, inputs: Tensor) -> Tensor:
        """From ``(B, T, FEATURES)`` to the same."""
        parts = self.project(self.first(inputs)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        inputs = inputs + self.mixed(mixed.transpose(1, 2).flatten(2))
        if self.block is None or self.second is None:
            return inputs
        outputs: Tensor = inputs + self.block(self.second(inputs))
        return outputs


class LanguageModel(nn.Module):
    """Predicts the next token from those before it.

    Args:
        tokens: number of different tokens.
        block: makes what stands in the layer ``REPLACED``, or None for nothing.
    """

    def __init__(self, tokens: int, block: Callable[[], nn.Module | None]) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, FEATURES)
        self.place = nn.Parameter(torch.zeros(LENGTH, FEATURES))
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.place, std=0.02)
        blocks = [block() if layer == REPLACED else feed_forward(4 * FEATURES) for layer in range(LAYERS)]
        self.blocks = nn.ModuleList(Block(each) for each in blocks)
        self.norm = nn.LayerNorm(FEATURES)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(B, T, tokens)`` for tokens ``(B, T)``; the embeddings are the output map as well."""
        hidden = self.embed(tokens) + self.place[: tokens.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        return functional.linear(self.norm(hidden), self.embed.weight)

    @property
    def compared(self) -> nn.Module | None:
        """What stands in the layer ``REPLACED``."""
        return self.blocks[REPLACED].block  # type: ignore[return-value]


def feed_forward(width: int) -> nn.Module:
    """A feed-forward block of a number of hidden features."""
    return nn.Sequential(nn.Linear(FEATURES, width), nn.GELU(), nn.Linear(width, FEATURES))
