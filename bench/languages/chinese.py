"""The Chinese table: its own held-out questions, and the same ones in phrasings that training never saw."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from pathlib import Path

PHRASES = Path(__file__).with_name("phrases-chinese.tsv")
"""File of new phrasings: at least six per relation, none of them in the training questions."""


def write_new_phrasings(data: Path, path: Path, seed: int = 2) -> None:
    """Write the held-out questions in new phrasings, each drawn at random."""
    said: dict[str, list[str]] = defaultdict(list)
    for row in _rows(PHRASES):
        said[row["relation"]].append(row["phrase"])
    names = {row["entity"]: row["name"] for row in _rows(data / "names.tsv")}
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["subject", "relation", "object", "question"])
        for row in _rows(data / "valid.tsv"):
            question = rng.choice(said[row["relation"]]).format(n=names[row["subject"]])
            writer.writerow([row["subject"], row["relation"], row["object"], question])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))
