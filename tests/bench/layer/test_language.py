"""The language model predicts from earlier tokens alone, and is measured in bits per byte."""

from __future__ import annotations

import json
import math
import tarfile
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
import torch
from bench.layer.corpus import END, Corpus
from bench.layer.model import LENGTH, LanguageModel
from torch import nn

from bench.layer import corpus, language


def packed(path: Path, poems: list[list[str]]) -> None:
    """An archive with one file of poems."""
    text = json.dumps([{"paragraphs": lines} for lines in poems]).encode()
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(f"{corpus.FOLDER}tang.0.json")
        member.size = len(text)
        archive.addfile(member, BytesIO(text))


def test_poems_are_split_as_wholes_and_every_byte_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poems = [[f"詩{number}，", "月。"] for number in range(500)] + [["詩1，月。"], [""]]
    packed(tmp_path / corpus.FILE, poems)
    monkeypatch.setattr(corpus, "fetched", lambda *_: tmp_path / corpus.FILE)
    found = corpus.load(tmp_path)
    assert sum(found.poems.values()) == 500 and found.poems["train"] > 450
    assert all(count for count in found.poems.values())
    size = sum(len("".join(poem).encode()) + 1 for poem in poems[:500])
    assert sum(int(part.sum()) for part in found.size.values()) == size
    for part, tokens in found.tokens.items():
        assert int((tokens == END).sum()) == found.poems[part]
        assert tokens.max() < corpus.TOKENS and len(tokens) == len(found.size[part])


@pytest.mark.parametrize("name", language.BLOCKS)
def test_later_tokens_change_nothing_before_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "CELLS", 1_024)
    monkeypatch.setattr(language, "WIDE", 64)
    torch.manual_seed(0)
    model = LanguageModel(50, partial(language.BLOCKS[name], 0)).eval()
    tokens = torch.randint(50, (2, 20))
    before = model(tokens)
    tokens[:, 12:] = 0
    torch.testing.assert_close(model(tokens)[:, :12], before[:, :12], rtol=1e-3, atol=1e-4)


class Uniform(nn.Module):
    """Knows nothing."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*tokens.shape, 64)


def test_bits_per_byte_of_a_model_that_knows_nothing() -> None:
    count = language.PREDICTED * LENGTH + 1
    size = torch.arange(count) % 3 + 1
    texts = Corpus({"valid": torch.zeros(count, dtype=torch.int64)}, {"valid": size}, {})
    wanted = math.log2(64) * (count - 1) / float(size[1:].sum())
    assert language.bits_per_byte(Uniform(), texts, "valid") == pytest.approx(wanted)


def test_a_training_lowers_the_bits_and_says_how_the_memory_was_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(language, "CELLS", 1_024)
    monkeypatch.setattr(language, "PREDICTED", 16)
    monkeypatch.setattr(language, "ASKED_AT", (4, 12))
    monkeypatch.setattr(language, "RECALL_AT", (1, 12))
    tokens = torch.arange(4_000) % 7
    texts = Corpus(
        dict.fromkeys(corpus.PARTS, tokens), dict.fromkeys(corpus.PARTS, torch.ones_like(tokens)), {}
    )
    said: list[str] = []
    figures = language.train("hmn", 0, texts, said.append, steps=12)
    assert figures["test"] == figures["valid"]["12"] < figures["valid"]["4"] < 12
    assert 0 < figures["use"]["share"] <= 1 and figures["use"]["divergence"] >= 0
    assert set(figures["recall"]) == {"1", "12"} and min(figures["recall"].values()) > 0.85
    assert len(said) == 2
