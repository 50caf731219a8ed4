"""Adds to the site what lies outside ``docs/``: benchmark results, the changelog, the settings."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
SETTINGS_HERE = "<!-- settings -->"


def on_files(files: Any, *, config: Any) -> Any:
    """Add ``bench/results/*`` as ``results/*``, and the changelog."""
    for path in sorted(RESULTS.iterdir()):
        if path.suffix in {".md", ".png"}:
            files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    files.append(File.generated(config, "changelog.md", abs_src_path=str(ROOT / "CHANGELOG.md")))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001
    """Turn links that work in the repository into links that work in the site."""
    if page.file.src_uri == "api/settings.md":
        markdown = markdown.replace(SETTINGS_HERE, settings())
    markdown = re.sub(r"\]\(docs/", "](", markdown)
    return re.sub(r"\]\((?:\.\./)+bench/results/", f"]({_up(page)}results/", markdown)


def _up(page: Any) -> str:
    return "../" * page.file.src_uri.count("/")


def settings() -> str:
    """Every setting of ``hmn train``: one table for each configuration, with defaults and explanations."""
    sys.path.insert(0, str(ROOT / "src"))
    from hmn.qa.config import DataConfig, ModelConfig, TrainConfig

    parts = []
    for heading, kind in [("Data", DataConfig), ("Model", ModelConfig), ("Training", TrainConfig)]:
        parts += [f"## {heading}", "", "| flag | default | meaning |", "|---|---|---|"]
        for field in fields(kind):
            flag = "--" + field.name.replace("_", "-")
            default = "" if field.default is None else f"`{field.default}`"
            meaning = field.metadata["help"].replace("|", "\\|")
            parts.append(f"| `{flag}` | {default} | {meaning} |")
        parts.append("")
    return "\n".join(parts)
