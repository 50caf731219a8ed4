"""``hmn paper``: the paper's experiments and a report on them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hmn.cli.output import exit_on_error, log

if TYPE_CHECKING:
    from hmn.paper.runs.results import Results


def paper(
    facts: Annotated[Path, typer.Option(help="Table of facts: the memory.")],
    train: Annotated[Path, typer.Option(help="Training questions with their facts.")],
    valid: Annotated[Path, typer.Option(help="Held-out questions that decide when to stop.")],
    out: Annotated[Path, typer.Option(help="Folder for results.jsonl, report.md and report.html.")],
    names: Annotated[
        Path | None, typer.Option(help="Names of the entities, if the table of facts has none.")
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(help="Test questions to report. Finished runs are tested on them as well."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Trained model, for the rows that use its text cells.")
    ] = None,
    transe_facts: Annotated[
        Path | None, typer.Option(help="Larger table of facts that TransE is trained with as well.")
    ] = None,
    only: Annotated[
        str, typer.Option(help="Tables or rows to run, separated by commas: table1,table2,baselines,…")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds to run each row with.")] = 1,
    preset: Annotated[
        str, typer.Option(help="full: the paper's own sizes (hours); quick: a miniature.")
    ] = "full",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Run the paper's experiments and write a report.

    The report judges the paper's claims. Needs the extra hmn[paper]. After an
    interruption, run the same command again: finished runs are not repeated.
    If a row fails, the others still run and the exit status is 1.
    """
    with exit_on_error(interrupted="stopped: run the same command again to continue"):
        from hmn.paper.data import Files
        from hmn.paper.grid import chosen, named
        from hmn.paper.preset import preset_of
        from hmn.paper.report.plots import figures_module
        from hmn.paper.report.report import write_report
        from hmn.paper.runs.plan import Plan, reported, without_other_tables
        from hmn.paper.runs.runner import run_all
        from hmn.store.atomic import check_folder

        figures_module()
        check_folder(out)
        files = Files(
            facts=str(facts),
            names=_text(names),
            train=str(train),
            valid=str(valid),
            test=_text(test),
            model=_text(model),
            transe_facts=_text(transe_facts),
        )
        sizes = preset_of(preset)
        files.check()
        rows = chosen(named(only, sizes), text=model is not None, pretrained=sizes.sentences_asked is None)
        plan = without_other_tables(Plan(files, out, rows, sizes, seeds, device), log)
        command = _command({**asdict(files), "out": out, "seeds": seeds, "preset": preset, "device": device})

        def after(results: Results, failed: dict[str, str]) -> None:
            runs = reported(plan, results)
            earlier = {run["name"] for run in runs} - {row.name for row in plan.rows}
            chosen_by = f' --only "{only}"' if only else ""
            write_report(out, runs, plan.preset, command + chosen_by, failed=failed, earlier=bool(earlier))

        failed = run_all(plan, log, after).failed
        log(f"wrote {out / 'report.html'} and {out / 'report.md'}")
        for name, reason in failed.items():
            log(f"failed: {name}: {reason}")
        if failed:
            raise typer.Exit(1)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _command(flags: dict[str, object]) -> str:
    """The command line that repeats these runs, for the report."""
    given = {name.replace("_", "-"): value for name, value in flags.items() if value is not None}
    return "hmn paper " + " ".join(f"--{name} {value}" for name, value in given.items())
