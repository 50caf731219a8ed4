"""Trains a controller on a task by curriculum, and asks it for sequences of ten times the trained length."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from bench.writer.tasks import ITEM_PARTS, TASKS, Episode, recall
from hmn.nn.writing.controller import MemoryController
from hmn.nn.writing.memory import WrittenMemory

FEATURES, VALUES, BATCH, LOOK = 32, 16, 64, 25
"""Sizes of the memory, sequences per step, and steps between two looks at the error."""
TIMES_LONGER = (1, 2, 5, 10)
"""Lengths of the test, in units of the longest trained length."""
TESTED, AT_ONCE = 64, 4096
"""Sequences per tested length, and vectors or items of all that are tested at once."""
SEED = 0
"""Seed of weights, episodes and tests."""


class Setting(NamedTuple):
    """How a task is trained.

    Attributes:
        longest: longest trained length.
        steps: steps of training.
        window: inputs that the core and the heads see, the newest included.
        linked: whether reads may follow the order of writing.
        unit: whether keys have length 1.
        tested_k: cells per read in tests.
        passed: share of wrong bits at which the length doubles.
        learning_rate: that of AdamW at first.
        settled: share of it that is left at the end; it falls exponentially.
        shrink: weight decay of AdamW.
        queries: questions per sequence in training, for recall.
    """

    longest: int
    steps: int
    window: int
    linked: bool = True
    unit: bool = True
    tested_k: int = 4
    passed: float = 0.02
    learning_rate: float = 3e-3
    settled: float = 0.01
    shrink: float = 0.0
    queries: int = 1


SETTINGS = {
    "copy": Setting(16, 1_500, 2),
    "recall": Setting(8, 800, 5, queries=4),
    "sort": Setting(16, 4_000, 1, linked=False, unit=False, tested_k=1, passed=0.05, shrink=0.3),
}
"""Settings of the tasks."""


def memory_of(task: str, setting: Setting, length: int, sequences: int) -> WrittenMemory:
    """A memory with room for all steps of a sequence."""
    steps = TASKS[task].make(1, length, torch.Generator()).inputs.shape[1]
    room = steps + 2 * (ITEM_PARTS + 1) * (setting.queries - 1)
    return WrittenMemory(room, FEATURES, VALUES, sequences=sequences, linked=setting.linked)


def controller_of(task: str, setting: Setting, sequences: int = BATCH) -> MemoryController:
    """A controller before its training."""
    torch.manual_seed(SEED)
    return MemoryController(
        TASKS[task].inputs,
        TASKS[task].outputs,
        memory_of(task, setting, setting.longest, sequences),
        core="window",
        window=setting.window,
        beside=setting.window,
        sees_reads=False,
        rewrites="read",
        unit=setting.unit,
    )


def wrong_bits(outputs: torch.Tensor, episode: Episode) -> torch.Tensor:
    """Which bits ``(S, A, bits)`` are wrong where the outputs are asked."""
    return (outputs[:, episode.asked] > 0) != (episode.target > 0.5)


def errors(controller: MemoryController, task: str, setting: Setting, length: int) -> dict[str, float]:
    """Shares of wrong bits and of sequences with a wrong bit."""
    generator, at_once = torch.Generator().manual_seed(SEED + length), max(min(TESTED, AT_ONCE // length), 1)
    (trained_k, controller.k), trained = (controller.k, setting.tested_k), controller.memory
    controller.network.memory = memory_of(task, setting, length, at_once)
    wrong = []
    with torch.no_grad():
        for _ in range(-(-TESTED // at_once)):
            episode = TASKS[task].make(at_once, length, generator)
            wrong.append(wrong_bits(controller(episode.inputs), episode).flatten(1))
    controller.k, controller.network.memory = trained_k, trained
    bits = torch.cat(wrong)
    return {
        "length": length,
        "bits": float(bits.float().mean()),
        "sequences": float(bits.any(1).float().mean()),
    }


def train(
    task: str, log: Callable[[str], None], setting: Setting | None = None, batch: int = BATCH
) -> tuple[MemoryController, dict[str, Any]]:
    """Train by curriculum, doubling the length; then test. The controller, and what was measured."""
    setting = SETTINGS[task] if setting is None else setting
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    controller = controller_of(task, setting, batch)
    adam = torch.optim.AdamW(controller.parameters(), lr=setting.learning_rate, weight_decay=setting.shrink)
    length, began, looks = 2, time.process_time(), []
    recent: list[float] = []
    for step in range(setting.steps):
        for part in adam.param_groups:
            part["lr"] = setting.learning_rate * setting.settled ** (step / setting.steps)
        # every second batch is shorter, so that short sequences are not forgotten
        drawn = int(torch.randint(1, length + 1, (1,), generator=generator)) if step % 2 else length
        if task == "recall":
            episode = recall(batch, drawn, generator, setting.queries)
        else:
            episode = TASKS[task].make(batch, drawn, generator)
        outputs = controller(episode.inputs)
        loss = functional.binary_cross_entropy_with_logits(outputs[:, episode.asked], episode.target)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(controller.parameters(), 1.0)
        adam.step()
        recent.append(float(wrong_bits(outputs.detach(), episode).float().mean()))
        if (step + 1) % LOOK == 0:
            error = sum(recent[-LOOK:]) / LOOK
            looks.append({"step": step + 1, "length": length, "bits": error})
            log(f"{task}, step {step + 1}, length {length}: {error:.4f} of the bits wrong")
            if error < setting.passed:
                length = min(2 * length, setting.longest)
    spent = time.process_time() - began
    tests = [errors(controller, task, setting, times * setting.longest) for times in TIMES_LONGER]
    for found in tests:
        log(
            f"{task}, length {found['length']}: {found['bits']:.4f} of the bits wrong, "
            f"{found['sequences']:.3f} of the sequences"
        )
    return controller, {
        "setting": setting._asdict(),
        "reached": length,
        "processor_seconds": round(spent, 1),
        "looks": looks,
        "tests": tests,
        "seed": SEED,
    }
