"""``hmn compact``: fold the journal of a served model into its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hmn.cli.output import exit_on_error, log


def compact(model: Annotated[Path, typer.Argument(help="Folder of a model that was served.")]) -> None:
    """Fold the journal of a served model into its folder. The server must be stopped.

    Facts that were written while the model was served lie in MODEL.journal, beside the folder. Afterwards the
    folder holds them, and the journal is empty. A crash at any point loses nothing: run it again.
    """
    with exit_on_error(interrupted="stopped: folder and journal hold what they held"):
        from hmn.serve import compact as compacting

        done = compacting.compact(model)
        if done.facts is None:
            log(f"nothing to fold in: no write to {model} is outside its folder")
        else:
            log(f"{done.writes:,} writes folded into {model}, which has {done.facts:,} facts now")
