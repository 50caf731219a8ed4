"""The benchmark on what a model knows, on a small table and its questions, from files to page and picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench.known.__main__ import pooled
from bench.known.report import picture, report
from bench.machine import machine
from tests.qa.small import Split, fitted

from bench.known import measure
from hmn.facts.table import FactTable

PERSON = "kalomi"


@pytest.fixture
def work(tmp_path: Path, small_facts: FactTable, small_split: Split, small_files: Path) -> Path:
    for name in ("train", "valid"):
        (tmp_path / f"{name}.tsv").write_bytes((small_files / "train.tsv").read_bytes())
    measure.split(tmp_path, tmp_path)
    fitted(small_facts, small_split, tmp_path / "model")
    known = small_facts.names_of(int(small_facts.subject[0]))[0]
    said = {"directed_by": f"{PERSON} film", "starred_actors": known}
    facts = [f"{PERSON} film|directed_by|a {PERSON}", f"{known}|has_tags|comedy"]
    (tmp_path / "kb.txt").write_text("\n".join(facts), encoding="utf-8")
    for hops in measure.HOPS:
        rows = [f"who directed [{said['directed_by']}]\ta {PERSON}", f"what describes [{known}]\tcomedy"]
        (tmp_path / f"{hops}hop-valid.txt").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def test_what_is_measured(work: Path) -> None:
    even, odd = ((work / name).read_text().splitlines() for name in ("held-out.tsv", "measured.tsv"))
    assert not set(even) & set(odd) and len(even) == len(odd)
    found = measure.measure(work, work, work)
    found["pooled"] = pooled(found["metaqa"])
    half = found["half removed"]
    assert 0 < half["removed"] < found["questions"]
    assert half["known of those removed"] < half["known of those left"]
    assert [row["answerable"] for row in found["metaqa"]] == [0, 0, 0]
    assert found["pooled"]["auroc"] == pytest.approx(np.mean([row["auroc"] for row in found["metaqa"]]))
    page = report({"machine": machine(), "training": {"command": "hmn train"}, "figures": found})
    assert f"| {half['auroc']:.4f} | 0.95 |" in page
    assert picture(found).startswith(b"\x89PNG")


def test_questions_that_the_table_answers_are_found(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SAME", {"has_tags": ("person/wrote",)})
    found = measure.measure(work, work, work)
    assert [row["answerable"] for row in found["metaqa"]] == [1, 0, 0]
