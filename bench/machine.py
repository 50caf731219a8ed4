"""What a figure was measured on, and how results are written."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from hmn.store.bundle import write_atomically

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("hmn", "torch", "numpy", "pyarrow", "safetensors")


def machine() -> dict[str, Any]:
    """Processor, memory, versions and date."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "load_average_at_start": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "date": datetime.now(UTC).date().isoformat(),
    }


def write_results(name: str, results: dict[str, Any], markdown: str, folder: Path = RESULTS) -> None:
    """Write ``NAME.json`` and ``NAME.md`` to a folder."""
    folder.mkdir(exist_ok=True)
    write_atomically(folder / f"{name}.json", (json.dumps(results, indent=2) + "\n").encode())
    write_atomically(folder / f"{name}.md", markdown.encode())


def described(found: dict[str, Any]) -> str:
    """The machine in one line of Markdown."""
    memory = f"{found['cores']} cores, {found['memory_gib']} GiB"
    versions = ", ".join(f"{name} {found[name]}" for name in ("hmn", "torch", "python"))
    accelerator = found["accelerator"] or "no accelerator"
    return f"{found['cpu']}, {memory}, {accelerator}; {versions}; {found['date']}"
