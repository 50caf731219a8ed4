"""Recall with overwriting, from ten thousand to a million live pairs in a trained memory.

Multi-query associative recall with forgetting (after HazyResearch's zoology): pairs of a key and a value come
in a stream, keys are written again with other values, and the newest value counts. One encoder, writer and
reader are trained, with the number of live pairs doubled step by step. Beside it, with the same encoder and
stream: a full softmax over the same cells, a product-key memory asked with the same query, and a hash table.

Keys are random vectors from a seed, as word vectors would be; values are one of 256 classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.clusters import AT_EVERY_BUILD
from bench.writer.product_keys import ProductKeys
from hmn.nn.writing.heads import CellReader, CellWriter
from hmn.nn.writing.memory import WrittenMemory

TOKEN, CLASSES, FEATURES, VALUES, HIDDEN, K = 128, 256, 128, 16, 160, 4
"""Sizes: of a key's vector, of the values, of memory keys and values, of the state; cells per read."""
LEAST_PAIRS, MOST_PAIRS = 10_000, 1_000_000
"""Live pairs at first and at last; doubled in between."""
REWRITTEN = 0.5
"""Share of the live pairs that are written again with other values, once all were written."""
BLOCK, ASKED = 512, 512
"""Pairs that are written in one call, and questions per training step."""
STEPS, FIRST_STEPS = 40, 400
"""Training steps per doubling, and before the first one, in a small memory."""
SMALL_PAIRS = 256
"""Live pairs in the first steps."""
QUESTIONS = 10_000
"""Questions of a test."""
SHARPER = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Factors of the scores, of which the full softmax gets the one that serves it best on other questions."""
FEW = 1024
"""Questions to the full softmax, half of them for the choice of its factor."""
INDEX = AT_EVERY_BUILD
"""Search structure of the memory."""
SEED = 0


class Recaller(nn.Module):
    """Encoder, writer and reader of pairs."""

    def __init__(self, cells: int, index: str = INDEX) -> None:
        super().__init__()
        self.memory = WrittenMemory(cells, FEATURES, VALUES, index=index)
        self.values = nn.Embedding(CLASSES, VALUES)
        nn.init.normal_(self.values.weight, std=0.5)
        self.encoder = nn.Linear(TOKEN + VALUES, HIDDEN)
        self.writer = CellWriter(HIDDEN, self.memory, k=K)
        self.reader = CellReader(HIDDEN, self.memory)
        self.reader.query = self.writer.key
        self.output = nn.Linear(VALUES, CLASSES)

    def state(self, keys: Tensor, values: Tensor | None = None) -> Tensor:
        """States ``(n, HIDDEN)`` of pairs, or of questions."""
        value = keys.new_zeros(len(keys), VALUES) if values is None else self.values(values)
        made: Tensor = self.encoder(torch.cat([keys, value], dim=1))
        return made

    def write(self, keys: Tensor, values: Tensor) -> None:
        """Write pairs in one call; a key occurs once."""
        self.writer(self.state(keys, values), self.memory)

    def query(self, keys: Tensor) -> Tensor:
        """Queries ``(n, FEATURES)`` for keys."""
        return functional.normalize(self.writer.key(self.state(keys)), dim=1)

    def ask(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``(n, CLASSES)`` of the values of keys, and reads ``(n,)``."""
        read = self.reader.read(self.state(keys), K)
        assert read.value is not None
        made: Tensor = self.output(read.value.squeeze(1))
        return made, read.reads.squeeze(1)


