"""A pretrained sentence encoder over the texts of the cells: as it comes, and trained in two ways.

In-batch negatives (the loss of sentence-transformers' MultipleNegativesRankingLoss: a softmax over the right
texts of the batch) are what such encoders are usually trained with. K-MIPS attention takes the cells of the
whole memory that are most easily confused with the right one, and encodes them afresh in every step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hmn.facts.ragged import Ragged
from hmn.index.protocol import Index
from hmn.index.registry import make_index
from hmn.index.structures.exact import ExactIndex
from hmn.nn.loss import marginal_nll
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.parts import CellMemory
from hmn.nn.reader import KMIPSReader
from hmn.paper.data import Data
from hmn.paper.grid import SENTENCES_IN_BATCH, SENTENCES_KMIPS, Row
from hmn.paper.network.measure import index_search, measure
from hmn.paper.preset import Preset
from hmn.paper.process import peak_mib
from hmn.qa.cells import Cells
from hmn.qa.encoders.pretrained import SentenceEncoder, open_encoder
from hmn.qa.training.targets import Targets
from hmn.store.bundle import BundleReader, write_json, write_tensors, writing_bundle

SCALE = 20.0
"""Cosines are multiplied by it before the softmax, as sentence-transformers does."""
LEARNING_RATE, WARMUP = 2e-5, 0.1
MOST_PIECES = 128
TEXTS_A_CALL, TEXTS_A_PART = 64, 4096
CELLS_A_LIST, PROBES = 64, 16


class Sentences(nn.Module):
    """Texts to unit vectors: the mean of a transformer's hidden states, as sentence-transformers has it.

    Args:
        encoder: a transformer with its tokenizer.
    """

    def __init__(self, encoder: SentenceEncoder) -> None:
        super().__init__()
        from tokenizers import Tokenizer

        self.transformer = encoder.transformer
        self._tokenizer = Tokenizer.from_str(encoder.tokenizer)
        self._tokenizer.enable_truncation(MOST_PIECES)
        self._tokenizer.enable_padding()

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Vectors ``(n, H)`` of n texts."""
        # texts of similar length together, since all of a call are padded to the longest
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        parts = [order[at : at + TEXTS_A_CALL] for at in range(0, len(order), TEXTS_A_CALL)]
        found = torch.cat([self._part([texts[row] for row in part]) for part in parts])
        return found[torch.tensor(order, device=found.device).argsort()]

    def _part(self, texts: Sequence[str]) -> Tensor:
        encoded = self._tokenizer.encode_batch(list(texts))
        device = next(self.parameters()).device
        ids = torch.tensor([one.ids for one in encoded], device=device)
        mask = torch.tensor([one.attention_mask for one in encoded], device=device)
        hidden = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state  # (n, P, H)
        weight = mask.unsqueeze(2).to(hidden.dtype)
        return F.normalize((hidden * weight).sum(dim=1) / weight.sum(dim=1), dim=1)


class SentenceCells(nn.Module):
    """A ``CellEncoder`` of texts.

    Args:
        sentences: encodes them.
        texts: of the cells.
        log: called with a line per part while all texts are encoded.
    """

    def __init__(self, sentences: Sentences, texts: Sequence[str], log: Callable[[str], None]) -> None:
        super().__init__()
        self.sentences, self.texts, self._log = sentences, texts, log
        self.num_cells = len(texts)

    def forward(self, cells: Tensor) -> Tensor:
        """Keys ``(C, H)`` of cells ``(C,)``."""
        keys: Tensor = self.sentences([self.texts[cell] for cell in cells.tolist()])
        return keys

    def all_keys(self) -> Iterator[Tensor]:
        """See ``CellEncoder.all_keys``."""
        for at in range(0, len(self.texts), TEXTS_A_PART):
            yield self.sentences(self.texts[at : at + TEXTS_A_PART])
            self._log(f"encoded {min(at + TEXTS_A_PART, len(self.texts)):,} of {len(self.texts):,} cells")


