"""Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from hmn.qa.training.trainer import Progress as TrainingProgress

LINE_SECONDS = 15.0
"""Seconds between two lines where there is no terminal."""


class Display:
    """Shows progress on standard error.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.console = Console(file=sys.stderr, quiet=quiet, highlight=False)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self._task: TaskID | None = None
        self._total = 0
        self._shown_at = self._began = time.monotonic()
        self._first_step = 0

    def log(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def __enter__(self) -> Display:
        """Start the bar of training."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the bar, also after an error."""
        self._bar.stop()

    @contextmanager
    def sweeping(self) -> Iterator[Callable[[int, int, str], None]]:
        """Show the progress of a sweep: structures done, their total, and what is being measured."""
        last = ""
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=self.console,
            transient=True,
            disable=self.quiet or not self.console.is_terminal,
        ) as bar:
            task = bar.add_task("", total=None)

            def on_progress(done: int, total: int, current: str) -> None:
                nonlocal last
                bar.update(task, description=current, completed=done, total=total)
                name = current.partition(":")[0]
                if not self.console.is_terminal and name != last:
                    last = name
                    self.log(f"measuring {name} ({done + 1} of {total})")

            yield on_progress

    @contextmanager
    def reading(self) -> Iterator[Callable[[int, int], None]]:
        """Show how many texts of cells a pretrained encoder has read, and of how many."""
        shown_at = time.monotonic()
        with Progress(
            TextColumn("reading the cells"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=self.quiet or not self.console.is_terminal,
        ) as bar:
            task = bar.add_task("reading", total=None)

            def on_progress(done: int, total: int) -> None:
                nonlocal shown_at
                bar.update(task, completed=done, total=total)
                if not self.console.is_terminal and time.monotonic() - shown_at >= LINE_SECONDS:
                    shown_at = time.monotonic()
                    self.log(f"reading the cells: {done:,} of {total:,}")

            yield on_progress

    def begin(self, progress: TrainingProgress, total_steps: int) -> None:
        """See ``Watcher.begin``."""
        self._total, self._first_step = total_steps, progress.step
        self._task = self._bar.add_task(
            "training", total=total_steps, completed=progress.step, loss=progress.running_loss
        )
        self._shown_at = self._began = time.monotonic()
        if progress.step:
            self.log(f"resumed at step {progress.step} of {total_steps}")

    def stepped(self, progress: TrainingProgress) -> None:
        """See ``Watcher.stepped``."""
        if self._task is not None:
            self._bar.update(self._task, completed=progress.step, loss=progress.running_loss)
        now = time.monotonic()
        if self.console.is_terminal or now - self._shown_at < LINE_SECONDS:
            return
        self._shown_at = now
        left = (now - self._began) / (progress.step - self._first_step) * (self._total - progress.step)
        self.log(f"step {progress.step}/{self._total}  loss {progress.running_loss:.3f}  {left:.0f} s left")

    def epoch(self, figures: dict[str, Any], better: bool) -> None:
        """See ``Watcher.epoch``."""
        shown = {
            "facts": figures.get("valid_fact_accuracy"),
            "pairs": figures.get("valid_pair_accuracy"),
            "answers": figures.get("valid_answer_accuracy"),
        }
        accuracies = "  ".join(f"{name} {value:.1%}" for name, value in shown.items() if value is not None)
        mark = "  (best so far)" if better and accuracies else ""
        self.log(f"epoch {figures['epoch']}  loss {figures['loss']:.3f}  {accuracies}{mark}")
