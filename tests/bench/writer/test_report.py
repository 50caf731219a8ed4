"""The benchmark in miniature, and the page that it writes."""

from __future__ import annotations

import torch
from bench.machine import machine
from bench.writer.report import markdown

from bench.writer import crowd, overwriting, speed, training


def test_a_miniature_of_every_part_gives_a_page() -> None:
    torch.manual_seed(0)
    lines: list[str] = []
    sort, recall = (training.SETTINGS[task]._replace(longest=2, steps=26) for task in ("sort", "recall"))
    _, sorted_ = training.train("sort", lines.append, sort, batch=4)
    recaller = training.controller_of("recall", recall)
    sorted_["crowd"] = crowd.measure(recaller, lines.append, (600,), steps=1)
    results = {
        "speed": speed.measure(lines.append, (50, 100), steps=2, dense_steps=1, rounds=1),
        "overwriting": overwriting.measure(lines.append, (300, 600), 1, 2, 50),
        "tasks": {"tasks": {"sort": sorted_}},
    }
    for part in results.values():
        part["machine"] = machine()
    text = markdown(results)
    assert text.count("| 600 |") == 1 and "Trained to length 2 in 26 steps" in text
    assert "| 512 |" in text and "| 100 |" in text
    assert any("300 pairs" in line for line in lines)
    levels = results["overwriting"]["levels"]
    assert [level["pairs"] for level in levels] == [300, 600]
    assert all(level["systems"]["hash table"]["accuracy"] == 1 for level in levels)


def test_the_course_goes_on_where_the_error_is_low() -> None:
    setting = training.SETTINGS["sort"]._replace(steps=8, hard=0.5)
    course = training.Course("sort", setting, 2)
    for step in range(4):
        course.episode(step)
        course.note(0.0)
    assert course.look(4)["length"] == 2 and (course.length, course.width) == (4, 1.0)
    for step in range(4, 8):  # of these, the first has any priorities, the others have close ones
        inputs = course.episode(step).inputs
        assert inputs.shape[0] == 2
        course.note(1.0 if step == 4 else 0.0)
    seen = course.look(8)
    assert seen["bits"] == 1 and seen["close bits"] == 0
    assert course.length == 4 and course.width == 1 / training.CLOSER


def test_the_verdict_on_costs_follows_its_rule() -> None:
    costs = {
        count: {"written": {"seconds": own, "bytes": 1.0}, "dense": {"seconds": 1.0, "bytes": 4000.0}}
        for count, own in (("10000", 0.0006), ("1000000", 0.001))
    }
    found = {"index": "cluster", "steps": 2, "dense_steps": 1, "cells": costs, "machine": machine()}
    assert "per step: **met**" in markdown({"speed": found})
    costs["1000000"]["written"]["seconds"] = 0.0011
    assert "per step: **missed**" in markdown({"speed": found})
