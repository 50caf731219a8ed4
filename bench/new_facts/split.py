"""SimpleQuestions divided into facts that are there in training and facts that come later."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

Row = tuple[str, ...]

SEED = 0
"""Seed of the draw of relations and subjects."""


@dataclass(frozen=True)
class Split:
    """Facts by when they come; each list has the order in which its facts are added.

    Attributes:
        old: Facts that are there in training.
        new: Facts of subjects that training does not see.
        relations: Facts of relations that training does not see.
    """

    old: list[Row]
    new: list[Row]
    relations: list[Row]


def rows_of(file: Path) -> list[Row]:
    """Rows of a file of tab-separated columns."""
    return [tuple(line.split("\t")) for line in file.read_text(encoding="utf-8").splitlines()]


def divide(facts: list[Row], held_out: int, relation_share: float) -> Split:
    """Hold out a share of the relations, and at least ``held_out`` other facts: all of some subjects."""
    rng = np.random.default_rng(SEED)
    relations = sorted({relation for _, relation, _ in facts})
    drawn = rng.permutation(len(relations))[: int(relation_share * len(relations))]
    late = {relations[number] for number in drawn}
    subjects = sorted({subject for subject, _, _ in facts})
    count: dict[str, int] = {}
    for subject, relation, _ in facts:
        if relation not in late:
            count[subject] = count.get(subject, 0) + 1
    place: dict[str, int] = {}
    total = 0
    for number in rng.permutation(len(subjects)):
        if total >= held_out:
            break
        place[subjects[number]] = len(place)
        total += count.get(subjects[number], 0)
    known = [fact for fact in facts if fact[1] not in late]
    return Split(
        old=[fact for fact in known if fact[0] not in place],
        new=sorted((fact for fact in known if fact[0] in place), key=lambda fact: place[fact[0]]),
        relations=[fact for fact in facts if fact[1] in late],
    )


def write(data: Path, work: Path, held_out: int, relation_share: float, share: float = 1.0) -> Split:
    """Divide the files of ``data`` into files in ``work``.

    These are ``old.tsv``, ``new.tsv`` and ``relations.tsv``; ``train-…`` and ``valid-…`` hold the questions
    about each.

    Args:
        data: Folder of facts.tsv, train.tsv and valid.tsv.
        work: Folder to write to.
        held_out: Facts of subjects that come later.
        relation_share: Share of the relations that come later.
        share: Share of all facts that are used at all, from the first on.
    """
    facts = rows_of(data / "facts.tsv")
    split = divide(facts[: int(share * len(facts))], held_out, relation_share)
    work.mkdir(parents=True, exist_ok=True)
    for name, part in vars(split).items():
        _write(work / f"{name}.tsv", part)
        there = set(part)
        for asked in ("train", "valid"):
            questions = [row for row in rows_of(data / f"{asked}.tsv") if row[:3] in there]
            _write(work / f"{asked}-{name}.tsv", questions)
    return split


def _write(file: Path, rows: list[Row]) -> None:
    file.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
