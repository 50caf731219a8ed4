"""The report's prose: Markdown files in ``text``, whose ``{placeholders}`` are filled in here.

A file has sections, each below a heading ``## name``; a section has paragraphs, between blank lines. What
stands above the first heading explains the file and is no part of the report.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from hmn.errors import ConfigError

FOLDER = files("hmn.paper.report") / "text"
"""Folder of the Markdown files, which are installed with the package."""


def paragraphs(file: str, section: str, **values: object) -> list[str]:
    """The paragraphs of a section, each in one line.

    Args:
        file: name of the file without ``.md``.
        section: heading of the section.
        values: values of its placeholders; ``{cells:,}`` is filled in as Python's ``str.format`` does.

    Raises:
        ConfigError: there is no such section, or a placeholder has no value.
    """
    texts = _sections(file).get(section)
    if texts is None:
        raise ConfigError(
            f"{file}.md has no section {section!r}, expected one of {', '.join(_sections(file))}"
        )
    try:
        return [text.format(**values) for text in texts]
    except KeyError as error:
        raise ConfigError(f"{file}.md, section {section!r}: no value for the placeholder {error}") from None


def paragraph(file: str, section: str, **values: object) -> str:
    """The only paragraph of a section; see ``paragraphs``."""
    (text,) = paragraphs(file, section, **values)
    return text


def entries(file: str) -> list[tuple[str, str]]:
    """The headings and only paragraphs of a file without placeholders, in order."""
    return [(heading, paragraph(file, heading)) for heading in _sections(file)]


@cache
def _sections(file: str) -> dict[str, list[str]]:
    _, *parts = (FOLDER / f"{file}.md").read_text(encoding="utf-8").split("\n## ")
    sections = {}
    for part in parts:
        heading, _, body = part.partition("\n")
        texts = [" ".join(text.split()) for text in body.split("\n\n")]
        sections[heading.strip()] = [text for text in texts if text]
    return sections
