"""Targets, met or missed."""

from __future__ import annotations

from bench.index.report import report


def test_targets_are_judged_by_the_median_of_ratios() -> None:
    rounds = {
        "hmn cluster": {
            "speeds": [8.0, 9.0, 40.0],
            "speeds_loaded": [4.0, 3.0, 4.0],
            "build": {"codes": "int4"},
        },
        "faiss IVF-Flat": {"speeds": [2.0, 2.0, 2.0], "build": {}},
        "ScaNN": {"speeds": [8.0, 9.0, 10.0], "build": {}},
    }
    seconds = {"faiss IVF-Flat": [2.0, 2.0, 2.0], "hmn cluster": [4.0, 1.0, 1.0]}
    found = {"rounds": {"256": rounds, "1": {}}, "builds": {"builds": {}, "seconds": seconds}}
    lines = {one["target"]: one for one in report.must_show({"data": {"a": found}})}
    assert lines["(a) batch 256, times faiss IVF-Flat"]["measured"] == (4.5, 4.0, 20.0)
    assert lines["(a) batch 256, times faiss IVF-Flat"]["verdict"] == "met"
    assert lines["(a) batch 256, times the best ScaNN"]["verdict"] == "missed"
    assert lines["(a) batch 1, times faiss IVF-Flat"]["verdict"] == "not measured"
    assert lines["(a) build, times faiss IVF-Flat"]["measured"] == (2.0, 0.5, 2.0)
    assert lines["(a) batch 256, share of its speed beside 2 busy processes"]["measured"] == (1 / 3, 0.1, 0.5)
    assert lines["(a) batch 256, our fastest times the fastest other"]["measured"] == (1.0, 1.0, 4.0)
    elsewhere = [one["target"] for one in report.must_show({"data": {"glove": found}})]
    assert not any("IVF-Flat" in name for name in elsewhere), "no speed-up over it is promised there"
    table = report._beside_load(rounds)
    assert "| hmn cluster | 4 | 3.00 (2.00 to 10.00) |" in table
    assert not any("ScaNN" in line for line in table), "was not timed beside busy processes"
