"""One row of a table with one seed: train its network, keep the best epoch, measure."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.nn.reader import SoftmaxReader
from hmn.paper.data import Data
from hmn.paper.grid import SOFTMAX, Row
from hmn.paper.network.attention.indexed import IndexedAttention
from hmn.paper.network.attention.protocol import Attention
from hmn.paper.network.build import Network
from hmn.paper.network.catch_up_adam import CatchUpAdam
from hmn.paper.network.checkpoint import Progress, keep_network, keep_run, load_network, resume_run
from hmn.paper.network.evaluation import own_search, swept, tested, validated
from hmn.paper.network.measure import index_search
from hmn.paper.network.timing import in_turns
from hmn.paper.preset import Preset
from hmn.paper.process import peak_mib
from hmn.qa.cells import Cells

LOG_SECONDS = 15.0
"""Seconds between two lines within an epoch."""


class Trained(NamedTuple):
    """What an epoch of training took and gave.

    Attributes:
        loss: mean loss over the questions.
        steps: number of steps.
        candidates: sum of the softmax sizes of the steps.
        seconds: seconds of the steps.
    """

    loss: float
    steps: int
    candidates: int
    seconds: float


class Experiment:
    """Trains the network of a row and measures it.

    The words' vectors are all that is learned. An epoch asks every natural and every artificial question
    once. Random draws of an epoch follow from the seed and its number, so that an interrupted run continues
    from its last epoch and ends with the same vectors.

    Args:
        row: how the network attends.
        preset: sizes.
        data: facts and questions.
        keys: ``(N, D)`` keys of the fixed cells.
        cells: facts that they stand for.
        seed: seed of the words' initial vectors, of the order of questions and of all draws.
        device: device that computes.
        folder: folder that keeps the unfinished run; None to keep nothing.
        network: folder that keeps the best epoch's words, to be tested later; None to keep nothing.
        log: called with a line every few seconds.
    """

    def __init__(
        self,
        row: Row,
        preset: Preset,
        data: Data,
        keys: Tensor,
        cells: Cells,
        *,
        seed: int = 0,
        device: str = "cpu",
        folder: Path | None = None,
        network: Path | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.row, self.preset, self.seed = row, preset, seed
        self._folder, self._network_folder, self._log = folder, network, log or _silent
        self.network = Network.build(row, preset, data, keys, cells, seed, device)
        self.words, self.train = self.network.words, self.network.train
        self.progress = Progress(build_seconds=self.network.build_seconds)
        self.optimiser = CatchUpAdam(self.words.bag.weight, preset.learning_rate)
        self.tuned, self._tuned_after = dict[str, Any](), -1
        self._best = torch.empty(0)  # (rows, D) once an epoch has been trained

    def run(self) -> dict[str, Any]:
        """Train until validation accuracy has stopped rising, and measure the best epoch."""
        self._resume()
        while len(self.progress.epochs) < self.preset.epochs and not self._stale():
            self._epoch(len(self.progress.epochs))
        self._count_memory()
        self._take_best()
        if self._network_folder is not None:
            keep_network(self._network_folder, self.network, self._best, self.progress.best_epoch)
        progress, epochs, network = self.progress, self.progress.epochs, self.network
        return {
            "questions": {"natural": self._natural, "artificial": network.artificial},
            "words": len(self.words.bag.weight),
            "cells": list(network.memory.keys.shape),
            "facts": len(network.data.facts),
            "steps": progress.steps,
            "softmax_size": progress.candidates / max(1, progress.steps),
            "seconds_a_step": progress.step_seconds / max(1, progress.steps),
            "seconds_an_epoch": sum(epoch["train_seconds"] for epoch in epochs) / max(1, len(epochs)),
            "build_seconds": progress.build_seconds,
            "peak_mib": progress.peak_mib,
            "accelerator_peak_mib": progress.accelerator_peak_mib,
            "epochs_to_best": progress.best_epoch,
            "stopped": "patience" if self._stale() else "epochs",
            "curve": epochs,
            "tested": {name: self._tested(name) for name in network.held_out},
            **({"sweep": swept(network, self._best_queries(), self._log)} if self.row.swept else {}),
            "clock": self._timed(),
            "cells_checksum": zlib.crc32(network.memory.keys.detach().cpu().numpy().tobytes()),
        }

    def test(self) -> dict[str, Any]:
        """Ask the network that a finished run has kept the test questions.

        Raises:
            BundleError: none is kept, or it is not whole.
        """
        assert self._network_folder is not None
        self.progress.best_epoch = load_network(self._network_folder, self.network)
        return {"tested": {"test": self._tested("test")}}

    @property
    def _natural(self) -> int:
        """Number of natural training questions."""
        return len(self.train) - self.network.artificial

    def _epoch(self, epoch: int) -> None:
        """Train an epoch, validate, and keep the run; the curve gets a point."""
        progress, began = self.progress, time.perf_counter()
        self._tune(epoch)
        trained = self._train_epoch(epoch)
        # searched as in training, but tuned to the queries as they are now
        self._tune(epoch + 1)
        spent = time.perf_counter() - began
        own = validated(self.network, own_search(self.network, "valid"))
        exact = own if self.row.exact else validated(self.network, index_search(self.network.exact))
        progress.steps += trained.steps
        progress.step_seconds += trained.seconds
        progress.candidates += trained.candidates
        before = progress.epochs[-1]["seconds"] if progress.epochs else progress.build_seconds
        progress.epochs.append(
            {
                "epoch": epoch + 1,
                "loss": trained.loss,
                "fact": own.fact,
                "pair": own.pair,
                "exact": {"fact": exact.fact, "pair": exact.pair},
                "reads": own.reads,
                "softmax_size": trained.candidates / trained.steps,
                "train_seconds": trained.seconds,
                "seconds": before + spent,
                "valid_seconds": time.perf_counter() - began - spent,
            }
        )
        better = own.fact > progress.best
        if better:
            progress.best, progress.best_epoch = own.fact, epoch + 1
            self._best = self.words.bag.weight.detach().clone()
        if self._folder is not None:
            self._count_memory()
            keep_run(self._folder, progress, self.network, self.optimiser, self._best if better else None)
        self._log(
            f"epoch {epoch + 1}: loss {trained.loss:.3f}, facts {own.fact:.1%}, pairs {own.pair:.1%}, "
            f"{trained.seconds:.0f} s{' (best so far)' if better else ''}"
        )

    def _train_epoch(self, epoch: int) -> Trained:
        """Ask every question once, and bring all words up to date."""
        began = logged_at = time.perf_counter()
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.train))
        batches = self._batches(order)
        total, candidates = 0.0, 0
        for number, batch in enumerate(batches):
            loss, size = self._step(self.network.attention, batch, epoch, number)
            total, candidates = total + loss * len(batch), candidates + size
            if time.perf_counter() - logged_at > LOG_SECONDS:
                logged_at = time.perf_counter()
                each = (logged_at - began) / (number + 1)
                self._log(f"epoch {epoch + 1}: step {number + 1} of {len(batches)}, {each:.2f} s per step")
        seconds = time.perf_counter() - began
        self.optimiser.catch_up()
        return Trained(total / len(order), len(batches), candidates, seconds)

    def _batches(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return np.array_split(order, math.ceil(len(order) / self.preset.batch_size))

    def _step(
        self, attention: Attention, batch: NDArray[np.int64], epoch: int, number: int
    ) -> tuple[float, int]:
        """Train on the questions ``(B,)`` of a batch; the loss and the size of its softmax."""
        asked = self.train.word.take(batch)
        self.optimiser.catch_up(torch.from_numpy(np.unique(asked.flat)).to(self.words.bag.weight.device))
        query = self.words(asked)  # (B, D)
        drawn = np.random.SeedSequence([self.seed, 1, epoch, number]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(drawn[0]))
        with torch.random.fork_rng(devices=[]):  # layers that draw mix their seed with PyTorch's generator
            torch.manual_seed(int(drawn[0]))
            loss, candidates = attention.loss(query, self.train, batch, generator)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach()), candidates

    def _timed(self) -> dict[str, float]:
        """Time more steps after the best epoch, in turns with the full softmax, and go back to it."""
        epoch = self.progress.best_epoch
        batches = self._batches(np.random.default_rng([self.seed, 3]).permutation(len(self.train)))
        self._tune(epoch)

        def stepping(attention: Attention) -> Callable[[int], object]:
            return lambda number: self._step(attention, batches[number % len(batches)], epoch, number)

        full = IndexedAttention(SoftmaxReader(self.network.exact), self.network.exact)
        softmax = None if self.row.reader == SOFTMAX else stepping(full)
        seconds = in_turns(stepping(self.network.attention), softmax)
        self._take_best()
        return seconds

    def _tested(self, name: str) -> dict[str, Any]:
        self._tune(self.progress.best_epoch)
        return tested(self.network, name, self.tuned, self._best_queries(), self._tuning_queries(0))

    def _take_best(self) -> None:
        with torch.no_grad():
            self.words.bag.weight.copy_(self._best)

    def _count_memory(self) -> None:
        """Note the peak memory; a process that was interrupted has noted its own."""
        progress = self.progress
        progress.peak_mib = max(progress.peak_mib, peak_mib())
        if self.words.bag.weight.is_cuda:
            allocated = torch.cuda.max_memory_allocated() / 2**20
            progress.accelerator_peak_mib = max(progress.accelerator_peak_mib or 0.0, allocated)

    def _stale(self) -> bool:
        return len(self.progress.epochs) - self.progress.best_epoch >= self.preset.patience

    def _tune(self, epoch: int) -> None:
        """Tune the search to queries as they are after a number of epochs, unless that is done."""
        if epoch != self._tuned_after:
            self.tuned = self.network.attention.tune(self._tuning_queries(epoch))
            self._tuned_after = epoch

    @torch.no_grad()
    def _tuning_queries(self, epoch: int) -> Tensor:
        """Queries ``(B, D)`` of some natural training questions, with the words as they are now."""
        order = np.random.default_rng([self.seed, 2, epoch]).permutation(self._natural)
        query: Tensor = self.words(self.train.word.take(order[: self.preset.tuned_on]))
        return query

    def _best_queries(self) -> Tensor:
        """Queries ``(B, D)`` to tune on, of the best epoch."""
        return self._tuning_queries(self.progress.best_epoch)

    def _resume(self) -> None:
        """Continue after the last epoch that was kept, if there is one."""
        if self._folder is None or not self._folder.exists():
            return
        self.progress, self._best = resume_run(self._folder, self.network, self.optimiser)
        self._tune(len(self.progress.epochs))  # outside of any epoch's time: the last one has counted it
        self._log(f"goes on after epoch {len(self.progress.epochs)}")


def _silent(text: str) -> None:
    """Log nothing."""
