"""A training run on disk and on screen: checkpoints, the log of metrics and the progress bar.

The folder ``DIR.run`` is next to the model's folder ``DIR``. It holds ``metrics.jsonl``, a bundle
``checkpoint`` until training is finished and, if TensorBoard is installed, its event files.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hmn.errors import ConfigError
from hmn.qa.training.progress_bar import Display
from hmn.qa.training.trainer import Progress
from hmn.store.atomic import explaining, uninterrupted
from hmn.store.bundle import BundleReader, check_writable, write_json, write_tensors, writing_bundle
from hmn.store.contents import fitting, record_of
from hmn.store.manifest import MANIFEST
from hmn.store.replace import discard, find_bundle

if TYPE_CHECKING:
    from hmn.distributed.collectives import Ranks

CHECKPOINT = "checkpoint"
"""Name of the bundle of an unfinished run's state."""
LOG_FILE = "metrics.jsonl"
"""Name of the log of metrics."""

WITHOUT_EFFECT = frozenset({"checkpoint_seconds"})
"""Settings that do not change the result: a run may be resumed with other ones."""

OnProgress = Callable[[int, int], None]
"""Called with the number of steps done and their total."""


@dataclass(frozen=True)
class Checkpoint:
    """State of an unfinished run."""

    progress: dict[str, Any]
    """Fields of ``Progress``."""
    tensors: dict[str, Tensor]
    """Weights, optimisers, snapshot, index and random numbers; see ``Trainer.state``."""
    folder: Path
    """Folder that it was read from."""


@dataclass(frozen=True)
class _Saved:
    """Content of a checkpoint's ``state.json``."""

    progress: dict[str, Any]
    settings: dict[str, Any]
    data: str


