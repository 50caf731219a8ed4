"""Trains a controller on a task by curriculum, and asks it for sequences of ten times the trained length."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from bench.writer.tasks import TASKS, Episode, recall
from hmn.nn.writing.controller import MemoryController
from hmn.nn.writing.memory import WrittenMemory

FEATURES, VALUES, BATCH, LOOK = 16, 16, 16, 50
"""Sizes of the memory, sequences per step, and steps between two looks at the error."""
TIMES_LONGER = (1, 2, 5, 10)
"""Lengths of the test, in units of the length that training reached."""
TESTED = 32
"""Sequences per tested length."""
SEED = 0
"""Seed of weights, episodes and tests."""


class Setting(NamedTuple):
    """How a task is trained.

    Attributes:
        longest: longest trained length.
        window: inputs that the Transformer block attends to.
        linked: whether reads may follow the order of writing.
        unit: whether keys have length 1.
        tested_k: cells per read in tests.
        passed: share of wrong bits at which the length doubles.
        learning_rate: that of Adam.
        queries: questions per sequence in training, for recall.
    """

    longest: int
    window: int
    linked: bool = True
    unit: bool = True
    tested_k: int = 4
    passed: float = 0.02
    learning_rate: float = 3e-3
    queries: int = 1


SETTINGS = {
    "copy": Setting(16, 2, passed=0.04),
    "recall": Setting(8, 5, passed=0.05),
    "sort": Setting(16, 2, linked=False, unit=False, tested_k=1, passed=0.04),
}
"""Settings of the tasks."""


def _memory(task: str, setting: Setting, length: int, sequences: int) -> WrittenMemory:
    """A memory with room for all steps of a sequence."""
    steps = TASKS[task].make(1, length, torch.Generator()).inputs.shape[1] + 8 * setting.queries
    return WrittenMemory(steps, FEATURES, VALUES, sequences=sequences, linked=setting.linked)


def errors(controller: MemoryController, task: str, setting: Setting, length: int) -> dict[str, float]:
    """Shares of wrong bits and of sequences with a wrong bit."""
    generator, at_once = torch.Generator().manual_seed(SEED + length), max(min(TESTED, 2048 // length), 1)
    trained, controller.k = controller.k, setting.tested_k
    controller.network.memory = _memory(task, setting, length, at_once)
    wrong = []
    with torch.no_grad():
        for _ in range(-(-TESTED // at_once)):
            episode = TASKS[task].make(at_once, length, generator)
            wrong.append(_wrong(controller(episode.inputs), episode).flatten(1))
    controller.k = trained
    bits = torch.cat(wrong)
    return {
        "length": length,
        "bits": float(bits.float().mean()),
        "sequences": float(bits.any(1).float().mean()),
    }


def _wrong(outputs: torch.Tensor, episode: Episode) -> torch.Tensor:
    return (outputs[:, episode.asked] > 0) != (episode.target > 0.5)


def train(
    task: str, log: Callable[[str], None], seconds: float, setting: Setting | None = None, batch: int = BATCH
) -> dict[str, Any]:
    """Train for some seconds, doubling the length; then test."""
    setting = SETTINGS[task] if setting is None else setting
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    made = _memory(task, setting, setting.longest, batch)
    sizes = TASKS[task]
    controller = MemoryController(
        sizes.inputs,
        sizes.outputs,
        made,
        core="transformer",
        window=setting.window,
        rewrites="read",
        unit=setting.unit,
    )
    adam = torch.optim.Adam(controller.parameters(), lr=setting.learning_rate)
    length, steps, began, looks = 2, 0, time.perf_counter(), []
    recent: list[float] = []
    least, best = 1.0, controller.state_dict()
    while (spent := time.perf_counter() - began) < seconds:
        for part in adam.param_groups:  # the last third of the time settles
            part["lr"] = setting.learning_rate * min(1.0, 0.05 + 3 * (1 - spent / seconds))
        drawn = int(torch.randint(1, length + 1, (1,), generator=generator)) if steps % 2 else length
        if task == "recall":
            episode = recall(batch, drawn, generator, setting.queries)
        else:
            episode = sizes.make(batch, drawn, generator)
        outputs = controller(episode.inputs)
        loss = functional.binary_cross_entropy_with_logits(outputs[:, episode.asked], episode.target)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(controller.parameters(), 1.0)
        adam.step()
        recent.append(float(_wrong(outputs.detach(), episode).float().mean()))
        steps += 1
        if steps % LOOK == 0:
            error = sum(recent[-LOOK:]) / LOOK
            looks.append({"step": steps, "length": length, "bits": error})
            log(f"{task}, step {steps}, {spent:.0f} s, length {length}: {error:.4f} of the bits wrong")
            if error <= least:  # the best of the longest length
                least, best = error, {name: part.clone() for name, part in controller.state_dict().items()}
            if error < setting.passed and length < setting.longest:
                length, least = min(2 * length, setting.longest), 1.0
    controller.load_state_dict(best)
    tests = [errors(controller, task, setting, times * length) for times in TIMES_LONGER]
    for found in tests:
        log(
            f"{task}, length {found['length']}: {found['bits']:.4f} of the bits wrong, "
            f"{found['sequences']:.3f} of the sequences"
        )
    return {
        "setting": setting._asdict(),
        "reached": length,
        "steps": steps,
        "seconds": seconds,
        "looks": looks,
        "tests": tests,
        "seed": SEED,
    }
