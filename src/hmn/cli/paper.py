"""``hmn paper``."""

from __future__ import annotations

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
    with exit_on_error(interrupted="stopped: the same command goes on where it was"):
        from hmn.paper.data import Files
        from hmn.paper.grid import chosen, named
        from hmn.paper.preset import preset_of
        from hmn.paper.report.plots import figures_module
        from hmn.paper.report.report import write_report
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
        plan = without_other_tables(Plan(files, out, rows, sizes, seeds, device), log)
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

        failed = run_all(plan, log, after).failed
        log(f"wrote {out / 'report.html'} and {out / 'report.md'}")
        for name, reason in failed.items():
            log(f"failed: {name}: {reason}")
        if failed:
            raise typer.Exit(1)
