"""Time and memory per step of a written memory beside a dense one, from a thousand to a million cells.

The same controller drives both, in one process: forward and backward over a few steps, one sequence. The
dense memory reads and writes all N cells at each step.
"""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch.nn import functional

from bench.clusters import AT_EVERY_BUILD
from bench.writer.dense import DenseMemory
from hmn.nn.writing.controller import MemoryController
from hmn.nn.writing.memory import WrittenMemory

CELLS = (1_000, 10_000, 100_000, 1_000_000)
"""Cells of the memories, N."""
FEATURES, VALUES, HIDDEN, K, HEADS = 32, 32, 100, 4, 4
"""Sizes of keys, values and controller, cells per read and write, and heads, as in Rae et al. 2016."""
STEPS, DENSE_STEPS = 50, 3
"""Steps of a sequence; the dense memory of a million cells has no room for more than the second."""
ROUNDS = 5
"""Sequences that are timed; the median counts. The first one before them warms up."""
INDEX = AT_EVERY_BUILD
"""Search structure of the written memory."""
SEED = 0
"""Seed of the weights, the first rows and the inputs."""


def resident() -> int:
    """Bytes of memory that this process holds now."""
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
    return int(pages) * 4096


def settle() -> None:
    """Give freed memory back, so that what is held can be compared."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def step_costs(controller: MemoryController, steps: int, rounds: int) -> dict[str, float]:
    """Seconds and bytes per step of training: forward, then backward."""
    inputs = torch.randn(rounds + 1, 1, steps, 8, generator=torch.Generator().manual_seed(SEED))
    seconds, held = [], []
    for number in range(rounds + 1):
        controller.zero_grad()
        controller.begin()
        settle()
        before, began = resident(), time.perf_counter()
        outputs = [controller.step(now) for now in inputs[number].unbind(1)]
        forward = time.perf_counter() - began
        after = resident()
        began = time.perf_counter()
        torch.cat(outputs).square().mean().backward()  # type: ignore[no-untyped-call]
        if number:
            seconds.append((forward + time.perf_counter() - began) / steps)
            held.append((after - before) / steps)
        del outputs
    return {"seconds": statistics.median(seconds), "bytes": statistics.median(held)}


def measure(
    log: Callable[[str], None],
    cells: tuple[int, ...] = CELLS,
    steps: int = STEPS,
    dense_steps: int = DENSE_STEPS,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """Costs of both memories for each number of cells."""
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"index": INDEX, "steps": steps, "dense_steps": dense_steps, "cells": {}}
    for count in cells:
        generator = torch.Generator().manual_seed(SEED)
        first = functional.normalize(torch.randn(count, FEATURES, generator=generator), dim=1)
        rows = torch.cat([first, torch.randn(count, VALUES, generator=generator)], dim=1)
        costs = {}
        for kind in ("written", "dense"):
            torch.manual_seed(SEED)
            written = WrittenMemory(count, FEATURES, VALUES, index=INDEX, initial=rows)
            controller = MemoryController(8, 8, written, hidden=HIDDEN, k=K, heads=HEADS)
            if kind == "dense":
                dense = DenseMemory(count, FEATURES, VALUES, initial=rows)
                controller.network.memory = cast(WrittenMemory, dense)
                controller.k = count
                writer = controller.network.writer
                assert writer is not None
                writer.k = count  # type: ignore[attr-defined]
            costs[kind] = step_costs(controller, steps if kind == "written" else dense_steps, rounds)
            log(
                f"{count:,} cells, {kind}: {costs[kind]['seconds'] * 1e3:.2f} ms and "
                f"{costs[kind]['bytes'] / 2**20:.3f} MiB per step"
            )
        figures["cells"][str(count)] = costs
    return figures
