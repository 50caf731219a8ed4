"""Poems of the Tang and Song dynasties from the npm package ``chinese-poetry`` (MIT), as tokens."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.index.data.fetch import fetched, npm_pack

PACKAGE = ("chinese-poetry", "2.0.1")
"""Name and version of the package."""
FILE = "chinese-poetry-2.0.1.tgz"
"""Name of its archive."""
SHA256 = "25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86"
"""Checksum of the archive."""
FOLDER = "package/dist/quantangshi/poet."
"""Beginning of the names of the files that hold poems."""
CHARACTERS = 4096 - 257
"""Number of characters that are tokens of their own; others are the tokens of their bytes in UTF-8."""
END = 256
"""Token at the end of a poem, behind those of the 256 bytes; it stands for a line break."""
TOKENS = END + 1 + CHARACTERS
"""Number of different tokens."""
PARTS = {"valid": 1, "test": 1, "train": 98}
"""Percent of the poems in each part; a poem's text decides which, so that its copies share a part."""


@dataclass(frozen=True)
class Corpus:
    """Poems one after another, in an order that has nothing to do with the package's.

    Attributes:
        tokens: the tokens ``(T,)`` int64 of each part.
        size: the bytes ``(T,)`` int64 that each token stands for in UTF-8, by part.
        poems: number of poems in each part.
    """

    tokens: dict[str, Tensor]
    size: dict[str, Tensor]
    poems: dict[str, int]


def load(folder: Path) -> Corpus:
    """The corpus; the archive is in ``folder``, or is downloaded there."""
    archive = fetched(FILE, SHA256, npm_pack(*PACKAGE), folder)
    texts = _texts(archive)
    part: dict[str, list[str]] = {name: [] for name in PARTS}
    for _, text in sorted((_digest(text), text) for text in texts):
        part[_part_of(text)].append(text)
    counts = Counter("".join(part["train"]))
    usual = [character for character, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    number = {character: END + 1 + place for place, character in enumerate(usual[:CHARACTERS])}
    tokens, size = {}, {}
    for name, own in part.items():
        ids: list[int] = []
        sizes: list[int] = []
        for text in own:
            for character in text:
                raw = character.encode()
                ids += [number[character]] if character in number else list(raw)
                sizes += [len(raw)] if character in number else [1] * len(raw)
            ids.append(END)
            sizes.append(1)
        tokens[name] = torch.tensor(ids, dtype=torch.int64)
        size[name] = torch.tensor(sizes, dtype=torch.int64)
    return Corpus(tokens, size, {name: len(own) for name, own in part.items()})


def _texts(archive: Path) -> set[str]:
    """The poems, each once."""
    texts = set()
    with tarfile.open(archive) as package:
        for member in package:
            if member.name.startswith(FOLDER) and member.name.endswith(".json"):
                file = package.extractfile(member)
                assert file is not None
                for poem in json.load(file):
                    texts.add("".join(poem["paragraphs"]))
    texts.discard("")
    return texts


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _part_of(text: str) -> str:
    place = int.from_bytes(_digest(text)[-4:], "big") % 100
    for name, percent in PARTS.items():
        if place < percent:
            return name
        place -= percent
    raise AssertionError("the parts add up to 100 percent")
