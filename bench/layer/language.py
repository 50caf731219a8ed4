"""Trains the small language model with each of the compared blocks, and writes down how well it predicts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.layer.corpus import TOKENS, Corpus
from bench.layer.model import FEATURES, LENGTH, LanguageModel, feed_forward
from bench.layer.product_keys import ProductKeyLayer
from bench.layer.systems import HEADS, KEY_FEATURES, K, found_by, optimisers_of
from hmn.nn.layer.layer import MemoryLayer

CELLS = 65_536
"""Cells of the memories."""
WIDE = 32_768
"""Hidden features of the wide block: as many parameters as the values of the memories."""
STEPS, WARM = 1500, 100
"""Steps of a training, and those in which the learning rate rises."""
BATCH = 16
"""Sequences per step."""
RATE, RATE_OF_ROWS = 2e-3, 2e-3
"""Highest learning rates: of the model, and of keys and values."""
SEEDS = (0, 1, 2)
"""Seeds of the models and of the order of the sequences."""
ASKED_AT = (250, 500, 750, 1000, 1250, 1500)
"""Steps after which the validation poems are predicted."""
RECALL_AT = (1, 10, 100, *ASKED_AT)
"""Steps after which the recall of the index is measured."""
PREDICTED = 512
"""Sequences of the validation and the test poems."""
BLOCKS: dict[str, Callable[[int], nn.Module | None]] = {
    "no block": lambda seed: None,  # noqa: ARG005
    "dense": lambda seed: feed_forward(4 * FEATURES),  # noqa: ARG005
    "wide": lambda seed: feed_forward(WIDE),  # noqa: ARG005
    "product keys": lambda seed: ProductKeyLayer(FEATURES, CELLS, HEADS, K, key_features=KEY_FEATURES),  # noqa: ARG005
    "hmn": lambda seed: MemoryLayer(FEATURES, CELLS, HEADS, K, key_features=KEY_FEATURES, seed=seed),
}
"""Blocks that are compared, by name, each made from a seed."""


def train(
    name: str, seed: int, corpus: Corpus, log: Callable[[str], None], steps: int = STEPS
) -> dict[str, Any]:
    """Train one model; returns its figures."""
    torch.manual_seed(seed)
    model = LanguageModel(TOKENS, partial(BLOCKS[name], seed))
    block, optimisers = model.compared, optimisers_of(model, RATE, RATE_OF_ROWS)
    top = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    use = block.count_use() if isinstance(block, MemoryLayer | ProductKeyLayer) else None
    generator = torch.Generator().manual_seed(seed)
    train_tokens = corpus.tokens["train"]
    figures: dict[str, Any] = {"name": name, "seed": seed, "valid": {}, "recall": {}, "steps": steps}
    figures["parameters"] = sum(each.numel() for each in model.parameters())
    spent, loss = 0.0, torch.zeros(())
    for step in range(1, steps + 1):
        began = time.perf_counter()
        rate = min(step / WARM, 0.5 + 0.5 * math.cos(math.pi * step / (steps + 1)))
        for optimiser, most in zip(optimisers, top, strict=True):
            optimiser.param_groups[0]["lr"] = most * rate
        start = torch.randint(len(train_tokens) - LENGTH, (BATCH,), generator=generator)
        rows = train_tokens[start.unsqueeze(1) + torch.arange(LENGTH + 1)]  # (B, LENGTH + 1)
        loss = _loss(model(rows[:, :-1]), rows[:, 1:])
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(optimisers[0].param_groups[0]["params"], 1.0)
        for optimiser in optimisers:
            optimiser.step()
        spent += time.perf_counter() - began
        if step in RECALL_AT and isinstance(block, MemoryLayer):
            figures["recall"][str(step)] = _recall(model, block, corpus.tokens["valid"])
        if step in ASKED_AT:
            if use is not None:
                figures["use"] = {"share": use.share, "divergence": use.divergence}
                use.forget()
                block.use = None  # type: ignore[union-attr]
            figures["valid"][str(step)] = bits_per_byte(model, corpus, "valid")
            if use is not None:
                block.use = use  # type: ignore[union-attr]
            log(
                f"{name}, seed {seed}, step {step}: {figures['valid'][str(step)]:.4f} bits per byte, "
                f"{spent / step:.2f} s per step, recall {list(figures['recall'].values())[-1:]}"
            )
    figures["test"] = bits_per_byte(model, corpus, "test")
    return figures


def _loss(logits: Tensor, wanted: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, -2), wanted.flatten())


@torch.no_grad()
def bits_per_byte(model: nn.Module, corpus: Corpus, part: str) -> float:
    """Bits that the model needs per byte of the first ``PREDICTED`` sequences of a part."""
    model.eval()
    tokens, size = corpus.tokens[part], corpus.size[part]
    bits = count = 0.0
    for first in range(0, PREDICTED, BATCH):
        place = (torch.arange(first, first + BATCH) * LENGTH).unsqueeze(1) + torch.arange(LENGTH + 1)
        rows = tokens[place]
        bits += float(_loss(model(rows[:, :-1]), rows[:, 1:])) * rows[:, 1:].numel() / math.log(2)
        count += float(size[place[:, 1:]].sum())
    model.train()
    return bits / count


@torch.no_grad()
def _recall(model: LanguageModel, block: MemoryLayer, tokens: Tensor) -> float:
    """Share of the k best cells that the index finds for queries of validation poems."""
    seen: list[Tensor] = []
    handle = block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block.use, use = None, block.use
    model.eval()
    model(tokens[: 4 * LENGTH].view(4, LENGTH))
    model.train()
    handle.remove()
    block.use = use
    return found_by(block, seen[0].flatten(0, -2)[::2])
