"""One row of a table with one seed: train its network, keep the best epoch, measure."""

from __future__ import annotations

import math
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.index.structures.exact import ExactIndex
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.nn.parts import CellMemory
from hmn.nn.reader import SoftmaxReader
from hmn.paper.data import Data
from hmn.paper.grid import KEYWORDS, SOFTMAX, Row
from hmn.paper.network.attention import KeywordReading, ReaderReading, Reading, built_index, make_reading
from hmn.paper.network.catch_up_adam import CatchUpAdam
from hmn.paper.network.measure import Figures, Search, index_search, measure
from hmn.paper.network.question_words import Asked, Vocabulary, WordSum, artificial_questions
from hmn.paper.network.search_budget import strategy_reads, target_reads, tuned_to
from hmn.paper.network.sweep import sweep
from hmn.paper.network.timing import in_turns
from hmn.paper.preset import Preset
from hmn.paper.process import peak_mib
from hmn.qa.cells import Cells
from hmn.store.bundle import BundleReader, write_json, write_tensors, writing_bundle

LOG_SECONDS = 15.0
BEST = "best.safetensors"


@dataclass
class Progress:
    """Where training stands, at the end of an epoch."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    """Figures of each finished epoch: the curve."""
    build_seconds: float = 0.0
    """Of the search structure, in the process that began."""
    peak_mib: float = 0.0
    """The most memory of all processes so far, and of the accelerator."""
    accelerator_peak_mib: float | None = None
    steps: int = 0
    step_seconds: float = 0.0
    candidates: float = 0.0
    """Sum of the softmax sizes of all steps."""
    best_epoch: int = 0
    best: float = -1.0


class Experiment:
    """Trains the network of a row and measures it.

    The words' vectors are all that is learned. An epoch asks every natural and every artificial question
    once. What is random in an epoch follows from the seed and its number, so that a run which is stopped goes
    on from the last epoch to the same vectors.

    Args:
        row: how the network attends.
        preset: sizes.
        data: facts and questions.
        keys: ``(N, D)`` the fixed cells' keys.
        cells: the facts that they stand for.
        seed: of the words' first vectors, of the order and of what is drawn.
        device: where it is computed.
        folder: an unfinished run is kept there; None to keep nothing.
        network: the words of the best epoch are kept there, to be tested later; None to keep nothing.
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
        self.row, self.preset, self.data, self.cells, self.seed = row, preset, data, cells, seed
        self.folder, self.network, self._log = folder, network, log or _silent
        artificial, facts_asked = artificial_questions(data.facts, data.asked["train"])
        texts = [*data.asked["train"].text, *artificial]
        self.artificial = len(artificial)
        self.vocabulary = Vocabulary(texts)
        wanted = [*data.asked["train"].cell.tolist(), *facts_asked]
        self.train = Asked.of(texts, wanted, self.vocabulary, data.facts, cells)
        self.held_out = {
            name: Asked.of(one.text, one.cell.tolist(), self.vocabulary, data.facts, cells)
            for name, one in data.asked.items()
            if name != "train"
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.words = WordSum(len(self.vocabulary), keys.shape[1], preset.word_scale).to(device)
        self.memory = Memory(keys.to(device))
        began = time.perf_counter()
        self.reading: Reading = make_reading(row, preset, self.memory, data.facts, cells, seed)
        self.progress = Progress(build_seconds=time.perf_counter() - began)
        self.exact = ExactIndex(self.memory.snapshot())
        self.optimiser = CatchUpAdam(self.words.bag.weight, preset.learning_rate)
        self.tuned, self._tuned_after = dict[str, Any](), -1
        self._best = torch.empty(0)

    def run(self) -> dict[str, Any]:
        """Train until the validation accuracy has not risen for some epochs, and measure the best epoch."""
        self._resume()
        while len(self.progress.epochs) < self.preset.epochs and not self._stale():
            self._epoch(len(self.progress.epochs))
        self._count_memory()
        self._take_best()
        self._keep_network()
        progress, epochs = self.progress, self.progress.epochs
        return {
            "questions": {"natural": len(self.data.asked["train"]), "artificial": self.artificial},
            "words": len(self.vocabulary),
            "cells": list(self.memory.keys.shape),
            "facts": len(self.data.facts),
            "steps": progress.steps,
            "softmax_size": progress.candidates / max(1, progress.steps),
            "seconds_a_step": progress.step_seconds / max(1, progress.steps),
            "seconds_an_epoch": sum(one["train_seconds"] for one in epochs) / max(1, len(epochs)),
            "build_seconds": progress.build_seconds,
            "peak_mib": progress.peak_mib,
            "accelerator_peak_mib": progress.accelerator_peak_mib,
            "epochs_to_best": progress.best_epoch,
            "stopped": "patience" if self._stale() else "epochs",
            "curve": epochs,
            "tested": {name: self._tested(name) for name in self.held_out},
            **({"sweep": self._swept()} if self.row.swept else {}),
            "clock": self._timed(),
            "cells_checksum": zlib.crc32(self.memory.keys.detach().cpu().numpy().tobytes()),
        }

    def test(self) -> dict[str, Any]:
        """Measure the network that a finished run has kept on the test questions, which it may not have had.

        Raises:
            BundleError: none is kept, or not whole.
        """
        assert self.network is not None
        saved = BundleReader(self.network)
        with torch.no_grad():
            self.words.bag.weight.copy_(saved.tensors("words.safetensors")["words"])
        self.progress.best_epoch = saved.json("network.json")["best_epoch"]
        return {"tested": {"test": self._tested("test")}}

    def _keep_network(self) -> None:
        """Keep the best words, and what their cells and clusters follow from."""
        if self.network is None:
            return
        about = {
            "row": asdict(self.row),
            "preset": asdict(self.preset),
            "seed": self.seed,
            "best_epoch": self.progress.best_epoch,
        }
        with writing_bundle(self.network) as bundle:
            write_json(bundle, "network.json", about)
            write_tensors(bundle, "words.safetensors", {"words": self._best})

    def _epoch(self, epoch: int) -> None:
        progress, began = self.progress, time.perf_counter()
        self._tune(epoch)
        tuned_at = time.perf_counter()
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.train))
        batches = math.ceil(len(order) / self.preset.batch_size)
        total, logged_at, size = 0.0, time.perf_counter(), 0
        for number, batch in enumerate(np.array_split(order, batches)):
            loss, candidates = self._step(self.reading, batch, epoch, number)
            total, size = total + loss * len(batch), size + candidates
            if time.perf_counter() - logged_at > LOG_SECONDS:
                logged_at = time.perf_counter()
                each = (logged_at - tuned_at) / (number + 1)
                self._log(f"epoch {epoch + 1}: step {number + 1} of {batches}, {each:.2f} s a step")
        spent = time.perf_counter() - tuned_at
        self.optimiser.catch_up()
        # searched as it was in training, but tuned to the queries as they have become
        self._tune(epoch + 1)
        trained = time.perf_counter() - began
        found = self._validated(self._own("valid"))
        exact = found if self.row.exact else self._validated(index_search(self.exact))
        progress.steps += batches
        progress.step_seconds += spent
        progress.candidates += size
        before = progress.epochs[-1]["seconds"] if progress.epochs else progress.build_seconds
        progress.epochs.append(
            {
                "epoch": epoch + 1,
                "loss": total / len(order),
                "fact": found.fact,
                "pair": found.pair,
                "exact": {"fact": exact.fact, "pair": exact.pair},
                "reads": found.reads,
                "softmax_size": size / batches,
                "train_seconds": spent,
                "seconds": before + trained,
                "valid_seconds": time.perf_counter() - began - trained,
            }
        )
        better = found.fact > progress.best
        if better:
            progress.best, progress.best_epoch = found.fact, epoch + 1
            self._best = self.words.bag.weight.detach().clone()
        self._keep(better=better)
        self._log(
            f"epoch {epoch + 1}: loss {total / len(order):.3f}, facts {found.fact:.1%}, "
            f"pairs {found.pair:.1%}, {spent:.0f} s{' (best so far)' if better else ''}"
        )

    def _step(self, reading: Reading, batch: NDArray[np.int64], epoch: int, number: int) -> tuple[float, int]:
        asked = self.train.word.take(batch)
        self.optimiser.catch_up(torch.from_numpy(np.unique(asked.flat)).to(self.memory.keys.device))
        query = self.words(asked)  # (B, D)
        drawn = np.random.SeedSequence([self.seed, 1, epoch, number]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(drawn[0]))
        loss, candidates = reading.loss(query, self.train, batch, generator)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach()), candidates

    def _timed(self) -> dict[str, float]:
        """Time more steps after the best epoch, in turns with the full softmax, and go back to it."""
        epoch = self.progress.best_epoch
        order = np.random.default_rng([self.seed, 3]).permutation(len(self.train))
        batches = np.array_split(order, math.ceil(len(order) / self.preset.batch_size))
        self._tune(epoch)

        def stepping(reading: Reading) -> Callable[[int], object]:
            return lambda number: self._step(reading, batches[number % len(batches)], epoch, number)

        full = ReaderReading(SoftmaxReader(IndexedMemory[CellMemory](self.memory, self.exact)), self.memory)
        found = in_turns(stepping(self.reading), None if self.row.reader == SOFTMAX else stepping(full))
        self._take_best()
        return found

    def _take_best(self) -> None:
        with torch.no_grad():
            self.words.bag.weight.copy_(self._best)

    def _validated(self, search: Search) -> Figures:
        """Accuracies of a search on the validation questions, with the words as they are."""
        asked = self.data.asked["valid"]
        return measure(search, self._encoder("valid"), self.data.facts, self.cells, asked)

    def _count_memory(self) -> None:
        """Take the most memory so far; a process that was stopped has counted its own."""
        progress = self.progress
        progress.peak_mib = max(progress.peak_mib, peak_mib())
        if self.memory.keys.is_cuda:
            held = torch.cuda.max_memory_allocated() / 2**20
            progress.accelerator_peak_mib = max(progress.accelerator_peak_mib or 0.0, held)

    def _stale(self) -> bool:
        return len(self.progress.epochs) - self.progress.best_epoch >= self.preset.patience

    def _tune(self, epoch: int) -> None:
        """Tune the search to queries as they are after so many epochs, unless it is."""
        if epoch != self._tuned_after:
            self.tuned, self._tuned_after = self.reading.tune(self._tuning_queries(epoch)), epoch

    @torch.no_grad()
    def _tuning_queries(self, epoch: int) -> Tensor:
        """Queries of some training questions, natural ones, as the words are now."""
        rng = np.random.default_rng([self.seed, 2, epoch])
        natural = len(self.data.asked["train"])
        numbers = rng.permutation(natural)[: self.preset.tuned_on]
        query: Tensor = self.words(self.train.word.take(numbers))
        return query

    def _own(self, name: str) -> Search:
        """The row's own search of held-out questions."""
        text = self.held_out[name].text
        return lambda numbers, query: self.reading.search(query, [text[number] for number in numbers], 10)

    def _encoder(self, name: str) -> Callable[[NDArray[np.int64]], Tensor]:
        asked = self.held_out[name]

        @torch.no_grad()
        def encode(numbers: NDArray[np.int64]) -> Tensor:
            query: Tensor = self.words(asked.word.take(numbers))
            return query

        return encode

    def _tested(self, name: str) -> dict[str, Any]:
        """Figures on held-out questions: with the row's own search, with exact search, with another."""
        found: dict[str, Any] = {}
        for how, search in self._searches(name):
            figures = measure(
                search,
                self._encoder(name),
                self.data.facts,
                self.cells,
                self.data.asked[name],
                exact=self.exact,
                recall_on=self.preset.recall_on,
            )
            found[how] = figures.as_dict()
        if self.row.exact:
            found["exact"] = found["own"]
        found["own"]["tuned"] = self.tuned
        if isinstance(self.reading, KeywordReading):
            asked = self.data.asked[name]
            found["own"]["coverage"] = self.reading.coverage(asked.text, asked.cell)
        return found

    def _searches(self, name: str) -> Iterator[tuple[str, Search]]:
        self._tune(self.progress.best_epoch)
        yield "own", self._own(name)
        if not self.row.exact:
            yield "exact", index_search(self.exact)
        if self.row.strategy:
            assert isinstance(self.reading, ReaderReading)
            index = self.reading.reader.index
            tuned_to(index, self._best_queries(), strategy_reads(self.preset, len(self.memory)))
            yield "common", index_search(index)
        if self.row.also_tested_with and self.row.reader != KEYWORDS:
            index = built_index(self.row.also_tested_with, self.preset, self.memory, self.seed)
            tuned_to(index, self._tuning_queries(0), target_reads(self.preset, len(self.memory)))
            yield "other", index_search(index)

    def _best_queries(self) -> Tensor:
        """Queries to tune on, of the best epoch."""
        return self._tuning_queries(self.progress.best_epoch)

    def _swept(self) -> list[dict[str, Any]]:
        """Accuracy against reads of each search structure over the trained network, on validation."""

        def measured(search: Search) -> Figures:
            asked, recall_on = self.data.asked["valid"], self.preset.recall_on
            encode = self._encoder("valid")
            return measure(
                search, encode, self.data.facts, self.cells, asked, exact=self.exact, recall_on=recall_on
            )

        return sweep(self.preset, self.memory, self.seed, self._best_queries(), measured, self._log)

    def _keep(self, *, better: bool) -> None:
        """Keep the whole state of the run after an epoch; the best words are written if they changed."""
        if self.folder is None:
            return
        self._count_memory()
        state = {f"adam.{name}": value for name, value in self.optimiser.state().items()}
        state |= {f"reading.{name}": value for name, value in self.reading.state().items()}
        with writing_bundle(self.folder) as bundle:
            write_json(bundle, "progress.json", dict(vars(self.progress)))
            write_tensors(
                bundle,
                "state.safetensors",
                {"words": self.words.bag.weight.detach(), **state},
            )
            if better:
                write_tensors(bundle, BEST, {"words": self._best})
            else:
                _linked(BundleReader(self.folder).file(BEST), bundle / BEST)

    def _resume(self) -> None:
        """Go on from the last epoch that was kept, if there is one."""
        if self.folder is None or not self.folder.exists():
            return
        saved = BundleReader(self.folder)
        tensors = saved.tensors("state.safetensors")
        self.progress = Progress(**saved.json("progress.json"))
        with torch.no_grad():
            self.words.bag.weight.copy_(tensors["words"])
        self._best = saved.tensors(BEST)["words"].to(self.memory.keys.device)
        self.optimiser.load(_part(tensors, "adam."))
        self.reading.load(_part(tensors, "reading."))
        self._tune(len(self.progress.epochs))  # outside of any epoch's time: the last one has counted it
        self._log(f"goes on after epoch {len(self.progress.epochs)}")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}


def _linked(file: Path, place: Path) -> None:
    """Let a file have another name, or copy it where the disk cannot."""
    try:
        place.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, place)


def _silent(text: str) -> None:
    """Tell nobody."""
