"""Asks a model about what its table holds, what was removed from it, and what it never held."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.known.figures import Floats, auroc, bins, calibration_error, coverage, risks
from bench.qa import run
from hmn.facts.questions import QuestionSet
from hmn.qa.asking import make_judge
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
EXAMPLES = 10
"""Number of wrong answers per half that are shown."""
CURVE = 200
"""Number of points of a curve that are kept."""


def split(data: Path, work: Path) -> None:
    """Write the even and the odd lines of ``valid.tsv``: the first choose the epoch of training."""
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


class Half(NamedTuple):
    """What a model says of half of the held-out questions, while its judge has seen the other half.

    Attributes:
        known, best: probabilities that the table holds the answer, and that the best answer is right.
        pair, right: shares of right ones among the best pairs and answers.
        removed: whether a question loses its facts.
        known_left, best_left: as ``known`` and ``best``, after the facts were removed.
        threshold: probability from which an answer counts as known.
        strange: ``known`` of MetaQA's questions, by number of steps.
        wrong: the most probable wrong answers, in words.
    """

    known: Floats
    best: Floats
    pair: Floats
    right: Floats
    removed: NDArray[np.bool_]
    known_left: Floats
    best_left: Floats
    threshold: float
    strange: dict[int, Floats]
    wrong: list[str]


def measure(data: Path, work: Path, metaqa: Path) -> dict[str, Any]:
    """All figures: each half of the held-out questions is measured while the judge sees the other half."""
    qa = FactoidQA.from_pretrained(work / "model")
    strange = {hops: _strange(qa, metaqa, hops) for hops in HOPS}
    halves = [
        _half(data, work / one, work / other, strange)
        for one, other in (("held-out.tsv", "measured.tsv"), ("measured.tsv", "held-out.tsv"))
    ]
    columns = list(zip(*halves, strict=True))
    known, best, pair, right, removed, known_left, best_left = map(np.concatenate, columns[:7])
    said, said_left = (
        np.concatenate([values >= half.threshold for half, values in zip(halves, column, strict=True)])
        for column in (columns[0], columns[5])
    )
    still = np.where(removed, 0.0, right)
    return {
        "questions": len(known),
        "pair_accuracy": float(pair.mean()),
        "thresholds": [half.threshold for half in halves],
        "precision asked for": PRECISION,
        "as they are": {**_calibrated(best, right), "known": float(said.mean())},
        "coverage by half": [coverage(half.best, half.right, 0.99) for half in halves],
        "half removed": {
            "removed": int(removed.sum()),
            "auroc": auroc(known_left[~removed], known_left[removed]),
            "known of those removed": float(said_left[removed].mean()),
            "known of those left": float(said_left[~removed].mean()),
            "precision of what is known": float(
                (said_left * np.where(removed, 0.0, pair)).sum() / said_left.sum()
            ),
            **_calibrated(best_left, still),
        },
        "metaqa": [_figures(halves, hops, strange[hops], known) for hops in HOPS],
        "wrong": [text for half in halves for text in half.wrong],
    }


def _half(
    data: Path, seen: Path, measured: Path, strange: dict[int, tuple[list[str], NDArray[np.bool_]]]
) -> Half:
    """Ask the questions of ``measured`` with a judge that has learned from training and from ``seen``."""
    qa = FactoidQA.from_pretrained(seen.parent / "model").use_precision(PRECISION)
    judge = make_judge(qa.network.eval(), qa.config.k)
    judge.learn(QuestionSet.read(data / "train.tsv", qa.facts), QuestionSet.read(seen, qa.facts), seed=0)
    qa.judge = judge
    questions = QuestionSet.read(measured, qa.facts)
    outcomes: list[Outcome] = []
    qa.evaluate(questions, outcomes=outcomes)
    pair, right = (
        np.array([float(getattr(outcome, name)) for outcome in outcomes]) for name in ("pair", "answer")
    )
    known, best = asked(qa, questions.text)
    of_strange = {hops: asked(qa, texts)[0] for hops, (texts, _) in strange.items()}
    wrong = _most_probable_wrong(qa, questions, best, right)
    threshold = judge.head.threshold(qa.config.precision)
    removed = _remove_half(qa, questions)
    left = asked(qa, questions.text)
    return Half(known, best, pair, right, removed, *left, threshold, of_strange, wrong)


def _most_probable_wrong(qa: FactoidQA, questions: QuestionSet, best: Floats, right: Floats) -> list[str]:
    """The most probable answers that count as wrong, in words, with the fact that counts as right."""
    order = np.argsort(-best, kind="stable")
    chosen = order[right[order] == 0][:EXAMPLES]
    shown = []
    for number, found in zip(chosen, qa.ask_all([questions.text[row] for row in chosen], 1), strict=True):
        fact, given = found[0].facts[0], qa.facts.fact(int(questions.cell[number]))
        shown.append(
            f"{questions.text[number]}: {fact.subject_name} · {fact.relation} ({100 * best[number]:.1f} %); "
            f"in the data: {given.subject_name} · {given.relation}"
        )
    return shown


def _figures(
    halves: list[Half], hops: int, strange: tuple[list[str], NDArray[np.bool_]], known: Floats
) -> dict[str, Any]:
    """Figures on MetaQA's questions of a number of steps, asked once per judge."""
    is_strange = strange[1]
    of_all = np.concatenate([half.strange[hops] for half in halves])
    said = np.concatenate([half.strange[hops] >= half.threshold for half in halves])
    chosen = np.concatenate([is_strange] * len(halves))
    return {
        "hops": hops,
        "questions": len(is_strange),
        "answerable": int((~is_strange).sum()),
        "auroc": auroc(known, of_all[chosen]),
        "known": float(said[chosen].mean()),
        "auroc of all": auroc(known, of_all),
        "known of all": float(said.mean()),
    }


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


def _strange(qa: FactoidQA, metaqa: Path, hops: int) -> tuple[list[str], NDArray[np.bool_]]:
    """MetaQA's questions, and whether each is one that the table of SimpleQuestions does not answer."""
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
    return texts, ~np.array(answerable)


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
