"""``hmn evaluate``: accuracy and reads over questions whose answers are known."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hmn.cli.flags import OtherHops, OtherIndex, OtherStrategy
from hmn.cli.output import exit_on_error, format_figure, log, log_left_out
from hmn.errors import ConfigError, MissingPackageError
from hmn.qa.over_ranks.launch import check_files, joined
from hmn.starting import starting

if TYPE_CHECKING:
    from hmn.facts.questions import QuestionSet
    from hmn.qa.factoid_qa import FactoidQA


def evaluate(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    questions: Annotated[
        str,
        typer.Option(
            help="File of questions with their facts, or with their answers; or several, with commas between."
        ),
    ],
    k: Annotated[
        int, typer.Option("-k", min=1, help="The k of recall_at_k. With --sweep it is the model's own k.")
    ] = 10,
    separator: Annotated[str | None, typer.Option(help="Text between the file's columns.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Encoding, if it is not UTF-8.")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Skip bad lines and count them, instead of stopping.")
    ] = False,
    index: OtherIndex = None,
    strategy: OtherStrategy = None,
    hops: OtherHops = None,
    find_topics: Annotated[
        bool, typer.Option("--find-topics", help="Find the topics that questions name in brackets.")
    ] = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Compare all search structures: accuracy against reads.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for sweep.json, sweep.md and sweep.png.  [default: MODEL.sweep]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure accuracy on questions whose answers are known."""
    with exit_on_error(interrupted="stopped"), ExitStack() as stack:
        if sweep and (index or strategy):
            raise ConfigError("--sweep measures every index: leave --index and --strategy out")
        if out is not None and not sweep:
            raise ConfigError("--out is the folder of --sweep: give both, or neither")
        with starting(model):
            from hmn.facts.questions import QuestionSet
            from hmn.qa.factoid_qa import FactoidQA

            ranks = stack.enter_context(joined())
            if sweep and ranks is not None:
                raise ConfigError("--sweep is for one process: run it without torchrun")
            check_files(ranks, {"questions": questions})
            qa = FactoidQA.from_pretrained(model, index=index, strategy=strategy, ranks=ranks)
        if hops is not None:
            qa.use_hops(hops)
        question_set = QuestionSet.read(
            questions, qa.facts, separator=separator, encoding=encoding, skip_bad=skip_bad
        )
        log_left_out(questions, question_set)
        if sweep:
            folder = model.resolve().with_name(model.resolve().name + ".sweep") if out is None else out
            command = f"hmn evaluate {model} --questions {questions} --sweep"
            _sweep(qa, question_set, folder, command, as_json)
            return
        figures = qa.evaluate(question_set, k, topics=not find_topics).as_dict()
        if as_json:
            print(json.dumps(figures))
        else:
            for name, value in figures.items():
                if value is None and name in {"cells_scored", "hop_reads", "known_share"}:
                    continue
                print(f"{name:20} {format_figure(value)}")


def _sweep(qa: FactoidQA, questions: QuestionSet, folder: Path, command: str, as_json: bool) -> None:
    """Measure the search structures, write and draw the figures, and print them."""
    from hmn.qa.sweep.measure import run_sweep
    from hmn.qa.sweep.plot import draw
    from hmn.qa.training.progress_bar import Display

    with exit_on_error(interrupted=f"stopped: finished structures are in {folder}"):
        with Display(quiet=False).sweeping() as on_progress:
            result = run_sweep(qa, questions, folder, command=command, on_progress=on_progress)
        for name, reason in result.skipped.items():
            log(f"skipped {name}: {reason}")
        print(json.dumps(result.as_dict()) if as_json else result.table())
        try:
            draw(result, folder / "sweep.png")
        except MissingPackageError as error:
            log(f"no figure: {error}")
        log(f"wrote {folder}")
