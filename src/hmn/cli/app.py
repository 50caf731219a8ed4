"""The command line: ``hmn demo``, ``train``, ``ask``, ``evaluate``, ``paper``."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from hmn.errors import ConfigError, HMNError, MissingPackageError
from hmn.qa.config import DataConfig, ModelConfig, TrainConfig, make_configs, read_config

if TYPE_CHECKING:
    from hmn.facts.questions import QuestionSet
    from hmn.qa.answer import Answer
    from hmn.qa.factoid_qa import FactoidQA


app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Memory networks that answer questions from a table of facts.",
)

MOST_IN_LINE = 5

OtherIndex = Annotated[
    str | None,
    typer.Option(
        "--index", help="Search with this one, built now, in place of the model's own; see hmn train --help."
    ),
]
OtherStrategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="Read the candidates of a strategy, as top-k:4+sample-k:4, drawn for each question alone, in "
        "place of the cells that the index finds best.",
    ),
]


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag for each setting of the configurations; they arrive as ``settings``."""
    own = [one for one in inspect.signature(command).parameters.values() if one.name != "settings"]
    flags = []
    for kind in (DataConfig, ModelConfig, TrainConfig):
        types = get_type_hints(kind)
        for one in fields(kind):
            flag = "--" + one.name.replace("_", "-")
            names = [f"{flag}/--no-{flag[2:]}"] if types[one.name] is bool else [flag]
            default = "" if one.default in {None, ""} else f" [default: {one.default}]"
            option = typer.Option(*names, help=one.metadata["help"] + default, show_default=False)
            wanted = types[one.name] | None
            flags.append(
                inspect.Parameter(
                    one.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=None,
                    annotation=Annotated[wanted, option],
                )
            )

    def given(**values: Any) -> None:
        names = {flag.name for flag in flags}
        settings = {name: value for name, value in values.items() if name in names and value is not None}
        command(**{name: value for name, value in values.items() if name not in names}, settings=settings)

    hints = get_type_hints(command, include_extras=True)
    own = [one.replace(annotation=hints[one.name], kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    given.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    given.__annotations__ = {one.name: one.annotation for one in [*own, *flags]}
    given.__doc__, given.__name__ = command.__doc__, command.__name__
    return given


@app.command()
@_with_settings
def train(
    settings: dict[str, Any],
    config: Annotated[Path | None, typer.Option(help="TOML file of any of these settings.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is at --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train a model on facts and questions, and write it to a folder.

    Needs --facts, --questions and --out, here or in the --config file; a flag wins over the file.
    """
    with _explained(interrupted="training stopped: the same command with --resume goes on where it was"):
        chosen = {**(read_config(config) if config else {}), **settings}
        data, model, training = make_configs(chosen)
        for name in ("facts", "questions", "out"):
            if getattr(data, name) is None:
                raise typer.BadParameter(f"--{name} is missing: give it here or in the --config file")
        from dataclasses import asdict

        from hmn.facts.questions import QuestionSet
        from hmn.facts.table import FactTable
        from hmn.qa.factoid_qa import FactoidQA

        facts = FactTable.read(
            str(data.facts),
            data.names,
            columns=data.columns.split(","),
            separator=data.separator,
            inverse=data.inverse,
            skip_bad=data.skip_bad,
            progress=not quiet,
        )
        asked = {}
        for path in (data.questions, data.valid):
            if path is not None:
                asked[path] = QuestionSet.read(path, facts, separator=data.separator, skip_bad=data.skip_bad)
        for what, skipped in [("facts and names", facts.skipped)] + [
            (p, q.skipped) for p, q in asked.items()
        ]:
            if skipped.total:
                _say(f"{what}: skipped {skipped.total} bad lines, the first: {skipped.messages[0]}")
        _say(f"{len(facts):,} facts, {len(asked[str(data.questions)]):,} questions")
        qa = FactoidQA(facts, **asdict(model))
        valid = None if data.valid is None else asked[data.valid]
        qa.fit(
            asked[str(data.questions)],
            valid,
            out=data.out,
            resume=resume,
            overwrite=overwrite,
            quiet=quiet,
            **asdict(training),
        )
        _say(f'wrote {data.out}; next: hmn ask {data.out} "a question"')


@app.command()
def ask(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    question: Annotated[
        str | None, typer.Argument(help="In words; - reads one a line; without it, a prompt.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Answers to show.")] = 5,
    index: OtherIndex = None,
    strategy: OtherStrategy = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a question.")] = False,
) -> None:
    """Answer questions, with the facts that support the answers."""
    with _explained(interrupted=""):
        from hmn.qa.factoid_qa import FactoidQA

        qa = FactoidQA.from_pretrained(model, index=index, strategy=strategy)
        asked: Iterable[str] = [question] if question is not None else _prompt()
        if question == "-":
            asked = (line.strip() for line in sys.stdin if line.strip())
        for one in asked:
            try:
                answers = qa.ask(one, k)
            except HMNError as error:
                if question not in {None, "-"}:
                    raise
                _say(f"error: {error}")
                continue
            if as_json:
                print(
                    json.dumps(
                        {"question": one, "answers": [a.as_dict() for a in answers]}, ensure_ascii=False
                    )
                )
            else:
                _show(answers, one if question == "-" else None)
            sys.stdout.flush()


@app.command()
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
    with _explained(interrupted="stopped"):
        if sweep and (index or strategy):
            raise ConfigError("--sweep measures every index: leave --index and --strategy out")
        if out is not None and not sweep:
            raise ConfigError("--out is the folder of --sweep: give both, or neither")
        from hmn.facts.questions import QuestionSet
        from hmn.qa.factoid_qa import FactoidQA

        qa = FactoidQA.from_pretrained(model, index=index, strategy=strategy)
        asked = QuestionSet.read(questions, qa.facts, separator=separator, skip_bad=skip_bad)
        if asked.skipped.total:
            _say(f"skipped {asked.skipped.total} bad lines, the first: {asked.skipped.messages[0]}")
        if sweep:
            _sweep(qa, asked, model, questions, out, as_json)
            return
        figures = qa.evaluate(asked, k).as_dict()
        if as_json:
            print(json.dumps(figures))
        else:
            for name, value in figures.items():
                print(f"{name:20} {_figure(value)}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the facts, the questions and the model.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of questions and training.")] = 0,
) -> None:
    """Train on built-in facts about the world, measure, and answer six questions."""
    with _explained(interrupted="stopped: run the same command again to start over"):
        from hmn.qa.demo.run import run_demo

        run_demo(out, seed, lambda answers, question: _show(answers, question))


@app.command()
def paper(
    facts: Annotated[Path, typer.Option(help="Table of facts: the memory.")],
    train: Annotated[Path, typer.Option(help="Training questions with their facts.")],
    valid: Annotated[Path, typer.Option(help="Held-out questions that decide when to stop.")],
    out: Annotated[Path, typer.Option(help="Folder for results.jsonl, report.md and report.html.")],
    names: Annotated[
        Path | None, typer.Option(help="Names of the entities, where the table of facts does not have them.")
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(help="Test questions, which are reported if given; finished runs are tested on them."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A trained model, for the rows with its text cells.")
    ] = None,
    transe_facts: Annotated[
        Path | None, typer.Option(help="A larger table, with which TransE is trained as well.")
    ] = None,
    only: Annotated[
        str, typer.Option(help="Tables or rows, with commas between: table1,table2,baselines,…")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Run every row with so many seeds.")] = 1,
    preset: Annotated[
        str, typer.Option(help="full, as the paper has it (hours), or quick, a miniature.")
    ] = "full",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Run the paper's experiments and write a report that judges its claims; needs hmn[paper].

    Stopped at any moment, the same command goes on; finished runs are not repeated. Ends with status 1 if a
    row has failed; the others are run all the same.
    """
    with _explained(interrupted="stopped: the same command goes on where it was"):
        from hmn.paper.data import Files
        from hmn.paper.grid import chosen, named
        from hmn.paper.preset import preset_of
        from hmn.paper.report.plots import figures_module
        from hmn.paper.report.report import write_report
        from hmn.paper.runs.results import Results
        from hmn.paper.runs.runner import Plan, reported, run_all, without_other_tables

        figures_module()
        files = Files(
            facts=str(facts),
            names=None if names is None else str(names),
            train=str(train),
            valid=str(valid),
            test=None if test is None else str(test),
            model=None if model is None else str(model),
            transe_facts=None if transe_facts is None else str(transe_facts),
        )
        sizes = preset_of(preset)
        rows = chosen(named(only, sizes), text=model is not None, pretrained=sizes.sentences_asked is None)
        plan = without_other_tables(Plan(files, out, rows, sizes, seeds, device), _say)
        command = "hmn paper " + " ".join(
            f"--{name} {value}"
            for name, value in [
                ("facts", facts),
                ("names", names),
                ("train", train),
                ("valid", valid),
                ("test", test),
                ("model", model),
                ("transe-facts", transe_facts),
                ("out", out),
            ]
            if value
        )
        command += f" --seeds {seeds} --preset {preset} --device {device}"

        def after(results: Results, failed: dict[str, str]) -> None:
            found = reported(plan, results)
            earlier = {run["name"] for run in found} - {row.name for row in plan.rows}
            chosen_by = f' --only "{only}"' if only else ""
            write_report(out, found, plan.preset, command + chosen_by, failed=failed, earlier=bool(earlier))

        failed = run_all(plan, _say, after).failed
        _say(f"wrote {out / 'report.html'} and {out / 'report.md'}")
        for name, reason in failed.items():
            _say(f"failed: {name}: {reason}")
        if failed:
            raise typer.Exit(1)


def _sweep(
    qa: FactoidQA, asked: QuestionSet, model: Path, questions: Path, out: Path | None, as_json: bool
) -> None:
    """Measure the search structures, write and draw what was found, and print it."""
    from hmn.qa.sweep.measure import run_sweep
    from hmn.qa.sweep.plot import draw
    from hmn.qa.training.progress_bar import Display

    folder = model.resolve().with_name(model.resolve().name + ".sweep") if out is None else out
    command = f"hmn evaluate {model} --questions {questions} --sweep"
    with _explained(interrupted=f"stopped: the structures that were done are in {folder}"):
        with Display(quiet=False).sweeping() as told:
            found = run_sweep(qa, asked, folder, command=command, told=told)
        for name, why in found.skipped.items():
            _say(f"skipped {name}: {why}")
        print(json.dumps(found.as_dict()) if as_json else found.table())
        try:
            draw(found, folder / "sweep.png")
        except MissingPackageError as error:
            _say(f"no figure: {error}")
        _say(f"wrote {folder}")


def _prompt() -> Iterable[str]:
    """Ask for questions until the end of input."""
    while True:
        try:
            line = input("question> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if line:
            yield line


def _show(answers: list[Answer], question: str | None) -> None:
    """Show answers: the best in full, the runners-up a line each."""
    if question is not None:
        print(question)
    if not answers:
        print("  the index found no cell for it: let it look further (num_probes, num_leaves, …)")
    for rank, answer in enumerate(answers):
        shown = ", ".join(answer.answers[:MOST_IN_LINE])
        more = answer.count - min(len(answer.answers), MOST_IN_LINE)
        fact = answer.facts[0]
        told = f"{shown}{f' and {more} more' if more else ''}"
        source = f"{fact.subject_name} ({fact.subject}) · {fact.relation_name}"
        print(f"{'  ' if rank else '> '}{told}  {answer.probability:.1%}   {source}")
    print()


def _figure(value: float | int | None) -> str:
    if value is None:
        return "unknown: the questions give answers alone"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}" if value < 10 else f"{value:,.1f}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _explained(interrupted: str) -> Any:
    """Turn users' mistakes into one line and status 2, Ctrl-C into status 130."""
    try:
        yield
    except HMNError as error:
        _say(f"error: {error}")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        if interrupted:
            _say(interrupted)
        raise typer.Exit(130) from None


def main() -> None:
    """Run the command line."""
    app()
