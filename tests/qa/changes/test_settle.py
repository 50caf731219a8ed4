"""What is saved of a model whose facts have changed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tests.fuzz.bundles import tiny_encoder
from tests.qa.small import SIZES, TRAINING

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.changes import changes
from hmn.qa.changes.settle import settled_model, settled_questions
from hmn.qa.encoders.fact import FactEncoder
from hmn.qa.encoders.pretrained import PretrainedPhrasing
from hmn.qa.factoid_qa import FactoidQA

NEW = [("ada", "person/wrote", "notes"), ("ada", "person/favourite_dish", "soup")]


@pytest.fixture
def pretrained(
    small_facts: FactTable, small_rows: list[tuple[str, str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> FactoidQA:
    """A model with a pretrained encoder, which training has changed."""
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    original = tiny_encoder()
    for module in ("hmn.qa.factoid_qa", "hmn.qa.changes.changes"):
        monkeypatch.setattr(f"{module}.open_encoder", lambda _: copy.deepcopy(original))
    changes._pretrained.cache_clear()
    questions = QuestionSet.from_rows(small_facts, small_rows[:64])
    qa = FactoidQA(small_facts, encoder="minilm", meaning_features=4, **SIZES)
    return qa.fit(questions, quiet=True, **{**TRAINING, "epochs": 1})


def test_texts_of_new_cells_pass_through_the_encoder_of_before_training(
    pretrained: FactoidQA, tmp_path: Path
) -> None:
    qa = pretrained
    qa.add_facts(NEW)
    encoder = qa.memory.encoder
    assert isinstance(encoder, FactEncoder) and encoder.texts is not None and encoder.sentences is not None
    changes._pretrained.cache_clear()
    original = PretrainedPhrasing(changes.open_encoder("minilm"), 0, 0.0).eval()
    texts = original.sentences(["ada person favourite dish", "ada person wrote"])
    torch.testing.assert_close(encoder.texts[-2:].float(), texts.half().float(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(encoder.sentences[-1:], original.sentences(["person favourite dish"]))
    qa.remove_facts([qa.facts.fact(5)[:3]])
    qa.save_pretrained(tmp_path / "model")
    again = FactoidQA.from_pretrained(tmp_path / "model")
    for question in ("which book did ada write", "where was ada born"):
        found, wanted = again.ask(question), qa.ask(question)
        assert [one.facts for one in found] == [one.facts for one in wanted]
    keys = again.memory.snapshot().clone()
    # all that keys are made of was saved, in half precision
    torch.testing.assert_close(again.memory.renew(), keys, atol=1e-3, rtol=1e-3)


def test_a_table_that_never_changed_is_saved_as_it_is(pretrained: FactoidQA, small_facts: FactTable) -> None:
    saved = settled_model(pretrained.facts, pretrained.network)
    assert saved.facts is pretrained.facts and saved.keys is pretrained.memory.snapshot()
    questions = QuestionSet.from_rows(small_facts, [(*small_facts.fact(0)[:3], "q")])
    found = settled_questions(pretrained.facts, pretrained.cells, questions, None)
    assert found == (pretrained.facts, pretrained.cells, questions, None)


def test_saving_leaves_the_model_as_it_is(pretrained: FactoidQA) -> None:
    qa = pretrained
    qa.add_facts(NEW)
    facts, cells, keys = qa.facts, qa.cells, qa.memory.snapshot().clone()
    saved = settled_model(qa.facts, qa.network)
    assert qa.facts is facts and qa.cells is cells and torch.equal(qa.memory.snapshot(), keys)
    assert type(saved.facts) is FactTable and len(saved.facts) == len(facts) == len(saved.keys)
    again = settled_model(qa.facts, qa.network)
    assert torch.equal(saved.keys, again.keys) and saved.facts.relations == sorted(facts.relations)