def run_sentences(
    row: Row,
    preset: Preset,
    data: Data,
    *,
    seed: int,
    device: str,
    log: Callable[[str], None],
    folder: Path | None = None,
    network: Path | None = None,
    only_test: bool = False,
) -> dict[str, Any]:
    """Train as the row says, if at all, and measure with faiss and with exact search.

    Training that is stopped goes on from what it has kept in ``folder``. A trained encoder is kept in
    ``network``; with ``only_test`` that one is measured on the test questions.

    Raises:
        MissingPackageError: the extra ``pretrained`` or ``faiss`` is not installed.
    """
    cells = Cells.of(data.facts)
    relations = [data.facts.relation_text(number) for number in range(len(data.facts.relations))]
    lists = max(1, len(cells) // CELLS_A_LIST)
    index = make_index(f"faiss:IVF{lists},Flat,num_probes={min(PROBES, lists)}", seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sentences = Sentences(open_encoder("minilm")).to(device)
        memory = EncodedMemory(SentenceCells(sentences, cells.texts(relations), log))
        if only_test:
            assert network is not None
            sentences.load_state_dict(BundleReader(network).tensors("encoder.safetensors"))
            trained: dict[str, Any] = {}
        else:
            trained = _train(row, preset, data, cells, sentences, memory, seed, log, folder)
    trained["peak_mib"] = peak_mib()
    if network is not None and row.seeded and not only_test:
        with writing_bundle(network) as bundle:
            write_tensors(bundle, "encoder.safetensors", sentences.state_dict())
    sentences.eval()
    began = time.perf_counter()
    keys = memory.renew()
    index.build(keys)
    built = time.perf_counter() - began
    exact = ExactIndex(keys)
    tested = {
        name: _tested(preset, data, cells, sentences, name, index, exact)
        for name in (["test"] if only_test else data.asked)
        if name != "train"
    }
    if only_test:
        return {"tested": tested}
    if trained["curve"]:
        trained["curve"][-1]["fact"] = tested["valid"]["own"]["fact"]
        trained["curve"][-1]["pair"] = tested["valid"]["own"]["pair"]
    return {
        **trained,
        "build_seconds": built,
        "questions": {"natural": trained["trained_on"]["questions"], "artificial": 0},
        "cells": list(keys.shape),
        "facts": len(data.facts),
        "tested": tested,
    }


@dataclass
class _Progress:
    """How far training is; beside it stand the encoder, its optimiser, and what dropout draws from."""

    steps: int = 0
    candidates: int = 0
    loss: float = 0.0
    seconds: float = 0.0


def _train(
    row: Row,
    preset: Preset,
    data: Data,
    cells: Cells,
    sentences: Sentences,
    memory: EncodedMemory,
    seed: int,
    log: Callable[[str], None],
    folder: Path | None,
) -> dict[str, Any]:
    """One pass over the natural questions; kept in ``folder`` whenever all cells are encoded anew."""
    if row.reader not in {SENTENCES_IN_BATCH, SENTENCES_KMIPS}:
        return {"steps": 0, "curve": [], "trained_on": {"questions": 0, "steps": 0, "seconds": 0.0}}
    asked = data.asked["train"]
    nothing = Ragged(np.zeros(len(asked) + 1, np.int64), np.zeros(0, np.int64))
    targets = Targets(data.facts, cells, cells.of_fact.take(asked.cell), nothing)
    order = np.random.default_rng([seed, 0]).permutation(len(asked))[: preset.sentences_asked]
    batches = np.array_split(order, -(-len(order) // preset.batch_size))
    optimiser = torch.optim.AdamW(sentences.parameters(), LEARNING_RATE)
    indexed = IndexedMemory[CellMemory](memory)
    reader = KMIPSReader(indexed, row.k) if row.reader == SENTENCES_KMIPS else None
    generator = torch.Generator().manual_seed(seed)
    progress = _Progress() if folder is None else _resumed(folder, sentences, optimiser)
    if progress.steps:
        log(f"goes on after step {progress.steps} of {len(batches)}")
    first, began = progress.steps, time.perf_counter() - progress.seconds
    for step in range(first, len(batches)):
        batch = batches[step]
        if step % preset.sentences_renewed == 0:
            if folder is not None and step > first:
                progress.seconds = time.perf_counter() - began
                _keep(folder, progress, sentences, optimiser)
            if reader is not None:
                sentences.eval()
                memory.renew()
                indexed.rebuild()
        sentences.train()
        query: Tensor = sentences([asked.text[number] for number in batch])
        added = torch.unique(torch.from_numpy(targets.right.take(batch).flat)).to(query.device)
        cell = added if reader is None else reader.candidates(query, added, generator).cell
        right, _ = targets.masks(batch, cell)
        loss = marginal_nll(SCALE * query @ memory.keys_of(cell).T, right).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        done = (step + 1) / len(batches)
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(done / WARMUP, (1 - done) / (1 - WARMUP) + 1e-3)
        optimiser.step()
        progress.steps, progress.loss = step + 1, float(loss.detach())
        progress.candidates += len(cell)
        if step % 20 == 0 or step + 1 == len(batches):
            spent = (time.perf_counter() - began) / (step + 1)
            log(f"step {step + 1} of {len(batches)}: loss {progress.loss:.3f}, {spent:.1f} s a step")
    spent = time.perf_counter() - began
    return {
        "steps": len(batches),
        "trained_on": {"questions": len(order), "steps": len(batches), "seconds": spent},
        "softmax_size": progress.candidates / len(batches),
        "seconds_a_step": spent / len(batches),
        "seconds_an_epoch": spent,
        "epochs_to_best": 1,
        "curve": [{"epoch": 1, "loss": progress.loss, "seconds": spent}],
    }


def _keep(folder: Path, progress: _Progress, sentences: Sentences, optimiser: torch.optim.AdamW) -> None:
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


def _resumed(folder: Path, sentences: Sentences, optimiser: torch.optim.AdamW) -> _Progress:
    """Take back what was kept, if anything was."""
    if not folder.exists():
        return _Progress()
    saved = BundleReader(folder)
    sentences.load_state_dict(saved.tensors("encoder.safetensors"))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in saved.tensors("adam.safetensors").items():
        number, _, what = name.partition(".")
        state.setdefault(int(number), {})[what] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    drawn = saved.tensors("random.safetensors")
    torch.set_rng_state(drawn["cpu"])
    if "cuda" in drawn:
        torch.cuda.set_rng_state(drawn["cuda"])
    return _Progress(**saved.json("progress.json"))


def _tested(
    preset: Preset,
    data: Data,
    cells: Cells,
    sentences: Sentences,
    name: str,
    index: Index,
    exact: ExactIndex,
) -> dict[str, Any]:
    questions = data.asked[name]
    with torch.no_grad():
        query = torch.cat(
            [
                sentences(questions.text[at : at + TEXTS_A_PART])
                for at in range(0, len(questions), TEXTS_A_PART)
            ]
        )

    def encode(numbers: NDArray[np.int64]) -> Tensor:
        return query[torch.from_numpy(numbers).to(query.device)]

    found = {}
    for how, searched in (("own", index), ("exact", exact)):
        figures = measure(
            index_search(searched),
            encode,
            data.facts,
            cells,
            questions,
            exact=exact,
            recall_on=preset.recall_on,
        )
        found[how] = figures.as_dict()
    return found
