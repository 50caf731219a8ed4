"""``hmn train``: from files of facts and questions to a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmn.cli.flags import read_questions, read_table, with_settings
from hmn.cli.output import exit_on_error, log, log_names
from hmn.qa.config import DataConfig, make_configs, read_config

if TYPE_CHECKING:
    from hmn.facts.questions import QuestionSet
    from hmn.facts.table import FactTable

REQUIRED = ("facts", "questions", "out")
"""Settings that training cannot do without."""


@with_settings
def train(
    settings: dict[str, Any],
    config: Annotated[
        Path | None, typer.Option(help="TOML file with any of the settings below; flags override it.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the model or unfinished run at --out.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train a model on facts and questions.

    --facts, --questions and --out are required, as flags or in the --config file.
    The defaults of all other settings are a good start.
    """
    with exit_on_error(interrupted="training stopped: run the same command with --resume to continue"):
        data, model, training = make_configs({**(read_config(config) if config else {}), **settings})
        for name in REQUIRED:
            if getattr(data, name) is None:
                raise typer.BadParameter(f"--{name} is missing: give it as a flag or in the --config file")
        from dataclasses import asdict

        from hmn.qa.factoid_qa import FactoidQA

        facts, questions, valid = _read(data, quiet, several_hops=model.hops > 1)
        log(f"{len(facts):,} facts, {len(questions):,} questions")
        qa = FactoidQA(facts, **asdict(model))
        log_names(qa)
        qa.fit(
            questions,
            valid,
            out=data.out,
            resume=resume,
            overwrite=overwrite,
            quiet=quiet,
            **asdict(training),
        )
        log(f'wrote {data.out}; next: hmn ask {data.out} "a question"')


def _read(
    data: DataConfig, quiet: bool, *, several_hops: bool
) -> tuple[FactTable, QuestionSet, QuestionSet | None]:
    """Read the facts, the training questions and, if there are any, the held-out questions."""
    inverse = several_hops if data.inverse is None else data.inverse
    facts = read_table(data, quiet=quiet, inverse=inverse)
    questions = read_questions(data, str(data.questions), facts)
    return facts, questions, None if data.valid is None else read_questions(data, data.valid, facts)
