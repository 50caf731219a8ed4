"""The training loop: batches of questions through the network, and figures on held-out questions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hmn.facts.questions import QuestionSet
from hmn.index.protocol import Teachable
from hmn.nn.loss import marginal_nll, sampled_nll
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.renewal import RollingRenewal
from hmn.nn.network import MemoryNetwork
from hmn.nn.weights import load_weights, weights_of
from hmn.qa.answer import Answer
from hmn.qa.config import TrainConfig
from hmn.qa.encoders.fact import FactEncoder
from hmn.qa.encoders.saved_tables import packed_tables, unpacked_tables
from hmn.qa.encoders.tables import check_counts
from hmn.qa.metrics import Evaluation
from hmn.qa.text import Texts
from hmn.qa.training.artificial_questions import ArtificialQuestions
from hmn.qa.training.optim import Optimisers
from hmn.qa.training.query_log import QueryLog
from hmn.qa.training.search_depth import SearchDepth
from hmn.qa.training.targets import Targets
from hmn.store.contents import check_finite, record_of, tensor_like
from hmn.store.rows import packed_blocks, unpacked_blocks

if TYPE_CHECKING:
    from hmn.distributed.collectives import Ranks

RECORD_STEPS = 20
"""Number of steps between two records of the log."""
TOGETHER = 10
"""Number of steps whose due keys are encoded again together, if the index follows training."""
TAUGHT_AFTER = (32, 64, 128, 256)
"""Numbers of steps after which an index learns how far to search, besides the end of every epoch."""


@dataclass
class Progress:
    """State of training that a checkpoint keeps besides the tensors."""

    step: int = 0
    """Number of steps taken."""
    best: float = -1.0
    """Best figure on held-out questions."""
    best_epoch: int = -1
    """Epoch that had it, from 1; -1 before the first one."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """Figures of each finished epoch."""
    running_loss: float = 0.0
    """Smoothed loss of recent steps."""
    depth: int | None = None
    """Effort of the index if it was tuned; see ``SearchDepth.effort``."""


class Watcher(Protocol):
    """Follows training: draws the bar, writes the log and saves checkpoints."""

    def begin(self, progress: Progress, total_steps: int) -> None:
        """Training begins, or resumes."""
        ...

    def stepped(self, progress: Progress, record: dict[str, Any] | None) -> None:
        """A step was taken. Every ``RECORD_STEPS`` steps there is a record of it."""
        ...

    def epoch(self, figures: dict[str, Any], better: bool) -> None:
        """An epoch ended. Its figures include those on held-out questions, if there are any."""
        ...

    def checkpoint(self, save: Callable[[], tuple[dict[str, Any], dict[str, Tensor]]]) -> None:
        """Training can be interrupted here and resumed; ``save`` returns its whole state."""
        ...


class Trainer:
    """Trains a memory network on questions.

    Args:
        network: The network. Its memory is an ``EncodedMemory``.
        questions: Q training questions.
        texts: Texts of which the first Q are these questions.
        targets: The right cells of the questions.
        artificial: Draws artificial questions.
        validate: Returns figures on held-out questions, and the one that decides which epoch is best. None
            trains all epochs and keeps the last.
        config: How to train.
        search_depth: Tunes the network's index.
    """

    def __init__(
        self,
        network: MemoryNetwork[list[list[Answer]]],
        questions: QuestionSet,
        texts: Texts,
        targets: Targets,
        artificial: ArtificialQuestions,
        validate: Callable[[], tuple[Evaluation, float]] | None,
        config: TrainConfig,
        search_depth: SearchDepth,
    ) -> None:
        self.search_depth, self.query_log = search_depth, QueryLog(search_depth.index)
        self.network, self.texts, self.targets = network, texts, targets
        self.artificial = artificial
        self.validate, self.config = validate, config
        self.count = len(questions)
        self.steps_per_epoch = math.ceil(self.count / config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
        # a softmax over all cells touches every row of the tables, so sparse gradients would not pay
        sparse = network.reader.name != "softmax"
        self.optimisers = Optimisers(network, config, self.total_steps, sparse=sparse)
        self.progress = Progress()
        self.ranks: Ranks | None = getattr(network.memory, "ranks", None)
        self._upkeep_seconds = 0.0
        index = network.reader.index
        self._together = min(TOGETHER, config.renew_steps)
        turns = config.renew_steps // self._together
        self.renewal = RollingRenewal(len(self.memory), turns) if isinstance(index, Teachable) else None

    @property
    def memory(self) -> EncodedMemory:
        """The memory of the network."""
        memory = self.network.memory
        assert isinstance(memory, EncodedMemory)
        return memory

    @property
    def encoder(self) -> FactEncoder:
        """The encoder of the memory's cells."""
        encoder = self.memory.encoder
        assert isinstance(encoder, FactEncoder)
        return encoder

    def run(self, watcher: Watcher) -> Progress:
        """Train until the epochs are over or the held-out figure stops rising.

        Interrupted at any point and resumed from its last checkpoint, it ends with the same weights, bit for
        bit.
        """
        self.network.train()
        watcher.begin(self.progress, self.total_steps)
        while self.progress.step < self.total_steps and not self._stale():
            watcher.checkpoint(self.state)
            epoch, number = divmod(self.progress.step, self.steps_per_epoch)
            batch = self._order(epoch)[number * self.config.batch_size :][: self.config.batch_size]
            loss = self._step(batch)
            progress = self.progress
            smooth = 0.98 if progress.step else 0.0
            progress.running_loss = smooth * progress.running_loss + (1 - smooth) * loss
            progress.step += 1
            watcher.stepped(progress, self._record(loss) if progress.step % RECORD_STEPS == 0 else None)
            if progress.step % self.steps_per_epoch == 0:
                self._end_epoch(watcher)
        self.network.eval()
        return self.progress

    def _step(self, batch: np.ndarray[Any, np.dtype[np.int64]]) -> float:
        """Take a step on a batch of questions and return the loss."""
        # 1. Renew the snapshot of the keys, if it is due.
        # 2. Take the loss and a step.
        # 3. Renew the keys that are due, if the index follows training.
        step = self.progress.step
        if step == 0 or (self.renewal is None and step % self.config.renew_steps == 0):
            self._renew(rebuild=step == 0)
            if step == 0 and not self.search_depth.learned:
                self.search_depth.tune()
            self._search_as_in_training()
        if self.ranks is not None:  # what a rank encodes draws random numbers, and each encodes other cells
            torch.manual_seed(self._seed(4, step))
        loss, cells = self._loss(batch, step)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.ranks is not None:
            self._average_gradients(self.ranks)
        self.optimisers.step(step)
        if self.renewal is not None:
            if (step + 1) % self._together == 0:
                began = time.perf_counter()
                due = self.renewal.due(cells)
                self.memory.renew(due)
                self.network.indexed.refresh(due)
                self._upkeep_seconds += time.perf_counter() - began
            if step + 1 in TAUGHT_AFTER:
                self.query_log.teach(vectors=False)
        return float(loss.detach())

    def _loss(self, batch: np.ndarray[Any, np.dtype[np.int64]], step: int) -> tuple[Tensor, Tensor]:
        """Loss on a batch of questions, and the cells that were scored for it, ascending."""
        # some questions are replaced by artificial ones; all are scored against the reader's candidates
        rng = np.random.default_rng([self.config.seed, 1, step])
        asked = self.artificial.draw(batch, rng)
        targets, rows = self.targets.asking(batch, asked.pair), np.arange(len(batch))
        query = self.network.input_module(self.texts.bags_of(asked.words))  # (B, D)
        added = targets.added(rows, query, self.memory.snapshot_of)  # (T,)
        drawn, score = self.network.attend(query, added, self._generator(step))  # (C,), (B, C)
        right, ignored = targets.masks(rows, drawn.cell)  # (B, C), (B, C)
        self.query_log.note(query, drawn.cell, score, right)
        if self.config.importance_weights:
            loss = sampled_nll(score, right, drawn.probability, ignored).mean()
        else:
            loss = marginal_nll(score, right, ignored).mean()
        return loss, drawn.cell

    def _renew(self, *, rebuild: bool) -> None:
        """Encode all keys again. The index is rebuilt on them, or files them in its existing structure."""
        self.memory.renew()
        if rebuild:
            self.network.indexed.rebuild()
        else:
            self.network.indexed.refile()
        if self.renewal is not None:
            self.renewal.all_renewed()

    def _generator(self, step: int) -> torch.Generator:
        """Generator for the draws of the strategy in a step; it depends only on the seed and the step."""
        return torch.Generator().manual_seed(self._seed(2, step))

    def _seed(self, use: int, step: int) -> int:
        """Seed of some random numbers of a step."""
        return int(np.random.SeedSequence([self.config.seed, use, step]).generate_state(1, np.uint64)[0])

    def _average_gradients(self, ranks: Ranks) -> None:
        """Average gradients over ranks that take the same steps, where each encodes its own cells."""
        from hmn.distributed.replicas import sum_gradients

        sum_gradients(self.network, ranks, average=True)

    def _order(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Order of the questions in an epoch; it depends only on the seed and the epoch."""
        return np.random.default_rng([self.config.seed, 0, epoch]).permutation(self.count)

    def _record(self, loss: float) -> dict[str, Any]:
        """Figures of a step, for the log."""
        record = {
            "step": self.progress.step,
            "epoch": self.progress.step / self.steps_per_epoch,
            "loss": loss,
            "learning_rate": self.config.learning_rate * self.optimisers.share(self.progress.step),
        }
        if self.renewal is not None:
            record["upkeep_seconds"] = self._upkeep_seconds / RECORD_STEPS
            self._upkeep_seconds = 0.0
        return record

    def _end_epoch(self, watcher: Watcher) -> None:
        """Renew the keys, tune the index, measure on held-out questions and report the epoch."""
        progress = self.progress
        figures: dict[str, Any] = {
            "step": progress.step,
            "epoch": progress.step // self.steps_per_epoch,
            "loss": progress.running_loss,
        }
        better = True
        began = time.perf_counter()
        # this model may be kept, so its keys must be current and its index made from just these keys
        self._renew(rebuild=self.renewal is None)
        self.query_log.teach()
        self.search_depth.tune()
        if self.validate is not None:
            self.network.eval()
            evaluation, figure = self.validate()
            self.network.train()
            figures |= {f"valid_{name}": value for name, value in evaluation.as_dict().items()}
            figures["valid_seconds"] = time.perf_counter() - began
            better = figure > progress.best
            progress.best = max(figure, progress.best)
        if better:
            progress.best_epoch = figures["epoch"]
        # times must not be in the state, or two runs with one seed would differ
        timeless = {name: value for name, value in figures.items() if "second" not in name}
        progress.epochs.append(timeless)
        watcher.epoch(figures, better)
        self.query_log.forget()
        self._search_as_in_training()

    def _search_as_in_training(self) -> None:
        """Search as far as training does until the index is tuned again."""
        self.search_depth.train()
        self.progress.depth = self.search_depth.effort

    def _stale(self) -> bool:
        """Whether patience is over: the held-out figure has not risen for that number of epochs."""
        progress = self.progress
        finished = progress.step // self.steps_per_epoch
        return finished - max(progress.best_epoch, 0) >= self.config.patience and self.validate is not None

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Whole state of training: progress, and tensors from weights to random numbers.

        Over several ranks all of them call it, and rank 0 has the keys of all cells. Their indexes are left
        out; they are built again.
        """
        weights = packed_tables(self.network, weights_of(self.network))
        tensors = {f"network.{name}": value for name, value in weights.items()}
        tensors |= {f"optimiser.{name}": value for name, value in self.optimisers.state().items()}
        tensors |= {f"lessons.{name}": value for name, value in self.query_log.state().items()}
        if self.renewal is not None:
            tensors |= {f"renewal.{name}": value for name, value in self.renewal.state().items()}
        tensors["random"] = torch.get_rng_state()
        if self.progress.step:
            keys = self.memory.snapshot() if self.ranks is None else self.memory.gathered()  # type: ignore[operator]
            blocks = packed_blocks(keys, self.encoder.blocks)
            tensors |= {f"snapshot.{name}": value for name, value in blocks.items()}
            index = self.network.reader.index
            # cells were filed again since the index was built, so the snapshot alone does not determine it
            if index.has_structure and self.ranks is None:
                state = index.state_dict(with_keys=False)
                tensors |= {f"index.{name}": value for name, value in state.items()}
        return dict(vars(self.progress)), tensors

    def load(self, progress: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Restore a state from ``state``; the next ``run`` continues from it.

        Raises:
            ShapeError, ConfigError, ValueError: The state does not fit this run.
        """
        self.progress = record_of(Progress, progress)
        if not 0 <= self.progress.step <= self.total_steps:
            raise ValueError(f"step is {self.progress.step}, expected 0 to {self.total_steps}")

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        check_finite({name: value for name, value in tensors.items() if not name.startswith("index.")})
        weights = unpacked_tables(self.network, part("network."))
        check_counts(weights)
        load_weights(self.network, weights)
        self.optimisers.load(part("optimiser."))
        self.query_log.load(part("lessons."), len(self.memory))
        if self.renewal is not None:
            self.renewal.load(part("renewal."))
        if self.progress.step:
            self.memory.restore(self._snapshot(part("snapshot.") or tensors))
            if (index := part("index.")) and self.ranks is None:
                self.network.indexed.load_index(index)
            self.search_depth.restore(self.progress.depth)
        # at the end, since encoding draws random numbers
        torch.set_rng_state(tensor_like(tensors, "random", torch.get_rng_state()))

    def _snapshot(self, tensors: dict[str, Tensor]) -> Tensor:
        """The saved snapshot ``(N, D)`` of the keys, which version 0.1 saved as it is."""
        with torch.no_grad():
            fresh = self.memory.keys_of(torch.zeros(1, dtype=torch.int64))  # (1, D)
        if "snapshot" in tensors:
            return tensor_like(tensors, "snapshot", fresh.expand(len(self.memory), -1))
        return unpacked_blocks(tensors, self.encoder.blocks, len(self.memory), fresh.dtype)
