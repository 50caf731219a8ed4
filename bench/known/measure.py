"""Asks a model about what its table holds, what was removed from it, and what it never held."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.known.figures import Floats, auroc, bins, calibration_error, coverage, risks
from bench.qa import run
from hmn.facts.questions import QuestionSet
from hmn.qa.cells import folded_names
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.metrics import Outcome

HOPS = (1, 2, 3)
"""Numbers of steps of MetaQA's files."""
SAME = {
    "directed_by": ("film/film/directed_by", "film/director/film"),
    "written_by": ("film/film/written_by", "film/film/story_by", "film/writer/film"),
    "starred_actors": ("film/film/starring", "film/actor/film"),
    "release_year": ("film/film/initial_release_date",),
    "in_language": ("film/film/language",),
    "has_genre": ("film/film/genre", "media_common/netflix_title/netflix_genres"),
    "has_tags": ("film/film/subjects", "film/film/genre"),
}
"""Relations of SimpleQuestions that say what a relation of MetaQA says, in either direction."""
PRECISION = 0.95
"""Precision that the threshold is set for."""
CURVE = 200
"""Number of points of a curve that are kept."""


def split(data: Path, work: Path) -> None:
    """Write the even and the odd lines of ``valid.tsv``: the first are held out in training."""
    lines = (data / "valid.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    for name, part in (("held-out", lines[0::2]), ("measured", lines[1::2])):
        (work / f"{name}.tsv").write_text("".join(part), encoding="utf-8")


def train(data: Path, work: Path) -> dict[str, Any]:
    """Train through the command line, on one thread."""
    flags = ["train", "--facts", str(data / "facts.tsv"), "--names", str(data / "names.tsv")]
    flags += ["--questions", str(data / "train.tsv"), "--valid", str(work / "held-out.tsv")]
    flags += ["--out", str(work / "model"), "--threads", "1", "--resume"]
    run([sys.executable, "-m", "hmn.cli", *flags])
    shown = " ".join(["hmn", *flags[:-1]]).replace(str(data), "$DATA").replace(str(work), "$WORK")
    return {"command": shown}


def asked(qa: FactoidQA, texts: list[str]) -> tuple[Floats, Floats]:
    """Probability that the table holds the answer, and that of the best answer, per question."""
    found = qa.ask_all(texts, 1)
    known = [answers.known_probability or 0.0 for answers in found]
    return np.array(known), np.array([answers[0].probability if answers else 0.0 for answers in found])


def measure(work: Path, metaqa: Path) -> dict[str, Any]:
    """All figures. The model in memory loses facts in the course of it."""
    qa = FactoidQA.from_pretrained(work / "model").use_precision(PRECISION)
    assert qa.judge is not None
    questions = QuestionSet.read(work / "measured.tsv", qa.facts)
    outcomes: list[Outcome] = []
    evaluation = qa.evaluate(questions, outcomes=outcomes)
    pair = np.array([outcome.pair for outcome in outcomes])
    right = np.array([outcome.answer for outcome in outcomes])
    threshold = qa.judge.head.threshold(qa.config.precision)
    known, best = asked(qa, questions.text)
    result: dict[str, Any] = {
        "questions": len(questions),
        "pair_accuracy": evaluation.pair_accuracy,
        "threshold": threshold,
        "precision asked for": qa.config.precision,
        "as they are": {**_calibrated(best, right), "known": float((known >= threshold).mean())},
        "metaqa": [_strange(qa, metaqa, hops, known, threshold) for hops in HOPS],
    }
    removed = _remove_half(qa, questions)
    known, best = asked(qa, questions.text)
    still = np.where(removed, 0.0, right)
    said = known >= threshold
    result["half removed"] = {
        "removed": int(removed.sum()),
        "auroc": auroc(known[~removed], known[removed]),
        "known of those removed": float(said[removed].mean()),
        "known of those left": float(said[~removed].mean()),
        "precision of what is known": float((said * np.where(removed, 0.0, pair)).sum() / said.sum()),
        **_calibrated(best, still),
    }
    return result


def _calibrated(probability: Floats, right: Floats) -> dict[str, Any]:
    covered, risk = risks(probability, right)
    chosen = np.unique(np.linspace(0, len(covered) - 1, CURVE).astype(int))
    return {
        "calibration error": calibration_error(probability, right),
        "coverage at 0.99": coverage(probability, right, 0.99),
        "coverage at 0.95": coverage(probability, right, 0.95),
        "bins": bins(probability, right),
        "curve": [(float(covered[point]), float(risk[point])) for point in chosen],
    }


def _remove_half(qa: FactoidQA, questions: QuestionSet) -> NDArray[np.bool_]:
    """Remove the facts of half of the questions, with all that read the same; returns which lost theirs."""
    chosen = np.random.default_rng(0).random(len(questions)) < 0.5
    gone: set[int] = set()
    for fact in questions.cell[chosen]:
        gone.update(qa.cells.facts.take(qa.cells.of_fact.row(int(fact))).flat.tolist())
    removed = np.isin(questions.cell, sorted(gone))
    qa.remove_facts([qa.facts.fact(fact)[:3] for fact in sorted(gone)])
    return removed


def _strange(qa: FactoidQA, metaqa: Path, hops: int, known: Floats, threshold: float) -> dict[str, Any]:
    """Figures on MetaQA's questions that the table of SimpleQuestions does not answer."""
    texts, answerable = [], []
    facts = _said_of(metaqa)
    here = _names(qa)
    for line in (metaqa / f"{hops}hop-valid.txt").read_text(encoding="utf-8").splitlines():
        text, answers = line.split("\t")[:2]
        topic = text[text.index("[") + 1 : text.rindex("]")]
        texts.append(re.sub(r"[\[\]]", "", text))
        says = facts.get(topic, {}) if hops == 1 else {}
        asks = {relation for relation, ends in says.items() if ends & set(answers.split("|"))}
        there = here.get(folded_names([topic], qa.cells.splitting)[0], set())
        answerable.append(any(same in there for relation in asks for same in SAME.get(relation, ())))
    strange = ~np.array(answerable)
    of_all, _ = asked(qa, texts)
    return {
        "hops": hops,
        "questions": len(texts),
        "answerable": int((~strange).sum()),
        "auroc": auroc(known, of_all[strange]),
        "known": float((of_all[strange] >= threshold).mean()),
        "auroc of all": auroc(known, of_all),
        "known of all": float((of_all >= threshold).mean()),
    }


def _said_of(metaqa: Path) -> dict[str, dict[str, set[str]]]:
    """What MetaQA's facts say of each entity, in both directions: the other ends by relation."""
    said: dict[str, dict[str, set[str]]] = {}
    for line in (metaqa / "kb.txt").read_text(encoding="utf-8").splitlines():
        subject, relation, object_ = line.split("|")
        for one, other in ((subject, object_), (object_, subject)):
            said.setdefault(one, {}).setdefault(relation, set()).add(other)
    return said


def _names(qa: FactoidQA) -> dict[str, set[str]]:
    """Relations of the facts about each name, as the encoders see it."""
    names: dict[str, set[str]] = {}
    facts = qa.facts
    for subject, relation in set(zip(facts.subject.tolist(), facts.relation.tolist(), strict=True)):
        for name in folded_names(facts.names_of(subject), qa.cells.splitting):
            names.setdefault(name, set()).add(facts.relations[relation])
    return names
