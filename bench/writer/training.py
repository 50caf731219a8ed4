"""Trains a controller on a task by curriculum, and asks it for sequences of ten times the trained length."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch.nn import functional

from bench.writer.tasks import ITEM_PARTS, TASKS, Episode, recall, sort
from hmn.nn.writing.controller import MemoryController
from hmn.nn.writing.heads import CellReader, CellWriter
from hmn.nn.writing.memory import WrittenMemory

FEATURES, VALUES, BATCH, LOOK = 32, 16, 64, 25
"""Sizes of the memory, sequences per step, and steps between two looks at the error."""
TIMES_LONGER = (1, 2, 5, 10)
"""Lengths of the test, in units of the longest trained length."""
TESTED, AT_ONCE = 64, 4096
"""Sequences per tested length, and vectors or items of all that are tested at once."""
SHORT, CLOSER = 8, 1.4
"""Longest sequence of priorities that are close, and by how much closer they come when the error is low."""
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
        learning_rate: that of Adam at first.
        settled: share of it that is left at the end; it falls exponentially.
        slower: how much lower the rate is for longer sequences: its exponent of 2 per length.
        queries: questions per sequence in training, for recall.
        changed: the share of a write that goes to the cells read last, at first, as a logit.
        plain: whether keys stay linear in the inputs beside the core's state, as they are at first.
        hard: share of the steps after which reads are hard, and most sequences of ``sort`` short and of
            priorities that lie ever closer to each other.
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
    slower: float = 0.0
    queries: int = 1
    changed: float = -4.0
    plain: bool = False
    hard: float = 1.0


SETTINGS = {
    "copy": Setting(16, 1_500, 2),
    "recall": Setting(8, 800, 5, queries=4),
    "sort": Setting(
        16,
        6_000,
        1,
        linked=False,
        unit=False,
        tested_k=1,
        passed=0.05,
        settled=0.01,
        slower=0.7,
        changed=-1.0,
        plain=True,
        hard=0.25,
    ),
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
    made = MemoryController(
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
    writer = cast(CellWriter, made.network.writer)
    torch.nn.init.constant_(writer.mix.bias, setting.changed)
    if setting.plain:
        plain = torch.zeros_like(writer.key.weight)
        plain[:, -setting.window * TASKS[task].inputs :] = 1  # the inputs come last
        writer.key.weight.register_hook(lambda gradient: gradient * plain)  # type: ignore[no-untyped-call]
    return made


def wrong_bits(outputs: torch.Tensor, episode: Episode) -> torch.Tensor:
    """Which bits ``(S, A, bits)`` are wrong where the outputs are asked."""
    return (outputs[:, episode.asked] > 0) != (episode.target > 0.5)


def train_step(controller: MemoryController, adam: torch.optim.Optimizer, episode: Episode) -> float:
    """One step of training; the share of wrong bits before it."""
    outputs = controller(episode.inputs)
    loss = functional.binary_cross_entropy_with_logits(outputs[:, episode.asked], episode.target)
    adam.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(controller.parameters(), 1.0)
    adam.step()
    return float(wrong_bits(outputs.detach(), episode).float().mean())


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


class Course:
    """The curriculum: sequences grow; in the end, most are short ones of priorities that come ever closer.

    Args:
        task: name of the task.
        setting: how it is trained.
        batch: sequences per step.
    """

    def __init__(self, task: str, setting: Setting, batch: int) -> None:
        self.task, self.setting, self.batch = task, setting, batch
        self.generator = torch.Generator().manual_seed(SEED)
        self.length, self.width = 2, 1.0
        self._close = False  # whether the priorities of the last episode are close
        self._wrong: dict[bool, list[float]] = {False: [], True: []}  # by that, since the last look

    def episode(self, step: int) -> Episode:
        """The sequences of a step; every second batch is shorter, so that short ones are not forgotten."""
        length = self.length
        if step % 2:
            length = int(torch.randint(1, length + 1, (1,), generator=self.generator))
        hard = step >= self.setting.hard * self.setting.steps
        self._close = hard and self.task == "sort" and step % 4 != 0
        if self._close:
            return sort(self.batch, min(length, SHORT), self.generator, self.width)
        if self.task == "recall":
            return recall(self.batch, length, self.generator, self.setting.queries)
        return TASKS[self.task].make(self.batch, length, self.generator)

    def note(self, wrong: float) -> None:
        """Note the share of wrong bits of the last episode."""
        self._wrong[self._close].append(wrong)

    def look(self, step: int) -> dict[str, float]:
        """Go on where the error is low; what was seen."""
        seen: dict[str, float] = {"step": step, "length": self.length, "width": self.width}
        for close, name in ((False, "bits"), (True, "close bits")):
            if not self._wrong[close]:
                continue
            seen[name] = sum(self._wrong[close]) / len(self._wrong[close])
            if seen[name] < self.setting.passed and close:
                self.width /= CLOSER
            elif seen[name] < self.setting.passed:
                self.length = min(2 * self.length, self.setting.longest)
            self._wrong[close] = []
        return seen


def train(
    task: str, log: Callable[[str], None], setting: Setting | None = None, batch: int = BATCH
) -> tuple[MemoryController, dict[str, Any]]:
    """Train by curriculum; then test. The controller, and what was measured."""
    setting = SETTINGS[task] if setting is None else setting
    torch.set_num_threads(1)
    controller, course = controller_of(task, setting, batch), Course(task, setting, batch)
    adam = torch.optim.Adam(controller.parameters(), lr=setting.learning_rate)
    began, looks = time.process_time(), []
    for step in range(setting.steps):
        settled = setting.settled ** (step / setting.steps)
        for part in adam.param_groups:
            part["lr"] = setting.learning_rate * settled * (2 / course.length) ** setting.slower
        cast(CellReader, controller.network.reader).hard = step >= setting.hard * setting.steps
        episode = course.episode(step)
        course.note(train_step(controller, adam, episode))
        if (step + 1) % LOOK == 0:
            looks.append(course.look(step + 1))
            log(f"{task}, {looks[-1]}")
    spent = time.process_time() - began
    tests = [errors(controller, task, setting, times * setting.longest) for times in TIMES_LONGER]
    for found in tests:
        log(
            f"{task}, length {found['length']}: {found['bits']:.4f} of the bits wrong, "
            f"{found['sequences']:.3f} of the sequences"
        )
    return controller, {
        "setting": setting._asdict(),
        "reached": course.length,
        "width": course.width,
        "processor_seconds": round(spent, 1),
        "looks": looks,
        "tests": tests,
        "seed": SEED,
    }
