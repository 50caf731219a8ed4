"""What a figure was measured on: hardware, load, versions, commit and date."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from hmn._native import kernels

PACKAGES = (
    "hmn",
    "torch",
    "numpy",
    "pyarrow",
    "safetensors",
    "torch_geometric",
    "faiss-cpu",
    "transformers",
    "tokenizers",
)
"""Packages whose versions are recorded, where they are installed."""


def machine(device: str = "cpu") -> dict[str, Any]:
    """Describe this machine and what runs on it, ready for JSON.

    Args:
        device: device that the figures are computed on; another than ``cpu`` is named as the accelerator.

    Returns:
        ``processor``, ``platform``, ``cores``, ``memory_gib``, ``threads`` (PyTorch's), ``accelerator``,
        ``python``, ``kernels`` (which of hmn's run here), ``load_average`` (over 1, 5 and 15 minutes),
        ``commit``, ``date`` (UTC), and the version of each of ``PACKAGES``. None where it is not known.
    """
    return {
        "processor": _processor(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "threads": torch.get_num_threads(),
        "accelerator": None if device == "cpu" else torch.cuda.get_device_name(device),
        "python": platform.python_version(),
        "kernels": kernels(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        **_versions(),
    }


def _processor() -> str:
    """The processor's name as Linux has it; elsewhere only its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _commit() -> str | None:
    """The commit of the repository that tracks this file; None outside a repository or without Git."""
    here = Path(__file__)
    commands = [["git", "ls-files", "--error-unmatch", here.name], ["git", "rev-parse", "HEAD"]]
    output = ""
    with suppress(OSError, subprocess.CalledProcessError):
        for command in commands:
            output = subprocess.run(
                command, cwd=here.parent, capture_output=True, text=True, check=True
            ).stdout.strip()
        return output
    return None
