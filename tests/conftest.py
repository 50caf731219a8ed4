from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from hmn._native.groups import Limits
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.structures.hierarchy import index as hierarchical

DATA = Path(__file__).parents[2] / "shared" / "data" / "simplequestions"

settings.register_profile("untimed", deadline=None)  # what a loaded machine takes long for is not wrong
settings.load_profile("untimed")

PHRASES = {
    "person/born_in": ("where was {} born", "the birthplace of {}", "in which town was {} born"),
    "person/profession": ("what does {} do for a living", "the job of {}", "what is the profession of {}"),
    "person/wrote": ("which book did {} write", "a book by {}", "name a book that {} wrote"),
}


@pytest.fixture(scope="session")
def data() -> Path:
    """The SimpleQuestions files, where they are at hand."""
    if not DATA.is_dir():
        pytest.skip(f"the SimpleQuestions data are not at {DATA}")
    return DATA


def _name(rng: random.Random) -> str:
    return " ".join(
        "".join(rng.choice(["ka", "lo", "mi", "ren", "su", "tor", "vel", "zan"]) for _ in range(3))
        for _ in range(2)
    )


@pytest.fixture(scope="session")
def small_rows() -> list[tuple[str, str, str, str]]:
    """Questions with their facts about 120 made-up people, three phrasings per relation."""
    rng = random.Random(7)
    people = sorted({_name(rng) for _ in range(120)})
    rows = []
    for person in people:
        for relation, phrases in PHRASES.items():
            fact = (person.replace(" ", "_"), relation, rng.choice(["alton", "bergen", "celle", "dover"]))
            rows += [(*fact, phrase.format(person)) for phrase in phrases]
    rng.shuffle(rows)
    return rows


@pytest.fixture(scope="session")
def small_facts(small_rows: list[tuple[str, str, str, str]]) -> FactTable:
    return FactTable.from_triples(sorted({row[:3] for row in small_rows}))


@pytest.fixture(scope="session")
def small_split(
    small_rows: list[tuple[str, str, str, str]], small_facts: FactTable
) -> tuple[QuestionSet, QuestionSet]:
    """Training and held-out questions."""
    return QuestionSet.from_rows(small_facts, small_rows[:800]), QuestionSet.from_rows(
        small_facts, small_rows[800:]
    )


@pytest.fixture
def small_files(tmp_path: Path, small_rows: list[tuple[str, str, str, str]]) -> Path:
    """The same as files: facts.tsv, train.tsv, valid.tsv."""
    facts = sorted({row[:3] for row in small_rows})
    for name, rows in {"facts": facts, "train": small_rows[:800], "valid": small_rows[800:]}.items():
        (tmp_path / f"{name}.tsv").write_text(
            "".join("\t".join(row) + "\n" for row in rows), encoding="utf-8"
        )
    return tmp_path


@pytest.fixture(scope="module")
def every_group_entered() -> Iterator[None]:
    """Hierarchies search all of their groups, so that a cell which is filed wrongly is not found.

    At ``reach=None``, and where there are few cells, they would score all cells without a look at groups.
    """

    def enter_everything(*, first: int, kept: int, wanted: int, **_: object) -> Limits:
        return Limits((1e9,), 1e9, first, kept, wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hierarchical, "Limits", enter_everything)
        patch.setattr(hierarchical, "pays", lambda *_: True)
        yield
