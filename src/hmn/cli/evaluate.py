"""``hmn evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hmn.cli.flags import OtherIndex, OtherStrategy
from hmn.cli.output import exit_on_error, log, show_figure
from hmn.errors import ConfigError, MissingPackageError

if TYPE_CHECKING:
    from hmn.facts.questions import QuestionSet
    from hmn.qa.factoid_qa import FactoidQA


def evaluate(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    questions: Annotated[Path, typer.Option(help="Questions with their facts, or with their answers.")],
    k: Annotated[int, typer.Option("-k", min=1, help="k of recall_at_k; a sweep's is the model's K.")] = 10,
    separator: Annotated[str | None, typer.Option(help="Character between columns.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Count bad lines and go on.")] = False,
    index: OtherIndex = None,
    strategy: OtherStrategy = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Accuracy against reads of every search structure, side by side.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for sweep.json, sweep.md and sweep.png.  [default: MODEL.sweep]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Answer questions whose answers are known, and count."""
    with exit_on_error(interrupted="stopped"):
        if sweep and (index or strategy):
            raise ConfigError("--sweep measures every index: leave --index and --strategy out")
        if out is not None and not sweep:
            raise ConfigError("--out is the folder of --sweep: give both, or neither")
        from hmn.facts.questions import QuestionSet
        from hmn.qa.factoid_qa import FactoidQA

        qa = FactoidQA.from_pretrained(model, index=index, strategy=strategy)
        asked = QuestionSet.read(questions, qa.facts, separator=separator, skip_bad=skip_bad)
        if asked.skipped.total:
            log(f"skipped {asked.skipped.total} bad lines, the first: {asked.skipped.messages[0]}")
        if sweep:
            _sweep(qa, asked, model, questions, out, as_json)
            return
        figures = qa.evaluate(asked, k).as_dict()
        if as_json:
            print(json.dumps(figures))
        else:
            for name, value in figures.items():
                print(f"{name:20} {show_figure(value)}")


def _sweep(
    qa: FactoidQA, asked: QuestionSet, model: Path, questions: Path, out: Path | None, as_json: bool
) -> None:
    """Measure the search structures, write and draw what was found, and print it."""
    from hmn.qa.sweep.measure import run_sweep
    from hmn.qa.sweep.plot import draw
    from hmn.qa.training.progress_bar import Display

    folder = model.resolve().with_name(model.resolve().name + ".sweep") if out is None else out
    command = f"hmn evaluate {model} --questions {questions} --sweep"
    with exit_on_error(interrupted=f"stopped: the structures that were done are in {folder}"):
        with Display(quiet=False).sweeping() as told:
            found = run_sweep(qa, asked, folder, command=command, told=told)
        for name, why in found.skipped.items():
            log(f"skipped {name}: {why}")
        print(json.dumps(found.as_dict()) if as_json else found.table())
        try:
            draw(found, folder / "sweep.png")
        except MissingPackageError as error:
            log(f"no figure: {error}")
        log(f"wrote {folder}")
