"""Runs a row of a sentence encoder: trains it as the row says, then measures it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.facts.questions import QuestionSet
from hmn.index.protocol import Searcher
from hmn.index.registry import make_index
from hmn.index.structures.exact import ExactIndex
from hmn.nn.memory.encoded import EncodedMemory
from hmn.paper.baselines.sentence_encoder import TEXTS_PER_PART, SentenceCells, Sentences
from hmn.paper.baselines.sentence_training import train_sentences
from hmn.paper.data import Data
from hmn.paper.grid import Row
from hmn.paper.network.measure import index_search, measure
from hmn.paper.preset import Preset
from hmn.paper.process import peak_mib
from hmn.qa.cells import Cells
from hmn.qa.encoders.pretrained import open_encoder
from hmn.qa.words.splitting import LETTERS
from hmn.store.bundle import BundleReader, write_tensors, writing_bundle
from hmn.store.contents import fitting

CELLS_PER_LIST = 64
"""Cells per list of faiss IVF, on average."""
PROBES = 16
"""Lists that faiss reads per question."""
ENCODER = "encoder.safetensors"
"""Name of the file of a finished encoder."""


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

    Args:
        row: how the encoder is trained.
        preset: sizes.
        data: facts and questions.
        seed: seed of training and of faiss.
        device: device that computes.
        log: called with a line now and then.
        folder: folder that keeps an unfinished training, which continues from it; None to keep nothing.
        network: folder that keeps a trained encoder; None to keep nothing.
        only_test: whether the encoder in ``network`` is asked the test questions and nothing is trained.

    Raises:
        MissingPackageError: the extra ``pretrained`` or ``faiss`` is not installed.
    """
    cells = Cells.of(data.facts, splitting=LETTERS)
    relations = [data.facts.relation_text(number) for number in range(len(data.facts.relations))]
    lists = max(1, len(cells) // CELLS_PER_LIST)
    index = make_index(f"faiss:IVF{lists},Flat,num_probes={min(PROBES, lists)}", seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sentences = Sentences(open_encoder("minilm")).to(device)
        memory = EncodedMemory(SentenceCells(sentences, cells.texts(relations), log))
        if only_test:
            assert network is not None
            with fitting(network / ENCODER):
                sentences.load_state_dict(BundleReader(network).tensors(ENCODER, finite=True))
            figures: dict[str, Any] = {}
        else:
            figures = train_sentences(
                row, preset, data, cells, sentences, memory, seed=seed, log=log, folder=folder
            )
    figures["peak_mib"] = peak_mib()
    if network is not None and row.seeded and not only_test:
        with writing_bundle(network) as bundle:
            write_tensors(bundle, ENCODER, sentences.state_dict())
    sentences.eval()
    began = time.perf_counter()
    keys = memory.renew()
    index.build(keys)
    built = time.perf_counter() - began
    searchers = {"own": index, "exact": ExactIndex(keys)}
    names = ["test"] if only_test else [name for name in data.asked if name != "train"]
    tested = {name: _tested(preset, data, cells, sentences, data.asked[name], searchers) for name in names}
    if only_test:
        return {"tested": tested}
    if figures["curve"]:
        own = tested["valid"]["own"]
        figures["curve"][-1] |= {"fact": own["fact"], "pair": own["pair"]}
    return {
        **figures,
        "build_seconds": built,
        "questions": {"natural": figures["trained_on"]["questions"], "artificial": 0},
        "cells": list(keys.shape),
        "facts": len(data.facts),
        "tested": tested,
    }


def _tested(
    preset: Preset,
    data: Data,
    cells: Cells,
    sentences: Sentences,
    questions: QuestionSet,
    searchers: Mapping[str, Searcher],
) -> dict[str, Any]:
    """Figures of held-out questions by search."""
    with torch.no_grad():
        parts = [
            sentences(questions.text[start : start + TEXTS_PER_PART])
            for start in range(0, len(questions), TEXTS_PER_PART)
        ]
        query = torch.cat(parts)  # (Q, H)

    def encode(numbers: NDArray[Any]) -> Tensor:
        return query[torch.from_numpy(numbers).to(query.device)]  # (B, H)

    figures = {}
    for name, searcher in searchers.items():
        figures[name] = measure(
            index_search(searcher),
            encode,
            data.facts,
            cells,
            questions,
            exact=searchers["exact"],
            recall_on=preset.recall_on,
        ).as_dict()
    return figures