class Stream:
    """Live pairs, written in blocks; a part of them is written again."""

    def __init__(self, pairs: int, generator: torch.Generator) -> None:
        self.pairs, self.generator = pairs, generator
        self.keys = torch.randn(pairs, TOKEN, generator=generator)
        self.newest = torch.full((pairs,), -1, dtype=torch.int64)

    def blocks(self) -> list[Tensor]:
        """Numbers of pairs ``(n,)`` of each write: all of them, then a part again."""
        order = torch.randperm(self.pairs, generator=self.generator)
        again = torch.randperm(self.pairs, generator=self.generator)[: int(REWRITTEN * self.pairs)]
        return [*torch.split(order, BLOCK), *torch.split(again, BLOCK)]

    def values(self, numbers: Tensor) -> Tensor:
        """New values of pairs, which are their newest from now on."""
        drawn = torch.randint(CLASSES, numbers.shape, generator=self.generator)
        self.newest[numbers] = drawn
        return drawn


def train_small(model: Recaller, log: Callable[[str], None], steps: int, generator: torch.Generator) -> None:
    """Learn to write and ask in a small memory, from nothing."""
    adam = torch.optim.Adam(model.parameters(), lr=0.003)
    for step in range(steps):
        stream = Stream(SMALL_PAIRS, generator)
        model.memory.begin()
        for numbers in stream.blocks():
            model.write(stream.keys[numbers], stream.values(numbers))
        right = _train_step(model, adam, stream, torch.arange(SMALL_PAIRS))
        if step % 50 == 0 or step == steps - 1:
            log(f"{SMALL_PAIRS} pairs, step {step}: right {right:.3f}")


def _train_step(model: Recaller, adam: torch.optim.Optimizer, stream: Stream, asked: Tensor) -> float:
    score, _ = model.ask(stream.keys[asked])
    right = stream.newest[asked]
    loss = functional.cross_entropy(score, right)
    adam.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    adam.step()
    model.memory.cut()
    return float((score.argmax(dim=1) == right).float().mean())


def fill(model: Recaller, stream: Stream) -> float:
    """Write the whole stream; returns seconds per pair."""
    began, blocks = time.perf_counter(), stream.blocks()
    with torch.no_grad():
        model.memory.begin()
        for numbers in blocks:
            model.write(stream.keys[numbers], stream.values(numbers))
    return (time.perf_counter() - began) / sum(map(len, blocks))


