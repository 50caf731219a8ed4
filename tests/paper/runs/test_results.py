from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.paper.made import PRESET

from hmn.paper.grid import FORMAT, ROWS, TEXT, Row
from hmn.paper.preset import Preset
from hmn.paper.runs.constants import constants
from hmn.paper.runs.results import Results, key_of

ROW = ROWS[0]


def test_a_result_is_found_again_and_half_a_line_is_not(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.jsonl"
    results = Results(file)
    results.add({"key": "a", "name": "x"})
    with file.open("a") as opened:
        opened.write('{"key": "b", "na')
    again = Results(file)
    assert "a" in again
    assert "b" not in again
    again.add({"key": "c", "name": "z"})
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == ["a", "c"]
    assert Results(file).runs.keys() == {"a", "c"}


def test_a_last_line_that_lacks_nothing_but_its_end_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text('{"key": "a"}\n{"key": "b"}')
    results = Results(file)
    results.add({"key": "c"})
    assert Results(file).runs.keys() == {"a", "b", "c"}
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "name",
    [
        "network.attention.keyword_filter.RARE",
        "network.attention.search_budget.ROUNDS",
        "baselines.bm25.SATURATION",
        "baselines.sentence_training.SCALE",
    ],
)
def test_a_key_depends_on_the_modules_constants(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of("data", ROW, PRESET, 0, "cpu")
    monkeypatch.setattr(f"hmn.paper.{name}", 77)
    assert key_of("data", ROW, PRESET, 0, "cpu") != before


def test_a_key_depends_on_all_that_a_run_depends_on() -> None:
    other = replace(PRESET, transe=replace(PRESET.transe, margin=2.0))
    keys = [
        key_of("data", ROW, PRESET, 0, "cpu"),
        key_of("date", ROW, PRESET, 0, "cpu"),
        key_of("data", replace(ROW, k=3), PRESET, 0, "cpu"),
        key_of("data", replace(ROW, speed_up=3), PRESET, 0, "cpu"),
        key_of("data", ROW, other, 0, "cpu"),
        key_of("data", ROW, PRESET, 1, "cpu"),
        key_of("data", ROW, PRESET, 0, "cuda"),
        key_of("data", replace(ROW, cells=TEXT), PRESET, 0, "cpu"),
        key_of("data", replace(ROW, cells=TEXT), PRESET, 0, "cpu", "model"),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == key_of("data", ROW, PRESET, 0, "cpu", "model"), "it has no cells of a model"
    assert keys[0] == key_of("data", replace(ROW), Preset.from_dict(asdict(PRESET)), 0, "cpu")


def test_a_setting_added_later_leaves_the_keys_of_rows_without_it() -> None:
    row = {
        "also_tested_with": "",
        "cells": "transe",
        "index": "exact",
        "k": 10,
        "name": "older",
        "reader": "kmips",
        "strategy": "",
        "swept": False,
        "table": "table1",
    }
    parts = json.dumps([FORMAT, constants(), "data", row, asdict(PRESET), 0, "cpu"], sort_keys=True)
    older = Row("older", "table1", "kmips", k=10)
    assert key_of("data", older, PRESET, 0, "cpu") == hashlib.sha256(parts.encode()).hexdigest()[:16]