class Run:
    """Watches one training run; see ``Watcher``.

    Args:
        out: Folder of the model, or None for a run that leaves nothing on disk.
        settings: All settings. A checkpoint with other settings is refused.
        data: Fingerprint of facts and questions. A checkpoint with other data is refused.
        checkpoint_seconds: Seconds between checkpoints.
        quiet: Show nothing.
        ranks: Processes that train together, if there are several. They take the same steps; rank 0 writes
            and shows, and the others read from the same folders.
    """

    def __init__(
        self,
        out: Path | None,
        *,
        settings: dict[str, Any],
        data: str,
        checkpoint_seconds: float,
        quiet: bool,
        ranks: Ranks | None = None,
    ) -> None:
        self.out, self.settings, self.data, self.ranks = out, settings, data, ranks
        self.checkpoint_seconds = checkpoint_seconds
        self._leads = ranks is None or ranks.rank == 0
        self._place = None if out is None else out.with_name(out.name + ".run")
        self.folder = self._place if self._leads else None  # which is written to
        self.finished = False
        self.quiet = quiet or not self._leads
        self._display = Display(self.quiet)
        self._keep: Callable[[], None] = lambda: None
        self._on_progress: OnProgress | None = None
        self._saved_at = time.monotonic()
        self._total_steps = 0
        self._log: Any = None
        self._board: Any = None

    def prepare(self, *, resume: bool, overwrite: bool) -> Checkpoint | None:
        """Prepare the folder, and return the checkpoint to resume from, if there is one to resume.

        Raises:
            ConfigError: A model or an unfinished run exists that is neither to be resumed nor overwritten, or
                the checkpoint or another rank has other settings or data.
            BundleError: The checkpoint is damaged, or the folder cannot be written.
        """
        if self.ranks is None:
            return self._prepare(resume, overwrite)
        run = json.dumps([self.data, self.settings], sort_keys=True, default=repr)
        self.ranks.check_same(run.encode(), "facts, questions or settings of training")
        checkpoint: Checkpoint | None = None

        def prepare() -> bytes:
            nonlocal checkpoint
            checkpoint = self._prepare(resume, overwrite)
            return bytes([self.finished, checkpoint is not None])

        finished, resumes = self.ranks.from_first(prepare, "what there is to resume")
        self.finished = bool(finished)
        return self._checkpoint() if resumes and not self._leads else checkpoint

    def _prepare(self, resume: bool, overwrite: bool) -> Checkpoint | None:
        """See ``prepare``; one process of several does it."""
        if self.out is None or self.folder is None:
            if resume:
                raise ConfigError("resume needs the folder of the run, but no out was given: give out")
            return None
        with explaining("write", self.out):
            # a crash may have left the checkpoint set aside; without a manifest it is what a removal has left
            unfinished = (find_bundle(self.folder / CHECKPOINT) / MANIFEST).exists()
            occupied = any(self.out.iterdir()) if self.out.is_dir() else self.out.exists()
        if resume and not unfinished and occupied and self.folder.exists():
            self._display.log(f"{self.out}: training has finished, so there is nothing to resume")
            self.finished = True
            return None
        resumes = resume and unfinished
        if (occupied or unfinished) and not (resumes or overwrite):
            content = "an unfinished run" if unfinished else "something already"
            raise ConfigError(
                f"{self.out} holds {content}: choose another folder, or ask to resume or "
                "overwrite (--resume, --overwrite)"
            )
        check_writable(self.out)
        if not resumes:
            with explaining("remove", self.folder):
                discard(self.folder)
        checkpoint = self._checkpoint() if resumes else None
        check_writable(self.folder / CHECKPOINT)
        return checkpoint

    def _checkpoint(self) -> Checkpoint:
        """Read the checkpoint, and refuse it if it is of a run with other settings or data."""
        assert self._place is not None
        saved = BundleReader(self._place / CHECKPOINT)
        file = saved.file("state.json")
        with fitting(file):
            state = record_of(_Saved, saved.json(file.name))
        if state.data != self.data:
            raise ConfigError(
                f"{self._place}: its checkpoint was made with other facts or questions: "
                "resume with the same files, or overwrite"
            )
        changed = [
            f"{name} was {state.settings.get(name)!r} and is {self.settings.get(name)!r}"
            for name in sorted((state.settings.keys() | self.settings.keys()) - WITHOUT_EFFECT)
            if state.settings.get(name) != self.settings.get(name)
        ]
        if changed:
            raise ConfigError(
                f"{self._place}: its checkpoint has other settings ({'; '.join(changed)}): "
                "resume with the same settings, or overwrite"
            )
        return Checkpoint(state.progress, saved.tensors("state.safetensors"), file.parent)

    @contextmanager
    def watching(self, keep: Callable[[], None], on_progress: OnProgress | None = None) -> Iterator[Run]:
        """Show and log training.

        Args:
            keep: Called whenever the model is the best so far.
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

    def begin(self, progress: Progress, total_steps: int) -> None:
        """See ``Watcher.begin``."""
        self._total_steps = total_steps
        self._display.begin(progress, total_steps)
        if self.folder is None:
            return
        path = self.folder / LOG_FILE
        with explaining("write", path):
            self.folder.mkdir(parents=True, exist_ok=True)
            # drop a line that a kill has cut off, and records made after the checkpoint, which are repeated
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
        """See ``Watcher.checkpoint``. Saves if there is no checkpoint yet, or the last one is old enough.

        A run has a checkpoint from its first step until it is finished; this marks it as unfinished.
        """
        if self._place is None or not self._all_agree(self._is_due):
            return
        progress, tensors = save()

        def write() -> bool:
            with writing_bundle(self._place / CHECKPOINT) as bundle:  # type: ignore[operator]
                write_json(
                    bundle, "state.json", {"progress": progress, "settings": self.settings, "data": self.data}
                )
                write_tensors(bundle, "state.safetensors", tensors)
            return True

        self._all_agree(write)
        self._saved_at = time.monotonic()

    def _is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        recent = time.monotonic() - self._saved_at < self.checkpoint_seconds
        return not (recent and self.folder is not None and (self.folder / CHECKPOINT).exists())

    def _all_agree(self, work: Callable[[], bool]) -> bool:
        """What some work of rank 0 says, on every rank."""
        if self.ranks is None:
            return work()
        return self.ranks.from_first(lambda: bytes([work()]), "a checkpoint") == bytes([True])

    def finish(self) -> None:
        """Remove the checkpoint, since the model is complete."""
        if self.folder is not None:
            with uninterrupted():
                discard(self.folder / CHECKPOINT)

    def _write(self, record: dict[str, Any]) -> None:
        if self._log is not None and self.folder is not None:
            with explaining("write", self.folder / LOG_FILE):
                self._log.write(json.dumps({"time": time.time(), **record}) + "\n")
        if self._board is not None:
            for name, value in record.items():
                if isinstance(value, (int, float)) and name != "step":
                    self._board.add_scalar(name, value, record["step"])


def _records(path: Path, step: int) -> list[str]:
    """Lines of a log up to a step, without lines that cannot be read."""
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
