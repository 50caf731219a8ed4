"""The folder of a run: what is resumed, what is refused, and what is left."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from tests.qa.small import Split, contents, fitted
from tests.store.crashes import lay_aside

from hmn.errors import BundleError, ConfigError
from hmn.facts.table import FactTable


def stopped(facts: FactTable, split: Split, out: Path, step: int, **settings: Any) -> None:
    """Train until Ctrl-C is pressed at a step."""

    def stop(done: int, total: int) -> None:  # noqa: ARG001
        if done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(facts, split, out, on_progress=stop, checkpoint_seconds=0.0, **settings)


@pytest.mark.slow
def test_a_setting_without_effect_may_change_and_any_other_may_not(
    small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    fitted(small_facts, small_split, tmp_path / "whole")
    stopped(small_facts, small_split, tmp_path / "cut", step=30)
    with pytest.raises(ConfigError, match=r"has other settings \(patience was 3 and is 2\)"):
        fitted(small_facts, small_split, tmp_path / "cut", resume=True, patience=2)
    fitted(small_facts, small_split, tmp_path / "cut", resume=True, checkpoint_seconds=7.0)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert sorted(file.name for file in (tmp_path / "cut.run").iterdir()) == ["metrics.jsonl"]


@pytest.mark.slow
def test_a_checkpoint_that_a_crash_has_set_aside_is_resumed(
    small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    fitted(small_facts, small_split, tmp_path / "whole")
    stopped(small_facts, small_split, tmp_path / "cut", step=30)
    lay_aside(tmp_path / "cut.run" / "checkpoint")
    with pytest.raises(ConfigError, match="holds an unfinished run"):
        fitted(small_facts, small_split, tmp_path / "cut")
    fitted(small_facts, small_split, tmp_path / "cut", resume=True)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert sorted(file.name for file in (tmp_path / "cut.run").iterdir()) == ["metrics.jsonl"]


@pytest.mark.slow
def test_what_a_killed_removal_has_left_is_no_unfinished_run(
    small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    model = fitted(small_facts, small_split, tmp_path / "m", epochs=1)
    (tmp_path / "m.run" / "checkpoint").mkdir()
    (tmp_path / "m.run" / "checkpoint" / "state.json").touch()
    again = fitted(small_facts, small_split, tmp_path / "m", epochs=1, resume=True)
    question = small_split[1].text[0]
    assert again.ask(question) == model.ask(question)


def test_a_full_disk_is_reported_and_the_run_can_be_resumed(
    small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    full: list[OSError] = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if full and armed:
            raise full[0]
        real(descriptor)

    armed: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(BundleError, match=r"checkpoint: could not write it .*No space left.*free space"):
            fitted(small_facts, small_split, tmp_path / "m", epochs=1, checkpoint_seconds=0.0,
                   on_progress=lambda done, _: armed.append(done))  # fmt: skip
    assert armed == [1]
    fitted(small_facts, small_split, tmp_path / "m", epochs=1, resume=True)
    assert not (tmp_path / "m.run" / "checkpoint").exists()


def test_a_log_that_cannot_be_written_is_named(
    small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    stopped_at: list[int] = []
    with pytest.raises(BundleError, match=r"metrics\.jsonl: could not write it"):
        stopped(small_facts, small_split, tmp_path / "n", step=1)
        (tmp_path / "n.run" / "metrics.jsonl").unlink()
        (tmp_path / "n.run" / "metrics.jsonl").mkdir()
        fitted(
            small_facts, small_split, tmp_path / "n", resume=True, on_progress=lambda *_: stopped_at.append(1)
        )
    assert stopped_at == []
