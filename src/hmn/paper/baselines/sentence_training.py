"""Trains a sentence encoder with in-batch negatives, or with K-MIPS attention.

In-batch negatives are what such encoders are usually trained with: a softmax over the right texts of the
batch, the loss of sentence-transformers' MultipleNegativesRankingLoss. K-MIPS attention takes the cells of
the whole memory that are most easily confused with the right one, and encodes them in every step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.facts.ragged import Ragged
from hmn.nn.loss import marginal_nll
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.reader import KMIPSReader
from hmn.paper.baselines.sentence_encoder import Sentences
from hmn.paper.data import Data
from hmn.paper.grid import SENTENCES_IN_BATCH, SENTENCES_KMIPS, Row
from hmn.paper.preset import Preset
from hmn.qa.cells import Cells
from hmn.qa.training.targets import Targets
from hmn.store.bundle import BundleReader, write_json, write_tensors, writing_bundle
from hmn.store.contents import fitting, record_of

SCALE = 20.0
"""Factor of the cosines before the softmax, as in sentence-transformers."""
LEARNING_RATE = 2e-5
"""Peak learning rate of AdamW."""
WARMUP = 0.1
"""Share of the steps in which the learning rate rises; then it falls linearly."""
STEPS_PER_LINE = 20
"""Steps between two lines of progress."""


@dataclass
class Progress:
    """Where training stands; beside it are kept the encoder, its optimiser, and the generator of dropout."""

    steps: int = 0
    """Steps done."""
    candidates: int = 0
    """Sum of the softmax sizes of all steps."""
    loss: float = 0.0
    """Loss of the last step."""
    seconds: float = 0.0
    """Seconds of all steps."""


def train_sentences(
    row: Row,
    preset: Preset,
    data: Data,
    cells: Cells,
    sentences: Sentences,
    memory: EncodedMemory,
    *,
    seed: int,
    log: Callable[[str], None],
    folder: Path | None,
) -> dict[str, Any]:
    """Train in one pass over the natural questions, or not at all if the row says so.

    The state is kept in ``folder`` whenever all cells are to be encoded again, and an interrupted training
    continues from it.

    Args:
        row: how the encoder is trained.
        preset: sizes.
        data: facts and questions.
        cells: the memory's cells.
        sentences: encoder of questions and of cells.
        memory: the cells, encoded.
        seed: seed of the order of questions.
        log: called with a line now and then.
        folder: folder that keeps the unfinished training; None to keep nothing.

    Returns:
        Figures for the results file.
    """
    if row.reader not in {SENTENCES_IN_BATCH, SENTENCES_KMIPS}:
        return {"steps": 0, "curve": [], "trained_on": {"questions": 0, "steps": 0, "seconds": 0.0}}
    order = np.random.default_rng([seed, 0]).permutation(len(data.asked["train"]))[: preset.sentences_asked]
    batches = np.array_split(order, -(-len(order) // preset.batch_size))
    optimiser = torch.optim.AdamW(sentences.parameters(), LEARNING_RATE)
    progress = Progress() if folder is None else _resumed(folder, sentences, optimiser)
    if progress.steps:
        log(f"goes on after step {progress.steps} of {len(batches)}")
    step_of = _Step(row, data, cells, sentences, memory, seed)
    first, began = progress.steps, time.perf_counter() - progress.seconds
    for step in range(first, len(batches)):
        if step % preset.sentences_renewed == 0:
            if folder is not None and step > first:
                progress.seconds = time.perf_counter() - began
                _keep(folder, progress, sentences, optimiser)
            step_of.renew()
        loss, candidates = step_of(batches[step])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        done = (step + 1) / len(batches)
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(done / WARMUP, (1 - done) / (1 - WARMUP) + 1e-3)
        optimiser.step()
        progress.steps, progress.loss = step + 1, float(loss.detach())
        progress.candidates += candidates
        if step % STEPS_PER_LINE == 0 or step + 1 == len(batches):
            each = (time.perf_counter() - began) / (step + 1)
            log(f"step {step + 1} of {len(batches)}: loss {progress.loss:.3f}, {each:.1f} s per step")
    return _figures(progress, len(order), len(batches), time.perf_counter() - began)


class _Step:
    """The loss of a batch.

    1. Encode the questions.
    2. Take as candidates the right cells of the batch; with K-MIPS attention, also each question's K best
       cells by the keys of the last renewal.
    3. Encode the candidates, and normalise over them.
    """

    def __init__(
        self, row: Row, data: Data, cells: Cells, sentences: Sentences, memory: EncodedMemory, seed: int
    ) -> None:
        self.asked, self.sentences, self.memory = data.asked["train"], sentences, memory
        nothing = Ragged(np.zeros(len(self.asked) + 1, np.int64), np.zeros(0, np.int64))
        self.targets = Targets(data.facts, cells, cells.of_fact.take(self.asked.cell), nothing)
        self.indexed = IndexedMemory(memory)
        self.reader = KMIPSReader(self.indexed, row.k) if row.reader == SENTENCES_KMIPS else None
        self.generator = torch.Generator().manual_seed(seed)

    def renew(self) -> None:
        """Encode all cells for the search of K-MIPS attention."""
        if self.reader is not None:
            self.sentences.eval()
            self.memory.renew()
            self.indexed.rebuild()

    def __call__(self, batch: NDArray[np.int64]) -> tuple[Tensor, int]:
        """Mean loss of questions ``(B,)``, by their numbers, and the size of the softmax."""
        self.sentences.train()
        query: Tensor = self.sentences([self.asked.text[number] for number in batch])  # (B, H)
        target = torch.unique(torch.from_numpy(self.targets.right.take(batch).flat)).to(query.device)  # (T,)
        cell = target  # (C,)
        if self.reader is not None:
            cell = self.reader.candidates(query, target, self.generator).cell
        right, _ = self.targets.masks(batch, cell)  # (B, C)
        score = SCALE * query @ self.memory.keys_of(cell).T  # (B, C)
        return marginal_nll(score, right).mean(), len(cell)


def _figures(progress: Progress, questions: int, steps: int, seconds: float) -> dict[str, Any]:
    return {
        "steps": steps,
        "trained_on": {"questions": questions, "steps": steps, "seconds": seconds},
        "softmax_size": progress.candidates / steps,
        "seconds_a_step": seconds / steps,
        "seconds_an_epoch": seconds,
        "epochs_to_best": 1,
        "curve": [{"epoch": 1, "loss": progress.loss, "seconds": seconds}],
    }


def _keep(folder: Path, progress: Progress, sentences: Sentences, optimiser: torch.optim.AdamW) -> None:
    """Keep the whole state of training."""
    drawn = {"cpu": torch.get_rng_state()}
    if next(sentences.parameters()).is_cuda:
        drawn["cuda"] = torch.cuda.get_rng_state()
    adam = {
        f"{number}.{name}": value
        for number, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }
    with writing_bundle(folder) as bundle:
        write_json(bundle, "progress.json", asdict(progress))
        write_tensors(bundle, "encoder.safetensors", sentences.state_dict())
        write_tensors(bundle, "adam.safetensors", adam)
        write_tensors(bundle, "random.safetensors", drawn)


def _resumed(folder: Path, sentences: Sentences, optimiser: torch.optim.AdamW) -> Progress:
    """Load what was kept, if anything was; ``BundleError`` if it does not fit."""
    if not folder.exists():
        return Progress()
    saved = BundleReader(folder)
    with fitting(folder):
        sentences.load_state_dict(saved.tensors("encoder.safetensors", finite=True))
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in saved.tensors("adam.safetensors", finite=True).items():
            number, _, name = key.partition(".")
            state.setdefault(int(number), {})[name] = tensor
        parameters = list(sentences.parameters())
        for place, values in state.items():
            for name, value in values.items():
                if name != "step" and value.shape != parameters[place].shape:
                    raise ValueError(f"{name} of parameter {place} has shape {tuple(value.shape)}")
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        drawn = saved.tensors("random.safetensors")
        torch.set_rng_state(drawn["cpu"])
        if "cuda" in drawn:
            torch.cuda.set_rng_state(drawn["cuda"])
        return record_of(Progress, saved.json("progress.json"))
