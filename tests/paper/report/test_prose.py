from __future__ import annotations

import re

import pytest

from hmn.errors import ConfigError
from hmn.paper.report.prose import FOLDER, paragraph, paragraphs
from hmn.paper.verdicts.claims import CLAIMS


def test_a_sections_lines_are_joined_and_its_placeholders_filled() -> None:
    text = paragraph("verdicts", "still rising", settled=77)
    assert "77 epochs" in text
    assert "\n" not in text
    assert len(paragraphs("verdicts", "how claims are decided", margin=2.0)) == 2


def test_a_section_that_is_missing_is_reported_with_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"captions\.md has no section 'nothing', expected one of equal reads,"
    ):
        paragraph("captions", "nothing")


def test_a_placeholder_without_a_value_is_reported_by_name() -> None:
    with pytest.raises(ConfigError, match=r"verdicts\.md, section 'still rising'.* placeholder 'settled'"):
        paragraph("verdicts", "still rising")


def test_every_claim_has_its_words_and_its_rule() -> None:
    shares = {"reached": 95.0, "slower": 10.0, "next_to_nothing": 1.0, "papers_speed_up": 5.4}
    for claim in CLAIMS:
        words, rule = paragraphs("claims", claim.number, **shares)
        assert "olds if" in rule
        assert not words.endswith(".")


def test_every_file_has_sections_and_balanced_code() -> None:
    files = [file for file in FOLDER.iterdir() if file.name.endswith(".md")]
    assert len(files) == 7
    for file in files:
        text = file.read_text(encoding="utf-8")
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings and len(set(headings)) == len(headings), file.name
