"""What a benchmark was run on, and how its results are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import hmn.machine
from hmn.store.atomic import write_atomically

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """``hmn.machine.machine`` under the names that the results files have had from the start."""
    about = hmn.machine.machine("cuda" if torch.cuda.is_available() else "cpu")
    load = about.pop("load_average")
    return {
        "cpu": about.pop("processor"),
        "load_average_at_start": None if load is None else round(load[0], 1),
        **about,
    }


def write_results(name: str, results: dict[str, Any], markdown: str, folder: Path = RESULTS) -> None:
    """Write ``NAME.json`` and ``NAME.md`` to a folder."""
    folder.mkdir(exist_ok=True)
    write_atomically(folder / f"{name}.json", (json.dumps(results, indent=2) + "\n").encode())
    write_atomically(folder / f"{name}.md", markdown.encode())


def described(about: dict[str, Any]) -> str:
    """The machine in one line of Markdown."""
    memory = f"{about['cores']} cores, {about['memory_gib']} GiB"
    versions = ", ".join(f"{name} {about[name]}" for name in ("hmn", "torch", "python"))
    accelerator = about["accelerator"] or "no accelerator"
    return f"{about['cpu']}, {memory}, {accelerator}; {versions}; {about['date']}"