def train_live(model: Recaller, stream: Stream, steps: int) -> None:
    """Train on the full memory: pairs are written again and asked, beside others."""
    adam = torch.optim.Adam(model.parameters(), lr=3e-4)
    for _ in range(steps):
        numbers = torch.randperm(stream.pairs, generator=stream.generator)[: BLOCK + ASKED]
        model.write(stream.keys[numbers[:BLOCK]], stream.values(numbers[:BLOCK]))
        asked = torch.cat([numbers[: ASKED // 2], numbers[-(ASKED // 2) :]])
        _train_step(model, adam, stream, asked)


def systems(model: Recaller, stream: Stream, questions: int) -> dict[str, dict[str, float]]:
    """Accuracy, reads and seconds per question of each system, over the same stream and questions."""
    asked = torch.randperm(stream.pairs, generator=stream.generator)[:questions]
    keys, right = stream.keys[asked], stream.newest[asked]
    found: dict[str, dict[str, float]] = {}

    def note(name: str, answers: list[Tensor], reads: float, seconds: float) -> None:
        given = torch.cat(answers)
        accuracy = float((given == right[: len(given)]).float().mean())
        found[name] = {"accuracy": accuracy, "reads": reads, "seconds": seconds}

    with torch.no_grad():
        answers, reads, began = [], [], time.perf_counter()
        for part in torch.split(keys, BLOCK):
            score, read = model.ask(part)
            answers.append(score.argmax(dim=1))
            reads.append(read)
        seconds = (time.perf_counter() - began) / len(keys)
        note("written memory", answers, float(torch.cat(reads).mean()), seconds)
        sharper, answers, seconds = _full_softmax(model, keys, right)
        note("full softmax", answers, float(model.memory.cells), seconds)
        found["full softmax"]["sharper"] = sharper
        _product_keys(model, stream, keys, note)
    table = {key.tobytes(): int(value) for key, value in zip(stream.keys.numpy(), stream.newest, strict=True)}
    began = time.perf_counter()
    answers = [torch.tensor([table[key.tobytes()] for key in keys.numpy()])]
    note("hash table", answers, 1.0, (time.perf_counter() - began) / len(keys))
    return found


def _full_softmax(model: Recaller, keys: Tensor, right: Tensor) -> tuple[float, list[Tensor], float]:
    """A softmax over all cells: how much sharper than the reader's, its answers, and seconds per question.

    The reader learned its sharpness for K cells. Over a million, the many small weights need a higher one.
    """
    rows, half = model.memory.rows[0], min(FEW, len(keys)) // 2

    def answered(part: Tensor, factors: tuple[float, ...]) -> list[Tensor]:
        scale = 1 + functional.softplus(model.reader.scale(model.state(part)))
        score = scale * (model.query(part) @ rows[:, :FEATURES].T)
        values = (torch.softmax(factor * score, dim=1) @ rows[:, FEATURES:] for factor in factors)
        return [model.output(value).argmax(dim=1) for value in values]

    tried = [answered(part, SHARPER) for part in torch.split(keys[-half:], 64)]
    wrong = [
        int((torch.cat([part[place] for part in tried]) != right[-half:]).sum())
        for place in range(len(SHARPER))
    ]
    factor = SHARPER[wrong.index(min(wrong))]
    began = time.perf_counter()
    answers = [answered(part, (factor,))[0] for part in torch.split(keys[:half], 64)]
    return factor, answers, (time.perf_counter() - began) / half


def _product_keys(
    model: Recaller, stream: Stream, keys: Tensor, note: Callable[[str, list[Tensor], float, float], None]
) -> None:
    """A product-key memory with as many slots as the memory has cells, written with every pair."""
    sample = model.query(stream.keys[:: max(len(stream.keys) // (1 << 14), 1)])
    written = torch.randperm(stream.pairs, generator=stream.generator)
    for k in (1, K):
        memory = ProductKeys(sample, model.memory.cells, VALUES, k, 20.0)
        for numbers in torch.split(written, BLOCK):
            memory.write(model.query(stream.keys[numbers]), model.values(stream.newest[numbers]))
        answers, began = [], time.perf_counter()
        for part in torch.split(keys, BLOCK):
            read = memory.read(model.query(part))
            length = model.values.weight.square().sum(dim=1)
            answers.append((read @ model.values.weight.T - length / 2).argmax(dim=1))
        note(f"product keys, K={k}", answers, memory.reads, (time.perf_counter() - began) / len(keys))


def measure(
    log: Callable[[str], None],
    pairs: tuple[int, int] = (LEAST_PAIRS, MOST_PAIRS),
    steps: int = STEPS,
    first_steps: int = FIRST_STEPS,
    questions: int = QUESTIONS,
) -> dict[str, Any]:
    """Double the live pairs from the least to the most: train, then ask."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    model = Recaller(int(SMALL_PAIRS * 1.05))
    train_small(model, log, first_steps, generator)
    levels, live = [], pairs[0]
    while live <= pairs[1]:
        memory = WrittenMemory(int(1.05 * live), FEATURES, VALUES, index=INDEX)
        model.memory = model.reader.indexed = memory
        stream = Stream(live, generator)
        seconds = fill(model, stream)
        began = time.perf_counter()
        train_live(model, stream, steps)
        spent = (time.perf_counter() - began) / max(steps, 1)
        level: dict[str, Any] = {
            "pairs": live,
            "cells": memory.cells,
            "write_seconds": seconds,
            "step_seconds": spent,
        }
        level["systems"] = systems(model, stream, questions)
        levels.append(level)
        log(
            f"{live:,} pairs: {1e6 * seconds:.0f} us per write, {1e3 * spent:.0f} ms per step; "
            + ", ".join(f"{name} {found['accuracy']:.4f}" for name, found in level["systems"].items())
        )
        live = pairs[1] if live < pairs[1] < 2 * live else 2 * live
    return {"index": INDEX, "levels": levels, "questions": questions, "steps": steps, "seed": SEED}
