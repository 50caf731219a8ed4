"""Associative recall among up to a million cells: many sequences share one memory, and ask it together.

A controller that was trained with a memory per sequence is trained further with one memory for all, whose
items differ in few bits. Then the sequences grow, until the memory holds nearly all items that there are, and
each asks for some of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bench.clusters import AT_EVERY_BUILD
from bench.writer.tasks import ITEM_BITS, ITEM_PARTS, recall
from bench.writer.training import FEATURES, LOOK, SEED, VALUES, train_step, wrong_bits
from hmn.nn.writing.controller import MemoryController
from hmn.nn.writing.memory import WrittenMemory

CELLS = (1_000, 10_000, 100_000, 1_000_000)
"""Numbers of cells that are written before the first question."""
SEQUENCES, QUESTIONS = 64, 8
"""Sequences that share the memory, and questions of each."""
STEPS, ITEMS, ASKED = 250, 8, 4
"""Further training: steps, and items and questions per sequence."""
ALIKE = 9
"""Bits in which items differ there: all items that differ in these are in the memory."""
RATE, SETTLED = 1e-3, 0.01
"""Learning rate of the further training, and the share of it that is left at the end."""
K = 4
"""Cells per read."""
INDEX = AT_EVERY_BUILD
"""Search structure of the memory."""


def train(controller: MemoryController, log: Callable[[str], None], steps: int) -> None:
    """Train with one memory for all sequences."""
    generator = torch.Generator().manual_seed(SEED)
    adam = torch.optim.Adam(controller.parameters(), lr=RATE)
    for step in range(steps):
        for part in adam.param_groups:
            part["lr"] = RATE * SETTLED ** (step / steps)
        episode = recall(SEQUENCES, ITEMS, generator, ASKED, shared=ALIKE)
        if step == 0:
            room = SEQUENCES * episode.inputs.shape[1]
            controller.network.memory = WrittenMemory(room, FEATURES, VALUES, linked=controller.memory.linked)
        wrong = train_step(controller, adam, episode)
        if (step + 1) % LOOK == 0:
            log(f"recall in one memory, step {step + 1}: {wrong:.4f} of the bits wrong")


def measure(
    controller: MemoryController,
    log: Callable[[str], None],
    cells: tuple[int, ...] = CELLS,
    steps: int = STEPS,
) -> dict[str, Any]:
    """Train further; then shares of wrong bits and answers, and reads per step, by the number of cells."""
    train(controller, log, steps)
    levels = []
    for count in cells:
        items = max(count // (SEQUENCES * (ITEM_PARTS + 1)), 2)
        generator = torch.Generator().manual_seed(SEED + count)
        episode = recall(SEQUENCES, items, generator, QUESTIONS, shared=ITEM_PARTS * ITEM_BITS)
        steps = episode.inputs.shape[1]
        trained, trained_k, controller.k = controller.memory, controller.k, K
        controller.network.memory = WrittenMemory(
            SEQUENCES * steps, FEATURES, VALUES, index=INDEX, linked=trained.linked
        )
        with torch.no_grad():
            outputs = controller(episode.inputs)
        last = controller.memory.last
        assert last is not None
        wrong = wrong_bits(outputs, episode).view(SEQUENCES, QUESTIONS, -1)
        levels.append(
            {
                "cells": SEQUENCES * items * (ITEM_PARTS + 1),
                "bits": float(wrong.float().mean()),
                "answers": float(wrong.any(2).float().mean()),
                "reads": float(last.reads.float().mean()),
            }
        )
        log(f"recall, {levels[-1]}")
        controller.network.memory, controller.k = trained, trained_k
    return {
        "levels": levels,
        "steps": steps,
        "trained": SEQUENCES * ITEMS * (ITEM_PARTS + 1),
        "sequences": SEQUENCES,
        "questions": QUESTIONS,
        "k": K,
        "index": INDEX,
        "seed": SEED,
    }
