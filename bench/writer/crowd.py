"""Associative recall among up to a million cells: many sequences share one memory, and ask it together.

A controller that was trained on a few items stores the items of all sequences, all different, three vectors
and a sign each. Then each sequence asks for some of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bench.writer.tasks import ITEM_PARTS, recall
from bench.writer.training import FEATURES, SEED, VALUES, wrong_bits
from hmn.nn.writing.controller import MemoryController
from hmn.nn.writing.memory import WrittenMemory

CELLS = (1_000, 10_000, 100_000, 1_000_000)
"""Numbers of cells that are written before the first question."""
SEQUENCES, QUESTIONS = 64, 8
"""Sequences that share the memory, and questions of each."""
INDEX = "cluster"
"""Search structure of the memory."""


def measure(
    controller: MemoryController, log: Callable[[str], None], cells: tuple[int, ...] = CELLS
) -> dict[str, Any]:
    """Shares of wrong bits and answers, and reads per step, by the number of cells."""
    levels = []
    for count in cells:
        items = max(count // (SEQUENCES * (ITEM_PARTS + 1)), 2)
        generator = torch.Generator().manual_seed(SEED + count)
        episode = recall(SEQUENCES, items, generator, QUESTIONS, apart=True)
        steps = episode.inputs.shape[1]
        trained, trained_k, controller.k = controller.memory, controller.k, 1
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
    return {"levels": levels, "sequences": SEQUENCES, "questions": QUESTIONS, "index": INDEX, "seed": SEED}
