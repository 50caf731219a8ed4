"""A training run on disk and on screen: checkpoints, the metrics log, and the progress bar.

Beside the model's folder ``DIR`` lies ``DIR.run``: ``metrics.jsonl``, ``checkpoint`` (a bundle, while
training is unfinished) and, where TensorBoard is installed, its event files.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from hmn.errors import ConfigError
from hmn.qa.training.progress_bar import Display
from hmn.qa.training.trainer import Progress
from hmn.store.bundle import BundleReader, write_json, write_tensors, writing_bundle

LOG_FILE = "metrics.jsonl"

OnProgress = Callable[[int, int], None]
"""Called with the number of steps done and their total."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of an unfinished run."""

    progress: dict[str, Any]
    tensors: dict[str, Tensor]


class Run:
    """Watches one training run.

    Args:
        out: folder of the model, or None for a run that leaves nothing on disk.
        settings: all settings; a checkpoint of others is refused.
        data: fingerprint of facts and questions; a checkpoint of others is refused.
        checkpoint_seconds: time between checkpoints.
        quiet: show nothing.
    """

    def __init__(
        self, out: Path | None, *, settings: dict[str, Any], data: str, checkpoint_seconds: float, quiet: bool
    ) -> None:
        self.out, self.settings, self.data = out, settings, data
        self.checkpoint_seconds = checkpoint_seconds
        self.folder = None if out is None else out.with_name(out.name + ".run")
        self.finished = False
        self._display = Display(quiet)
        self._keep: Callable[[], None] = lambda: None
        self._on_progress: OnProgress | None = None
        self._saved_at = time.monotonic()
        self._total_steps = 0
        self._log: Any = None
        self._board: Any = None

    def prepare(self, *, resume: bool, overwrite: bool) -> Checkpoint | None:
        """Make the folder ready; gives the checkpoint to go on from, if that was asked for and there is one.

        Raises:
            ConfigError: something is there that was not asked to be resumed or overwritten, or the
                checkpoint is of a run with other settings or data.
        """
        if self.out is None or self.folder is None:
            if resume:
                raise ConfigError("resume needs the folder of the run, but no out was given: give out")
            return None
        unfinished = (self.folder / "checkpoint").exists()
        if resume and unfinished:
            return self._checkpoint()
        there = (self.out.exists() and any(self.out.iterdir())) if self.out.is_dir() else self.out.exists()
        if resume and there and self.folder.exists():
            self._display.log(f"{self.out}: training had finished; nothing is left to resume")
            self.finished = True
            return None
        if (there or unfinished) and not overwrite:
            kind = "an unfinished run" if unfinished else "something already"
            raise ConfigError(
                f"{self.out} holds {kind}: choose another folder, or ask to resume or overwrite"
            )
        if self.folder.exists():
            shutil.rmtree(self.folder)
        return None

    def _checkpoint(self) -> Checkpoint:
        assert self.folder is not None
        saved = BundleReader(self.folder / "checkpoint")
        state = saved.json("state.json")
        if state["data"] != self.data:
            raise ConfigError(
                f"{self.folder}: its checkpoint was made with other facts or questions: "
                "resume with the same files, or overwrite"
            )
        names = sorted({*state["settings"], *self.settings})
        changed = [
            f"{name} was {state['settings'].get(name)!r} and is {self.settings.get(name)!r}"
            for name in names
            if state["settings"].get(name) != self.settings.get(name)
        ]
        if changed:
            raise ConfigError(
                f"{self.folder}: its checkpoint has other settings ({'; '.join(changed)}): "
                "resume with the same settings, or overwrite"
            )
        return Checkpoint(state["progress"], saved.tensors("state.safetensors"))

    @contextmanager
    def watching(self, keep: Callable[[], None], on_progress: OnProgress | None = None) -> Iterator[Run]:
        """Show and log training.

        Args:
            keep: is called whenever the model is the best so far.
            on_progress: Called after every step with the steps done and their total.
        """
        self._keep, self._on_progress = keep, on_progress
        self._saved_at = time.monotonic()
        try:
            with self._display:
                yield self
        finally:
            if self._log is not None:
                self._log.close()
            if self._board is not None:
                self._board.close()

    def begin(self, progress: Progress, total_steps: int, steps_an_epoch: int) -> None:
        """See ``Watcher.begin``."""
        self._total_steps = total_steps
        self._display.begin(progress, total_steps, steps_an_epoch)
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / LOG_FILE
        # a line cut off by a kill, and records from after the checkpoint, are written again
        kept = _records(path, progress.step) if path.exists() else []
        path.write_text("".join(kept), encoding="utf-8")
        self._log = path.open("a", encoding="utf-8", buffering=1)
        self._board = _tensorboard(self.folder / "tensorboard", progress.step)

    def stepped(self, progress: Progress, record: dict[str, Any] | None) -> None:
        """See ``Watcher.stepped``."""
        self._display.stepped(progress)
        if self._on_progress is not None:
            self._on_progress(progress.step, self._total_steps)
        if record is not None:
            self._write(record)

    def epoch(self, figures: dict[str, Any], better: bool) -> None:
        """See ``Watcher.epoch``."""
        self._display.epoch(figures, better)
        self._write({**figures, "best": better})
        if better:
            self._keep()

    def checkpoint(self, save: Callable[[], tuple[dict[str, Any], dict[str, Tensor]]]) -> None:
        """See ``Watcher.checkpoint``: saves if there is none or the last one is old enough.

        As long as a run is unfinished it has a checkpoint, from its very beginning: that is how it is known.
        """
        if self.folder is None:
            return
        recent = time.monotonic() - self._saved_at < self.checkpoint_seconds
        if recent and (self.folder / "checkpoint").exists():
            return
        progress, tensors = save()
        with writing_bundle(self.folder / "checkpoint") as bundle:
            write_json(
                bundle, "state.json", {"progress": progress, "settings": self.settings, "data": self.data}
            )
            write_tensors(bundle, "state.safetensors", tensors)
        self._saved_at = time.monotonic()

    def finish(self) -> None:
        """Remove the checkpoint: the model is whole."""
        if self.folder is not None:
            shutil.rmtree(self.folder / "checkpoint", ignore_errors=True)

    def _write(self, record: dict[str, Any]) -> None:
        if self._log is not None:
            self._log.write(json.dumps({"time": time.time(), **record}) + "\n")
        if self._board is not None:
            for name, value in record.items():
                if isinstance(value, (int, float)) and name != "step":
                    self._board.add_scalar(name, value, record["step"])


def _records(path: Path, step: int) -> list[str]:
    """Lines of a log up to a step, without what cannot be read."""
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step and line.endswith("\n"):
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    return kept


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=step)
