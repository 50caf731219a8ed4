from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.qa.small import SIZES, TRAINING

from hmn.errors import ConfigError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.nn.weights import weights_of
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.metrics import Evaluation
from hmn.qa.training.optim import TABLES
from hmn.qa.training.run_folder import Run

Split = tuple[QuestionSet, QuestionSet]


def contents(bundle: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in bundle.iterdir()}


def logged_steps(out: Path) -> list[int]:
    log = out.with_name(out.name + ".run") / "metrics.jsonl"
    return [json.loads(line)["step"] for line in log.read_text().splitlines()]


def fitted(facts: FactTable, split: Split, out: Path | None, **settings: Any) -> FactoidQA:
    return FactoidQA(facts, **SIZES).fit(*split, out=out, quiet=True, **{**TRAINING, **settings})


@pytest.mark.parametrize("reader", ["kmips", "softmax"])
def test_training_learns_what_held_out_questions_need(
    reader: str, small_facts: FactTable, small_split: Split
) -> None:
    qa = FactoidQA(small_facts, reader=reader, **SIZES)
    qa.fit(
        *small_split,
        quiet=True,
        **{**TRAINING, "epochs": 1, "learning_rate": 1e-8, "table_learning_rate": 1e-8},
    )
    before = qa.evaluate(small_split[1]).pair_accuracy
    qa.fit(*small_split, quiet=True, **TRAINING)
    after = qa.evaluate(small_split[1]).pair_accuracy
    assert before is not None and after is not None
    assert before < 0.6
    assert after > 0.9


