"""Finished parts that are kept."""

from __future__ import annotations

from pathlib import Path

from bench.index.cache import Kept, slug


def test_finished_parts_count_for_their_key_alone(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    assert kept.read("sweep", {"version": 1}) is None
    kept.write("sweep", {"version": 1}, [1.5])
    assert kept.read("sweep", {"version": 1}) == [1.5]
    assert kept.read("sweep", {"version": 2}) is None
    assert slug("faiss IVF-Flat", "a/b", None) == "faiss_IVF-Flat-a_b-None"
