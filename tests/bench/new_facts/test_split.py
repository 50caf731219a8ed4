"""Which facts come later, counted by hand on files of a few lines."""

from __future__ import annotations

from pathlib import Path

from bench.new_facts.split import divide, write

FACTS = [(f"s{number // 2}", f"r{number % 5}", f"o{number}") for number in range(60)]


def test_subjects_and_relations_of_later_facts_are_unseen() -> None:
    split = divide(FACTS, 10, 0.2)
    assert sorted(split.old + split.new + split.relations) == sorted(FACTS)
    assert len({relation for _, relation, _ in split.relations}) == 1
    assert 10 <= len(split.new) <= 12
    subjects = {subject for subject, _, _ in split.new}
    assert not subjects & {subject for subject, _, _ in split.old}
    assert not {fact[1] for fact in split.relations} & {fact[1] for fact in split.old + split.new}
    fewer = divide(FACTS, 4, 0.2)
    assert split.new[: len(fewer.new)] == fewer.new and fewer.relations == split.relations


def test_questions_go_with_their_facts(tmp_path: Path) -> None:
    rows = {"facts": FACTS, "train": [(*fact, "q") for fact in FACTS], "valid": [(*FACTS[0], "v")]}
    for name, lines in rows.items():
        (tmp_path / f"{name}.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    split = write(tmp_path, tmp_path / "work", 10, 0.2)
    for name, facts in vars(split).items():
        lines = (tmp_path / "work" / f"train-{name}.tsv").read_text().splitlines()
        assert {tuple(line.split("\t")[:3]) for line in lines} == set(facts)
    asked = [name for name in vars(split) if (tmp_path / "work" / f"valid-{name}.tsv").read_text()]
    assert [name for name, facts in vars(split).items() if FACTS[0] in facts] == asked
    half = write(tmp_path, tmp_path / "work", 10, 0.2, share=0.5)
    assert {*half.old, *half.new, *half.relations} == set(FACTS[:30])
