"""Bundles and checkpoints whose content is damaged although their checksums fit."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest
from tests.fuzz import bundles
from tests.fuzz.bundles import (
    INDEXES,
    PRETRAINED,
    make_bundle,
    make_checkpoint,
    outcome,
    resumed,
    try_damaged,
)

BUNDLES_EACH = 40
"""Damaged bundles per kind of index."""
CHECKPOINTS_EACH = 25
"""Damaged checkpoints per kind of index."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.mark.parametrize("index", [*INDEXES, PRETRAINED])
def test_a_damaged_bundle_answers_or_is_refused_by_the_name_of_a_file(index: str, tmp_path: Path) -> None:
    if index == PRETRAINED:
        pytest.importorskip("sentence_transformers", reason="the extra 'pretrained' is not installed")
    whole = make_bundle(tmp_path / "whole", index)
    assert outcome(whole) == "answered"
    seen = collections.Counter(
        try_damaged(f"{index} {seed}", whole, tmp_path / "copy", outcome).split(":")[0]
        for seed in range(BUNDLES_EACH)
    )
    assert seen["answered"] >= 1 and seen["BundleError"] >= 20


@pytest.mark.parametrize("index", [INDEXES[1], INDEXES[2]])
def test_a_damaged_checkpoint_is_resumed_or_refused_by_name(index: str, tmp_path: Path) -> None:
    whole, copy = make_checkpoint(tmp_path / "whole", index), tmp_path / "copy.run" / "checkpoint"
    seen = collections.Counter(
        try_damaged(
            f"{index} {seed}", whole, copy, lambda _: resumed(tmp_path / "copy", index), damaged=bool(seed)
        ).split(":")[0]
        for seed in range(CHECKPOINTS_EACH)
    )
    assert seen["trained"] >= 1 and seen["BundleError"] >= 5
    assert resumed(tmp_path / "whole", index) == "trained"


def test_a_case_that_fails_says_how_to_make_it_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    monkeypatch.setattr(bundles, "damage", lambda copy, rng: f"{copy.name} {rng.random():.3f}")
    with pytest.raises(AssertionError, match=r"case 'x 1', copy 0\.\d+: KeyError: 3"):
        try_damaged("x 1", tmp_path / "whole", tmp_path / "copy", lambda _: {}[3])
