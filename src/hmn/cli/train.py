"""``hmn train``: from files of facts and questions to a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmn.cli.flags import read_questions, read_table, with_settings
from hmn.cli.output import exit_on_error, log, log_names
from hmn.cli.serving.table import model_folder
from hmn.qa.config import DataConfig, make_configs, read_config
from hmn.qa.over_ranks.launch import check_files, joined

if TYPE_CHECKING:
    from hmn.facts.questions import QuestionSet
    from hmn.facts.table import FactTable


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
    """Train a model on facts and questions, or on facts alone.

    Only --facts is required, as a flag or in the --config file. Without --questions,
    questions are made from the relations and names of the table.
    The defaults of all other settings are a good start.
    """
    stopped = "training stopped: run the same command with --resume to continue"
    with exit_on_error(interrupted=stopped), joined() as ranks:
        data, model, training = make_configs({**(read_config(config) if config else {}), **settings})
        if data.facts is None:
            raise typer.BadParameter("--facts is missing: give it as a flag or in the --config file")
        check_files(ranks, {name: getattr(data, name) for name in ("facts", "names", "questions", "valid")})
        from dataclasses import asdict

        from hmn.qa.factoid_qa import FactoidQA

        out = data.out or model_folder(data.facts)
        facts, questions, valid = _read(data, quiet, several_hops=model.hops > 1)
        count = "no questions" if questions is None else f"{len(questions):,} questions"
        log(f"{len(facts):,} facts, {count}" + ("" if data.out else f"; the model goes to {out}"))
        qa = FactoidQA(facts, ranks=ranks, **asdict(model))
        log_names(qa)
        qa.fit(
            questions,
            valid,
            out=out,
            resume=resume,
            overwrite=overwrite,
            quiet=quiet,
            **asdict(training),
        )
        log(f'wrote {out}; next: hmn ask {out} "a question"')


def _read(
    data: DataConfig, quiet: bool, *, several_hops: bool
) -> tuple[FactTable, QuestionSet | None, QuestionSet | None]:
    """Read the facts and, if there are any, the training questions and the held-out ones."""
    inverse = several_hops if data.inverse is None else data.inverse
    facts = read_table(data, quiet=quiet, inverse=inverse)
    questions, valid = (
        None if path is None else read_questions(data, path, facts) for path in (data.questions, data.valid)
    )
    return facts, questions, valid