def test_the_same_seed_gives_the_same_bundle_and_another_another(
    small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        torch.manual_seed(hash(name) % 1000)  # what is drawn outside must not matter
        fitted(small_facts, small_split, tmp_path / name, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_training_leaves_the_random_numbers_of_others_alone(
    small_facts: FactTable, small_split: Split
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fitted(small_facts, small_split, None, epochs=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("reader", "stop_at", "seconds"),
    [("kmips", 1, 0.0), ("kmips", 26, 45.0), ("kmips", 58, 0.0), ("softmax", 26, 0.0)],
)
def test_an_interrupted_run_ends_with_the_same_bytes(
    reader: str,
    stop_at: int,
    seconds: float,
    small_facts: FactTable,
    small_split: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = {**SIZES, "reader": reader}
    FactoidQA(small_facts, **sizes).fit(*small_split, out=tmp_path / "whole", quiet=True, **TRAINING)
    stepped = Run.stepped

    def interrupted(self: Run, progress: Any, record: Any) -> None:
        stepped(self, progress, record)
        if progress.step == stop_at:
            raise KeyboardInterrupt

    cut = tmp_path / "cut"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Run, "stepped", interrupted)
        FactoidQA(small_facts, **sizes).fit(
            *small_split, out=cut, quiet=True, **{**TRAINING, "checkpoint_seconds": seconds}
        )
    FactoidQA(small_facts, **sizes).fit(
        *small_split, out=cut, quiet=True, resume=True, **{**TRAINING, "checkpoint_seconds": seconds}
    )
    assert contents(cut) == contents(tmp_path / "whole")
    assert logged_steps(cut) == logged_steps(tmp_path / "whole")


def test_a_run_killed_at_any_moment_resumes_to_the_same_bytes(small_files: Path) -> None:
    def command(out: str, *flags: str) -> list[str]:
        given = {"facts": "facts.tsv", "questions": "train.tsv", "valid": "valid.tsv", "out": out}
        given |= {name.replace("_", "-"): str(value) for name, value in {**SIZES, **TRAINING}.items()}
        given |= {"threads": "1", "checkpoint-seconds": "0", "epochs": "4"}
        options = [part for name, value in given.items() for part in (f"--{name}", value)]
        return [sys.executable, "-m", "hmn.cli", "train", *options, *flags]

    subprocess.run(command("whole"), cwd=small_files, check=True, capture_output=True)
    kills = 0
    for delay in (0.3, 0.8, 1.3):
        process = subprocess.Popen(
            command("cut", "--resume"), cwd=small_files, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        while process.poll() is None and not (small_files / "cut.run" / "checkpoint").exists():
            time.sleep(0.01)
        time.sleep(delay)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    subprocess.run(command("cut", "--resume"), cwd=small_files, check=True, capture_output=True)
    assert kills
    assert contents(small_files / "cut") == contents(small_files / "whole")
    assert not (small_files / "cut.run" / "checkpoint").exists()


def test_nothing_is_overwritten_or_resumed_by_accident(
    small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    fitted(small_facts, small_split, out, epochs=1)
    before = contents(out)
    with pytest.raises(ConfigError, match="overwrite"):
        fitted(small_facts, small_split, out, epochs=1, seed=3)
    assert contents(out) == before
    fitted(small_facts, small_split, out, epochs=1, seed=3, resume=True)
    assert contents(out) == before, "a finished run has nothing to resume"
    fitted(small_facts, small_split, out, epochs=1, seed=3, overwrite=True)
    assert contents(out) != before


def test_a_checkpoint_of_another_run_is_refused(
    small_facts: FactTable, small_split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Run, progress: Any, record: Any) -> None:  # noqa: ARG001
        if progress.step == 5:
            raise KeyboardInterrupt

    out = tmp_path / "model"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Run, "stepped", interrupted)
        fitted(small_facts, small_split, out, checkpoint_seconds=0.0)
    with pytest.raises(ConfigError, match="unfinished run"):
        fitted(small_facts, small_split, out)
    with pytest.raises(ConfigError, match="seed was 0 and is 9"):
        fitted(small_facts, small_split, out, checkpoint_seconds=0.0, seed=9, resume=True)
    other = (small_split[1], small_split[0])
    with pytest.raises(ConfigError, match="other facts or questions"):
        fitted(small_facts, other, out, checkpoint_seconds=0.0, resume=True)
    assert (tmp_path / "model.run" / "checkpoint").exists()


def test_it_stops_early_and_keeps_the_best_epoch(
    small_facts: FactTable, small_split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures are made up, so the best epoch does not depend on how training happens to go."""
    for out in (None, tmp_path / "model"):
        seen: list[dict[str, torch.Tensor]] = []

        def validation(qa: FactoidQA, held_out: QuestionSet, seen: list[Any] = seen) -> Any:
            def validate() -> tuple[Evaluation, float]:
                weights = {name: value.clone() for name, value in weights_of(qa.network).items()}
                seen.append({**weights, "snapshot": qa.memory.snapshot().clone()})
                return qa.evaluate(held_out), [0.5, 0.8, 0.7, 0.9][len(seen) - 1]

            return validate

        with monkeypatch.context() as patched:
            patched.setattr("hmn.qa.training.fit._validation", validation)
            qa = fitted(small_facts, small_split, out, epochs=12, patience=1)
        figures = [epoch["valid_pair_accuracy"] for epoch in qa.history]
        assert len(figures) == 3, "it goes on for as many epochs as patience allows, and no further"
        kept = {**weights_of(qa.network), "snapshot": qa.memory.snapshot()}
        assert kept.keys() == seen[1].keys()
        for name, value in seen[1].items():
            halves = name.endswith(TABLES)  # kept in half precision, whose smallest step is 6e-8
            torch.testing.assert_close(
                kept[name], value, rtol=1e-3 if halves else 0.0, atol=6e-8 if halves else 0.0
            )
        assert not torch.equal(kept["snapshot"], seen[2]["snapshot"])
        assert qa.evaluate(small_split[1]).pair_accuracy == pytest.approx(figures[1])


def test_questions_of_which_only_the_answer_is_known_train_as_well(
    small_facts: FactTable, small_rows: list[tuple[str, str, str, str]]
) -> None:
    train = QuestionSet.from_rows(small_facts, [(row[3], row[2]) for row in small_rows[:800]])
    held_out = QuestionSet.from_rows(small_facts, small_rows[800:])
    qa = FactoidQA(small_facts, **SIZES).fit(train, quiet=True, **{**TRAINING, "epochs": 6})
    found = qa.evaluate(held_out)
    # each answer has 90 facts: only the marginal likelihood over them can find the one that is asked for
    assert found.pair_accuracy is not None
    assert found.pair_accuracy > 0.8


def test_every_step_of_every_epoch_trains_with_dropout(small_facts: FactTable, small_split: Split) -> None:
    qa = FactoidQA(small_facts, **SIZES)
    modes: set[tuple[bool, bool]] = set()

    def watch(done: int, total: int) -> None:  # noqa: ARG001
        modes.add((qa.network.training, all(module.training for module in qa.network.modules())))

    qa.fit(*small_split, quiet=True, on_progress=watch, **{**TRAINING, "epochs": 2})
    assert modes == {(True, True)} and len(qa.history) == 2
    assert not qa.network.training


@pytest.mark.parametrize("figures", [[0.5, 0.5], [0.8, 0.6, 0.7]], ids=["equal", "better than the last"])
def test_only_a_better_epoch_than_all_before_is_kept(
    small_facts: FactTable, small_split: Split, monkeypatch: pytest.MonkeyPatch, figures: list[float]
) -> None:
    kept: list[torch.Tensor] = []

    def validation(qa: FactoidQA, held_out: QuestionSet) -> Any:
        def validate() -> tuple[Evaluation, float]:
            snapshot = qa.memory.snapshot()
            with torch.no_grad():
                fresh = qa.memory.keys_of(torch.arange(len(snapshot)))
            assert torch.allclose(snapshot, fresh, atol=1e-5), "held-out questions are asked of old keys"
            kept.append(snapshot.clone())
            return qa.evaluate(held_out), figures[len(kept) - 1]

        return validate

    monkeypatch.setattr("hmn.qa.training.fit._validation", validation)
    qa = fitted(small_facts, small_split, None, epochs=9, patience=len(figures) - 1)
    assert len(qa.history) == len(figures)
    assert torch.equal(qa.memory.snapshot(), kept[0]) and not torch.equal(kept[0], kept[-1])


def test_the_loss_of_an_epoch_is_a_moving_average(
    small_facts: FactTable, small_split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hmn.qa.training.trainer.RECORD_STEPS", 1)
    qa = FactoidQA(small_facts, **SIZES)
    qa.fit(small_split[0], out=tmp_path / "m", quiet=True, **{**TRAINING, "epochs": 1, "batch_size": 300})
    log = (tmp_path / "m.run" / "metrics.jsonl").read_text().splitlines()
    first, second, third = [row["loss"] for row in map(json.loads, log) if "learning_rate" in row]
    average = 0.98 * (0.98 * first + 0.02 * second) + 0.02 * third
    assert qa.history[0]["loss"] == pytest.approx(average) and abs(first - second) > 1e-6
