"""``hmn train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hmn.cli.flags import with_settings
from hmn.cli.output import exit_on_error, log
from hmn.qa.config import make_configs, read_config


@with_settings
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
    with exit_on_error(interrupted="training stopped: the same command with --resume goes on where it was"):
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
                log(f"{what}: skipped {skipped.total} bad lines, the first: {skipped.messages[0]}")
        log(f"{len(facts):,} facts, {len(asked[str(data.questions)]):,} questions")
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
        log(f'wrote {data.out}; next: hmn ask {data.out} "a question"')
